"""Reads the rows of a mini-batch of a table as a ``pandas.DataFrame``: what pandas makes of that part of the file.

The worker says where a slice lies (``docs/design/tables.md``); what depends on the file as a whole (how many columns there are without a
header, whether the first ones are the index) is taken from its beginning.
"""

import codecs
import csv
import importlib
import io
import json
import re
import sys
import warnings

from . import culprit, groups
from .failure import one_line, text_of
from .script import EntryScriptError, Unreadable

# The end of a slice that is a whole file.
_WHOLE = 0xFFFFFFFFFFFFFFFF


class Tables:
    """Reads slices of one kind of table."""

    def __init__(self, options):
        self._options = options
        # What an `MLTable` says; None: there is none.
        self._mltable = options.get("mltable")
        self._columns = Columns(options.get("values", ()), options.get("columns", ()))
        self.pandas = _module("pandas")
        self.kind = options["kind"]
        self._read = getattr(self, "_" + self.kind)
        # Of its text.
        self._encoding = "utf-8" if self.kind == "jsonl" else options["encoding"]
        self._check(options)
        if options["kind"] == "parquet":
            self.arrow = _module("pyarrow")
            self._parquet_module = importlib.import_module("pyarrow.parquet")
        # Of the file that was read last: its path, and what was learned of it.
        self._known = (None, None)
        # Of the file whose header counts for all.
        self._named = None
        #: Of each file that the last frame is of: the first row that it has in it, and how many.
        self.pieces = []
        # What the file that is being read is called: its path, or its address.
        self._name = None

    def _check(self, options):
        """Refuses what can't be known without Python, before anything is read."""
        try:
            codecs.lookup(options["encoding"])
        except LookupError:
            raise EntryScriptError("`read_csv`: Python knows no encoding `{}`".format(options["encoding"])) from None
        dtype = options["dtype"]
        for name in dtype.values() if isinstance(dtype, dict) else [dtype]:
            try:
                self.pandas.api.types.pandas_dtype(name)
            except TypeError as error:
                raise EntryScriptError("`read_csv`: pandas knows no dtype `{}`: {}".format(name, one_line(text_of(error)))) from None

    def load(self, items, part=None):
        """The frame of a mini-batch, or of the rows ``part[0]`` to ``part[1]`` of it."""
        if part is None:
            return self._load(items)
        try:
            frame = self._load(items)
        except Unreadable as error:
            if error.of_all or self.kind == "parquet" or len(items) > 1:
                raise
            # Its rows are looked for one by one.
            return self._some(items[0], part, error)
        index = frame.index
        frame = frame.iloc[slice(*part)]
        if isinstance(index, self.pandas.RangeIndex) and index.name is None:
            frame = frame.reset_index(drop=True)
        return frame

    def _some(self, item, part, error):
        """Some rows of a slice that can't be read as a whole."""
        head, path = item.split("\n", 1)
        head, *about = head.split("\t")
        values = json.loads(about[0]) if about else ()
        if head.startswith("@"):
            raise error
        start, end, header, first, rows = map(int, head.split(" "))
        compression = _compression(path)
        content = b"".join(culprit.pieces(path, start, None if end == _WHOLE else end, compression))
        records, head = self._records(content), b""
        if end == _WHOLE and self.kind != "jsonl" and self._options["header"]:
            head = content[: records[0][1]] if records else b""
            records = records[1:]
        elif header:
            head = _bytes(path, 0, 0, header)
        if len(records) != rows or part[1] > rows:
            raise error
        self.pieces = [(first, rows)]
        before, upto = records[part[0]][0], records[part[1] - 1][1]
        content = content[before:upto]
        try:
            if self.kind == "jsonl":
                frame = self.pandas.read_json(io.BytesIO(content), lines=True)
            else:
                frame = self._rows(path, start + part[0], head, content, compression)
        except MemoryError:
            raise
        except Exception as again:
            if part[1] - part[0] > 1:
                raise error
            place = _place(self._name, first + part[0], 1)
            raise Unreadable("{}{}".format(place, self._of_row(content, start + before, compression, again))) from None
        if len(frame) != part[1] - part[0]:
            raise error
        return self._columns.of(frame, self._name, values)

    def _of_row(self, content, at, compression, error):
        """What is wrong with one row, which begins at this byte, and why."""
        undecodable = culprit.undecodable([content], self._encoding) if isinstance(error, UnicodeError) else None
        if undecodable:
            offset, wrong, why = undecodable
            return self._no_text(at + offset, compression, wrong, why)
        if isinstance(error, self.pandas.errors.ParserWarning):
            return ": it has more fields than the file has columns"
        found = culprit.json_line([content]) if self.kind == "jsonl" else None
        if found:
            return ", byte {}: {}".format(at + found[1] + 1, found[2])
        return ": " + (culprit.without_line(one_line(text_of(error))) or type(error).__name__)

    def _no_text(self, at, compression, wrong, why):
        """That some bytes, at this place of a file, are no text."""
        if self.kind == "jsonl":
            fix = "lines of JSON are read as UTF-8: if the file has another encoding, convert it (`iconv -f latin1 -t utf-8`)"
        else:
            fix = "if the file has another encoding, say which: `read_csv: {encoding: latin1}`"
        text = ", byte {}{}: {} is no {} ({}); {}"
        wrong = " ".join(map("0x{:02x}".format, wrong))
        return text.format(at + 1, " once it is unpacked" if compression else "", wrong, self._encoding, why, fix)

    def _records(self, content):
        """Where the rows of delimited text, or of JSON Lines, begin and end."""
        if self.kind == "jsonl":
            return culprit.lines(content)
        options, encoding = self._options, self._options["encoding"]
        quote = options["quotechar"]
        return culprit.records(content, options["sep"].encode(encoding), quote.encode(encoding) if quote else None)

    def _load(self, items):
        """The frame of a mini-batch, of one file or of several whole ones. An item is ``<start> <end> <header> <first row> <rows>`` and, behind
        a tab, the values of the partition, and behind another one its address, if it was brought here; then a newline and the path. ``!`` and
        why the file can't be used stand in place of the numbers; of rows that were gathered ``@`` and where, as JSON."""
        frames, gathered = [], 0
        self.pieces = []
        for item in items:
            head, path = item.split("\n", 1)
            head, *about = head.split("\t")
            values = json.loads(about[0]) if about else ()
            # The path of what was brought here says nothing to anybody.
            self._name = json.loads(about[1]) if len(about) > 1 else path
            if head.startswith("!"):
                raise Unreadable(head[1:], of_all=True)
            if head.startswith("@"):
                told = json.loads(head[1:])
                first, rows = 0, gathered + told["rows"]
                gathered = rows
                frame = self._gathered(told, path)
            else:
                start, end, header, first, rows = map(int, head.split(" "))
                frame = self._frame(path, start, end, header, first, rows if len(items) == 1 else None)
            self.pieces.append((first, 0 if frame is None else len(frame)))
            if frame is None:
                continue
            try:
                frames.append(self._columns.of(frame, self._name, values))
            except Unfit as error:
                raise Unreadable("{}: {}".format(_place(self._name, first, None), error)) from None
        if len(frames) == 1:
            return frames[0]
        frame = self.pandas.concat(frames, ignore_index=True)
        if len(frame) != rows:
            text = "`{}` and {} files more have {} rows, where {} were counted when the job was listed"
            raise Unreadable(text.format(one_line(self._name), len(items) - 1, len(frame), rows))
        return frame

    def _gathered(self, told, path):
        rows = told["rows"]
        where = "there and in other files" if told["of_others"] else "there"
        count = "the row" if rows == 1 else "{} rows".format(rows)
        place = "`{}`, {} that `partition_keys` gathered {}".format(one_line(self._name), count, where)
        try:
            frame = groups.frame(self, told, path)
        except MemoryError:
            raise
        except self.pandas.errors.ParserWarning:
            raise Unreadable("{}: the first of these rows has more fields than the file has columns".format(place)) from None
        except Exception as error:
            reason = one_line(text_of(error)) or type(error).__name__
            if " line " in reason:
                reason += " (lines are counted from the header, which the first of these rows follows)"
            raise Unreadable("{}: {}".format(place, reason)) from None
        if len(frame) != rows:
            text = "{}: {} reads {} rows where {} were counted when the job was listed"
            raise Unreadable(text.format(place, self.pandas.__name__, len(frame), rows))
        return frame

    def _frame(self, path, start, end, header, first, rows):
        try:
            frame = self._read(path, start, end, header, first)
        except MemoryError:
            raise
        except self.pandas.errors.ParserWarning:
            text = "{}: the first of these rows has more fields than the file has columns"
            raise Unreadable(text.format(_place(self._name, first, rows))) from None
        except Exception as error:
            if rows is None and isinstance(error, self.pandas.errors.EmptyDataError):
                # One of several files, with nothing in it.
                return None
            raise Unreadable(self._trouble(path, start, end, header, first, rows, error)) from None
        if rows is not None and len(frame) != rows:
            text = "{}: {} reads {} rows where {} were counted when the job was listed"
            raise Unreadable(text.format(_place(self._name, first, rows), self.pandas.__name__, len(frame), rows))
        return frame

    def _trouble(self, path, start, end, header, first, rows, error):
        """Why this part of a file can't be read, with the row that is in the way as far as it can be told."""
        reason = one_line(text_of(error)) or type(error).__name__
        place = _place(self._name, first, rows)
        if self.kind == "parquet":
            return "{}: {}".format(place, reason)
        try:
            told = self._undecodable(path, start, end, header, first, error)
            if told is None and self.kind == "jsonl":
                told = self._no_json(path, start, end, first)
            return told or self._search(path, start, end, header, first, rows, error, reason)
        except MemoryError:
            raise
        except Exception:
            # It is an explanation that failed, not what is explained.
            return "{}: {}".format(place, reason)

    def _search(self, path, start, end, header, first, rows, error, reason):
        def read(rows):
            return self._read(path, start, end, header, first, rows)

        found = culprit.search(read, error, reason)
        if found is None:
            return "{}: {}".format(_place(self._name, first, rows), reason)
        reason = culprit.without_line(one_line(text_of(found.reason)) or type(found.reason).__name__)
        column = self._column_in_the_way(path, start, end, header, first, found) if found.end - found.first == 1 else None
        place = _place(self._name, first + found.first, found.end - found.first)
        return "{}{}: {}".format(place, ", column `{}`".format(column) if column is not None else "", reason)

    def _column_in_the_way(self, path, start, end, header, first, found):
        """Which of the columns with a dtype has a value that is none of it."""
        dtype = self._options["dtype"]
        if self.kind == "jsonl" or not isinstance(dtype, dict) or not self._options["header"] or self._mltable is not None:
            return None
        for name in dtype:
            try:
                self._read(path, start, end, header, first, found.end, [name])
            except MemoryError:
                raise
            except Exception as error:
                if text_of(error) == text_of(found.reason):
                    return name
        return None

    def _undecodable(self, path, start, end, header, first, error):
        if not isinstance(error, UnicodeError):
            return None
        compression = _compression(path)
        for begin, upto in [(0, header), (start, end)] if header else [(start, end)]:
            found = culprit.undecodable(culprit.pieces(path, begin, None if upto == _WHOLE else upto, compression), self._encoding)
            if found is not None:
                break
        else:
            return None
        offset, wrong, why = found
        row = self._rows_before(path, begin, begin + offset, header) if begin == start and not compression else None
        place = "`{}`".format(one_line(self._name)) if row is None else _place(self._name, first + row, 1)
        return place + self._no_text(begin + offset, compression, wrong, why)

    def _rows_before(self, path, start, at, header):
        """Rows between two bytes of a file; None if that can't be told."""
        if self.kind == "jsonl":
            return _rows_of_lines(_bytes(path, start, at, 0))
        # The row that is cut there is made one that ends, within quotes or without.
        for quote in ("", self._options["quotechar"] or ""):
            try:
                rows = len(self._read(path, start, at, header, 0, cut=quote + "x"))
            except MemoryError:
                raise
            except Exception:
                continue
            return rows - 1 if rows else None
        return None

    def _no_json(self, path, start, end, first):
        found = culprit.json_line(culprit.pieces(path, start, None if end == _WHOLE else end, _compression(path)))
        if found is None:
            return None
        row, at, reason = found
        return "{}, byte {}: {}".format(_place(self._name, first + row, 1), start + at + 1, reason)

    def _csv(self, path, start, end, header, _first, rows=None, columns=None, cut=None):
        options = self.csv_options()
        if rows is not None:
            options["nrows"] = rows
        if columns is not None:
            options["usecols"] = columns
        if cut is not None:
            # Its rows are counted and nothing else.
            options["dtype"] = str
        if end == _WHOLE:
            _, own_header = self._shape_of(path, end)
            if own_header:
                options.update(header=None, index_col=False, names=self._named[0])
            return self.finished(self.pandas.read_csv(path, compression=_compression(path), **options))
        body = _bytes(path, start, end, 0)
        if cut is not None:
            body += cut.encode(options["encoding"])
        return self._rows(path, start, _bytes(path, 0, 0, header), body, None, options)

    def _rows(self, path, start, head, body, compression, options=None):
        """What pandas makes of a header and rows, which begin at ``start`` in their file."""
        options = self.csv_options() if options is None else options
        shape, own_header = self._shape_of(path, 0, compression)
        options.update(shape)
        if own_header and start == 0 and body.startswith(codecs.BOM_UTF8):
            # Its file has no header, and is not where it begins any more.
            body = body[len(codecs.BOM_UTF8) :]
        text = body if own_header else head + body
        if start > 0 and not head:
            # A byte order mark is one at the beginning of a file only. A blank line is none of the rows.
            text = b"\n" + text
        with warnings.catch_warnings():
            # Of fields that belong to no column.
            warnings.simplefilter("error", self.pandas.errors.ParserWarning)
            frame = self.pandas.read_csv(io.BytesIO(own_header + text if own_header else text), **options)
        if options["index_col"]:
            frame.index.names = [None] * frame.index.nlevels
        return self.finished(frame)

    _tsv = _csv

    def finished(self, frame):
        """What the original makes of delimited text where that is not what pandas makes of it."""
        if self._mltable is None:
            return frame
        if not self._options["header"]:
            frame.columns = ["Column{}".format(number + 1) for number in range(frame.shape[1])]
        if self._mltable["empty_as_string"]:
            for at, kind in enumerate(frame.dtypes):
                if self.pandas.api.types.is_object_dtype(kind) or self.pandas.api.types.is_string_dtype(kind):
                    frame.isetitem(at, frame.iloc[:, at].fillna(""))
        return frame

    def csv_options(self):
        given = self._options
        options = {
            "sep": given["sep"],
            "encoding": given["encoding"],
            "header": 0 if given["header"] else None,
            # One type for a column, whatever its length.
            "low_memory": False,
        }
        if given["quotechar"] is None:
            options["quoting"] = csv.QUOTE_NONE
        else:
            options["quotechar"] = given["quotechar"]
        if self._mltable is not None:
            # There a field is missing if it is empty, and `NA` is a text.
            options.update(keep_default_na=False, na_values=[""])
        dtype = given["dtype"]
        if isinstance(dtype, dict) and not given["header"] and self._mltable is not None:
            number = re.compile("Column([1-9][0-9]*)").fullmatch
            dtype = {int(number(name).group(1)) - 1: kind for name, kind in dtype.items() if number(name)}
        elif isinstance(dtype, dict) and not given["header"]:
            dtype = {int(name) if name.isdigit() else name: kind for name, kind in dtype.items()}
        if dtype:
            options["dtype"] = dtype
        return options

    def _shape_of(self, path, end, compression=None):
        """What the beginning of a file says of all of it: how pandas reads its slices, and a header for them in place of its own."""
        named = self._mltable and self._mltable["header_of"]
        if named and self._name != named["name"]:
            if self._named is None:
                file = named["path"]
                names = self.pandas.read_csv(file, compression=_compression(file), nrows=0, **self.csv_options())
                self._named = (list(names.columns), self._header_of(names, 0))
            return {"index_col": False}, self._named[1]
        if end == _WHOLE:
            return {}, None
        if self._known[0] != path:
            options = self.csv_options()
            options.pop("dtype", None)
            # What is no text further down is for those to tell whose rows it is in.
            with culprit.text(path, compression, options["encoding"]) as text:
                first, own_header = self.pandas.read_csv(text, nrows=1, **options), None
            if not self._options["header"]:
                shape = {"names": list(range(first.shape[1])), "index_col": False}
            elif isinstance(first.index, self.pandas.RangeIndex):
                shape = {"index_col": False}
            else:
                # More fields than names: pandas takes the first ones for the index, without a name.
                # The first row of a slice may be a short one, and then would not say so.
                shape = {"index_col": list(range(first.index.nlevels))}
                own_header = self._header_of(first, first.index.nlevels)
            self._known = (path, (shape, own_header))
        return self._known[1]

    def _header_of(self, frame, levels):
        """A header that names the columns of the index as well."""
        levels = ["index {}".format(level) for level in range(levels)]
        names = io.StringIO()
        quote = self._options["quotechar"]
        writer = csv.writer(
            names,
            delimiter=self._options["sep"],
            lineterminator="\n",
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_ALL,
        )
        writer.writerow(levels + list(frame.columns))
        return names.getvalue().encode(self._options["encoding"])

    def _jsonl(self, path, start, end, header, _first, rows=None):
        if end == _WHOLE:
            return self.pandas.read_json(path, lines=True, compression=_compression(path), nrows=rows)
        text = _bytes(path, start, end, header)
        if text.startswith(codecs.BOM_UTF8):
            text = text[len(codecs.BOM_UTF8) :]
        return self.pandas.read_json(io.BytesIO(text), lines=True, nrows=rows)

    def _parquet(self, path, start, end, _header, first):
        file = self.parquet_file(path)
        if end == _WHOLE:
            end = file.num_row_groups
        wanted = self.wanted_columns(file)
        table = file.read_row_groups(list(range(start, end)), columns=wanted, use_pandas_metadata=True)
        frame = table.to_pandas()
        index = (table.schema.pandas_metadata or {}).get("index_columns") or [None]
        if isinstance(index[0], dict) and index[0].get("name") is not None:
            # An index that is written down as a range, and is more than the numbers of rows: it has a name.
            step = index[0]["step"]
            begin = index[0]["start"] + first * step
            frame.index = self.pandas.RangeIndex(begin, begin + len(frame) * step, step, name=index[0]["name"])
        return frame

    def parquet_file(self, path):
        """A file, open until another one is read."""
        if self._known[0] != path:
            self._known = (path, self._parquet_module.ParquetFile(path))
        return self._known[1]

    def wanted_columns(self, file):
        """The columns of a Parquet file that are read; None: all."""
        return self._columns.wanted(file.schema_arrow.names)


