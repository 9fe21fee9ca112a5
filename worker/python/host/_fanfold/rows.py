"""Judges what ``run()`` returned and makes rows of it.

Two steps, because the first belongs to ``run()`` and the second does not: ``settle`` checks the type and runs iterators to
their end; ``rows`` turns the rest into text. Small results stay a str, which the loop encodes for many mini-batches at
once; larger ones become bytes piece by piece, and beyond ``spool_bytes`` the pieces go to a file.
"""

import codecs
import collections.abc
import io
import itertools
import types

from .failure import one_line, type_name
from .spool import Spool

# A result up to this many characters is handed on as a str.
SMALL_CHARS = 1 << 18
_PIECE_CHARS = 1 << 20
_CHUNK_ITEMS = 256

_EXPECTED = (
    "expected a list, tuple, pandas DataFrame or Series, numpy array or an iterator, with one element per succeeded item"
)


def _escape_surrogates(error):
    """Encodes what ``surrogateescape`` can't: bytes of file names as they were, other surrogates as ``\\udXXX``."""
    out = b""
    for char in error.object[error.start : error.end]:
        code = ord(char)
        out += bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else b"\\u%04x" % code
    return out, error.end


codecs.register_error("fanfold-surrogates", _escape_surrogates)


def encode(text):
    """``text`` in UTF-8. Never fails: an attempt must not be lost to a character."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "fanfold-surrogates")


class BadReturn(Exception):
    """``run()`` returned something that is not a list of results."""

    def __init__(self, value):
        cls = type(value)
        self.type_name = "None" if value is None else type_name(cls)
        super().__init__(one_line("run() returned {}; {}{}".format(self.type_name, _EXPECTED, _hint(value))))


class BadColumns(BadReturn):
    """``run()`` returned a DataFrame with other columns than the output has."""

    def __init__(self, value, text):
        self.type_name = type_name(type(value))
        Exception.__init__(self, one_line(text))


def _listed(names):
    text = ", ".join("`{}`".format(name) for name in names)
    return text if len(text) <= 300 else text[:300] + "…"


def _hint(value):
    if value is None:
        return "; is a `return` missing at its end?"
    if isinstance(value, (types.CoroutineType, types.AsyncGeneratorType)):
        return "; `async def run` is not supported: make it `def run`"
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return "; if that is the result of one item, return it in a list: [result]"
    if isinstance(value, collections.abc.Mapping):
        return "; return a list with one element per item, such as list(results.values())"
    if "DataFrame" in type(value).__name__ or hasattr(type(value), "to_pandas"):
        return "; convert it: .to_pandas()"
    if isinstance(value, (bool, int, float, complex)):
        return "; return the results themselves, not their number or a flag"
    return ""


class Rows:
    """A result that is rows already: ``count`` elements, and a str, ``Blocks`` or ``Spooled`` (``spool.py``)."""

    def __init__(self, count, body):
        self.count = count
        self.body = body


class Serializer:
    """Makes rows as the job wants them. ``csv_options`` are the script's own for ``DataFrame.to_csv``."""

    def __init__(self, config, csv_options, waiting, key_names=()):
        self.append = config["output_action"] != "summary_only"
        # Of the mini-batch that runs, where rows begin with them (``keys.py``).
        self.keys = None
        # Whether a single element may become a row without ``rows`` being asked.
        self.text = self.append and not config["row_key"]
        # Whether memory that large results take is kept for the next one: not before there is one, as that takes a moment. With tables it is anyway.
        self._keeps_freed = bool(config["table"])
        self._want_header = self.append and bool(config["dataframe_header"])
        self._spool = Spool(config, waiting)
        self._kinds = {}
        # Of the first DataFrame, which the header is of.
        self._columns = None
        # Set by the first DataFrame, taken by whoever sends that answer.
        self.header = None
        self._csv = dict(csv_options)
        self._csv.pop("path_or_buf", None)
        for option in ("columns", "header"):
            if key_names and isinstance(self._csv.get(option), list):
                self._csv[option] = list(key_names) + self._csv[option]
        own_header = self._csv.pop("header", False)
        self._header_option = own_header if own_header is not False else True
        options = {"sep": " ", "index": False, "header": False if self._want_header else own_header}
        options.update(self._csv)
        self._csv = options

    def settle(self, result):
        """What belongs to ``run()``: refuses what is no list of results, and runs iterators to their end."""
        kind = self._kind(result)
        if kind != "iterable":
            if kind == "refused" or (kind == "array" and not result.shape):
                raise BadReturn(result)
            return result
        try:
            iterator = iter(result)
        except TypeError:
            raise BadReturn(result) from None
        return self._from_iterator(iterator)

    def rows(self, result):
        """The number of elements and their rows: a str (empty if rows are not wanted), ``Blocks`` or ``Spooled``."""
        cls = type(result)
        if cls is Rows:
            return result.count, result.body
        kind = "list" if cls is list or cls is tuple else self._kind(result)
        if not self.append:
            return len(result), ""
        if kind == "frame":
            return len(result), self._from_frame(result)
        if self.keys is not None:
            return self._with_keys(kind, result)
        if kind == "array" and result.ndim > 1:
            # str() of a row would wrap long lines.
            result = _plain(result)
        elif kind == "list" and len(result) <= _CHUNK_ITEMS:
            texts = list(map(str, result))
            if sum(map(len, texts)) + len(texts) <= SMALL_CHARS:
                return len(texts), "\n".join(texts) + "\n" if texts else ""
        rows = self._from_iterator(iter(result))
        return rows.count, rows.body

    def _with_keys(self, kind, result):
        keys = self.keys.texts(result)
        if kind == "array" and result.ndim > 1:
            result = _plain(result)
        rows = self._from_iterator(map(_joined, keys, result), keyed=True)
        return rows.count, rows.body

    def _kind(self, result):
        cls = type(result)
        kind = self._kinds.get(cls)
        if kind is None:
            kind = self._kinds[cls] = kind_of(cls)
        return kind

    def _from_iterator(self, iterator, keyed=False):
        """Rows of what is left in ``iterator``. Texts are made as the elements come, so that elements need not be kept."""
        if not self.append:
            count = 0
            for count, _ in enumerate(iterator, 1):
                pass
            return Rows(count, "")
        count, sink = 0, self._sink()
        keys = self.keys.texts_in_order() if self.keys is not None and not keyed else None
        try:
            while True:
                texts = list(map(str, itertools.islice(iterator, _CHUNK_ITEMS)))
                if keys is not None and (count + len(texts) > len(keys) or (not texts and 0 < count < len(keys))):
                    self.keys.refuse(iterator, count + len(texts))
                if not texts:
                    return Rows(count, sink.finish())
                if keys is not None:
                    texts = list(map(_joined, keys[count : count + len(texts)], texts))
                count += len(texts)
                sink.write_lines(texts)
        except BaseException:
            sink.discard()
            raise

    def _from_frame(self, frame):
        if self.keys is not None:
            frame = self.keys.beside(frame)
        frame = self._as_the_first(frame)
        header = self._header_of(frame)
        sink = self._sink()
        try:
            if len(frame):
                frame.to_csv(sink, **self._csv)
            body = sink.finish()
        except BaseException:
            sink.discard()
            raise
        if header is not None:
            self.header, self._want_header, self._columns = header, False, list(frame.columns)
        return body

    def _as_the_first(self, frame):
        """With its columns in the order of the header line, where there is one: under it a row is what its place says."""
        names = list(frame.columns)
        if self._columns is None or names == self._columns or not names or "columns" in self._csv:
            return frame
        if len(set(names)) == len(names) == len(self._columns) and set(names) == set(self._columns):
            return frame[self._columns]
        text = "run() returned a DataFrame with the columns {}, and one with {} before: with a header line all have the same columns"
        raise BadColumns(frame, text.format(_listed(names), _listed(self._columns)))

    def _header_of(self, frame):
        # A frame without columns is what scripts return for "nothing": it does not know the header.
        if not self._want_header or not len(frame.columns):
            return None
        options = dict(self._csv, header=self._header_option)
        text = io.StringIO()
        frame.iloc[:0].to_csv(text, **options)
        header = text.getvalue()
        return header if header.endswith("\n") else header + "\n"

    def _sink(self):
        return _Sink(self._spool.store(), self._keep_freed)

    def _keep_freed(self):
        if not self._keeps_freed:
            from .memory import ROWS_BYTES, keep_freed  # ctypes

            self._keeps_freed = True
            keep_freed(ROWS_BYTES)


def _plain(array):
    return (row.tolist() for row in array)


def _joined(key, value):
    return key + str(value)


def kind_of(cls):
    """How results of class ``cls`` are read, by names alone: pandas and numpy are never imported here."""
    if issubclass(cls, (list, tuple)):
        return "list"
    for base in cls.__mro__:
        library, name = (getattr(base, "__module__", None) or "").partition(".")[0], base.__name__
        if library == "pandas" and name == "DataFrame":
            return "frame"
        if library == "pandas" and name == "Series":
            return "series"
        if library == "numpy" and name == "ndarray":
            return "array"
        if name in ("DataFrame", "LazyFrame"):
            # Iterating one of these gives columns: wrong rows, and as many as there are columns.
            return "refused"
    if issubclass(cls, (str, bytes, bytearray, memoryview, collections.abc.Mapping)):
        return "refused"
    return "iterable"


class _Sink(io.TextIOBase):
    """Takes text; holds it as str while small, as bytes in the store beyond."""

    def __init__(self, store, when_large):
        self._store = store
        self._when_large = when_large
        self._texts = []
        self._chars = 0
        self._last = "\n"

    def writable(self):
        """True: pandas asks."""
        return True

    def write(self, text):
        """Adds ``text``."""
        if text:
            self._texts.append(text)
            self._chars += len(text)
            self._last = text[-1]
            if self._chars >= _PIECE_CHARS:
                self._drain()
        return len(text)

    def write_lines(self, texts):
        """Adds each of ``texts`` and a newline."""
        if sum(map(len, texts)) <= _PIECE_CHARS:
            self.write("\n".join(texts) + "\n")
            return
        for text in texts:
            self.write(text)
            self.write("\n")

    def finish(self):
        """All that was written, ending in a newline unless there is nothing."""
        if self._last != "\n":
            self.write("\n")
        if self._chars <= SMALL_CHARS and not self._store.length:
            return "".join(self._texts)
        self._drain()
        return self._store.finish()

    def discard(self):
        """Forgets all that was written."""
        self._texts = []
        self._store.discard()

    def _drain(self):
        self._when_large()
        texts, self._texts, self._chars = self._texts, [], 0
        # A text far larger than a piece is cut instead of being copied whole once more.
        small = []
        for text in texts:
            if len(text) <= _PIECE_CHARS:
                small.append(text)
                continue
            self._store.put(encode("".join(small)))
            small = []
            for start in range(0, len(text), _PIECE_CHARS):
                self._store.put(encode(text[start : start + _PIECE_CHARS]))
        self._store.put(encode("".join(small)))