class Unfit(Exception):
    """The columns of a file are not such that they could be made what they should be: why, as a text for the user."""


class Columns:
    """What becomes of the columns of a frame: those made of its path, those that are kept, those that go."""

    def __init__(self, values, steps):
        # The names of the values that are taken from paths.
        self._values = values
        self._steps = steps

    def of(self, frame, path, values):
        """The frame of a part of the file at `path`, which these values were taken from."""
        for step in self._steps:
            if step == "path":
                frame = self._make(frame, ["Path"], [path], True, "that of the path")
            elif step == "values" or step == "values_first":
                frame = self._make(frame, self._values, values, step != "values", "a name in `partition_format`")
            else:
                ((verb, names),) = step.items()
                # Those that are not there are no fault: as in the original, which may mean other files.
                frame = frame.loc[:, [(name in names) == (verb == "keep") for name in frame.columns]]
        if self._steps and not frame.shape[1]:
            raise Unfit("no column is left of it: look at `keep_columns` and `drop_columns` of the MLTable")
        return frame

    @staticmethod
    def _make(frame, names, values, first, what):
        for name in names:
            if name in frame.columns:
                raise Unfit("`{}` is a column of the file and {}: call it otherwise there".format(name, what))
        new = dict(zip(names, values))
        if not first:
            return frame.assign(**new)
        made, old = frame.assign(**new), frame.shape[1]
        return made.iloc[:, [*range(old, old + len(new)), *range(old)]]

    def wanted(self, names):
        """Those of the columns of a file that remain; None: all. Not to read the others is cheaper."""
        keep = list(names)
        for step in self._steps:
            if isinstance(step, dict):
                ((verb, chosen),) = step.items()
                keep = [name for name in keep if (name in chosen) == (verb == "keep")]
        # Without any the number of rows would be lost.
        return keep if keep and len(keep) < len(names) else None


def _place(path, first, rows):
    if rows is None:
        return "`{}`".format(one_line(path))
    if rows == 1:
        return "`{}`, row {}".format(one_line(path), first + 1)
    return "`{}`, rows {} to {}".format(one_line(path), first + 1, first + rows)


def _rows_of_lines(lines):
    """How many rows end in these bytes."""
    return sum(1 for line in lines.split(b"\n")[:-1] if line.strip())


def _bytes(path, start, end, header):
    """The header of a file and a part of it."""
    with open(path, "rb") as file:
        head = file.read(header)
        file.seek(start)
        body = file.read(end - start)
    if len(head) + len(body) != header + end - start:
        raise ValueError("it has become shorter")
    return head + body if head else body


def _compression(path):
    with open(path, "rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if head == b"\x28\xb5\x2f\xfd" else None


def _module(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = (
            "{} can't be imported by {}: {}; a job with tables needs it: `environment: {{requirements: [pandas{}]}}`, or an "
            "interpreter that has it, `environment: {{python: …}}`"
        )
        more = ", pyarrow" if name == "pyarrow" else ""
        raise EntryScriptError(text.format(name, sys.executable, one_line(text_of(error)), more)) from None
