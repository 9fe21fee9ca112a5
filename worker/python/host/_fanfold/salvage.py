"""Reads some rows of a mini-batch of text without the others: those that bisecting asks for (``docs/design/bisect.md``), found by their bytes."""

import codecs
import re

from . import groups, slices, trouble
from .script import Unreadable


def frames(reader, wheres, first, end):
    """Of each item the row of its file that it begins with and how many it has; and the frames of the rows ``first`` to ``end``, with their items.

    Raises `Unreadable` if it is a single row that can't be read, and anything else if they can't be read for another reason.
    """
    pieces, wanted, before = [], [], 0
    for where in wheres:
        text = _Text(reader, where)
        count = len(text.rows)
        begin, upto = max(first - before, 0), min(end - before, count)
        if begin < upto:
            wanted.append((text, begin, upto))
        pieces.append((where.first, count))
        before += count
    if before != slices.counted(wheres):
        raise ValueError("rows are not where they were counted")
    return pieces, [(text.where, text.frame(begin, upto, end - first == 1)) for text, begin, upto in wanted]


class _Text:
    """The text of one item of a mini-batch, and where its rows lie in it."""

    def __init__(self, reader, where):
        self._reader = reader
        self.where = where
        self._header = b""
        gathered = isinstance(where, slices.Gathered)
        self._content = groups.records(where) if gathered else b"".join(where.pieces())
        #: Where each row begins and ends.
        self.rows = _records(reader, self._content)
        if not gathered:
            self._header = where.header()
            if where.end is None and self.rows and reader.has_header(where):
                self._header = self._content[: self.rows.pop(0)[1]]

    def frame(self, first, end, alone):
        """The frame of some of its rows. `alone`: it is a single one, and why it can't be read is raised as `Unreadable`."""
        begin, upto = self.rows[first][0], self.rows[end - 1][1]
        content = self._content[begin:upto]
        try:
            frame = self._read(content, first)
        except MemoryError:
            raise
        except Exception as error:
            if not alone:
                raise
            raise Unreadable(self.where.place_of(first) + self._why(content, begin, error)) from None
        if len(frame) != end - first:
            raise ValueError("{} rows are read where there are {}".format(len(frame), end - first))
        return frame

    def _read(self, content, skipped):
        reader, where = self._reader, self.where
        if isinstance(where, slices.Gathered):
            return groups.of_records(reader, where, content)
        if reader.kind == "jsonl":
            return reader.json_lines(content)
        return reader.rows(where, self._header, content, reader.csv_options(), skipped)

    def _why(self, content, begin, error):
        where = self.where
        if isinstance(where, slices.Gathered):
            return trouble.of_row(self._reader, content, 0, " of it", error)
        return trouble.of_row(self._reader, content, where.start + begin, trouble.unit(where.compression), error)


def _records(reader, content):
    """Where rows begin and end."""
    if reader.kind == "jsonl":
        return _lines(content)
    separator, quote = reader.options["sep"], reader.options["quotechar"]
    # A byte order mark is none of them.
    encoding = "utf-8" if codecs.lookup(reader.encoding).name == "utf-8-sig" else reader.encoding
    return _delimited(content, separator.encode(encoding), quote.encode(encoding) if quote else None)


def _lines(content):
    """Where lines begin and end, without blank ones."""
    found, at = [], 0
    for line in re.findall(b"[^\n]*\n|[^\n]+$", content):
        if line.strip():
            found.append((at, at + len(line)))
        at += len(line)
    return found


def _delimited(content, separator, quote):
    """Where the records of delimited text begin and end: a newline within quotes ends none, and blank lines are none."""
    bare = b"[^" + re.escape(separator) + b"\r\n]*"
    if quote:
        q = re.escape(quote)
        field = b"(?:" + q + b"(?:[^" + q + b"]|" + q + q + b")*(?:" + q + bare + b"|$)|" + bare + b")"
    else:
        field = bare
    end_of_field = re.compile(field + b"(" + re.escape(separator) + b"|\r\n|\r|\n|\\Z)")
    found, begin, at, size = [], 0, 0, len(content)
    if content.startswith(codecs.BOM_UTF8):
        # A quote behind it begins a field.
        at = len(codecs.BOM_UTF8)
    while at < size:
        field = end_of_field.match(content, at)
        at = field.end()
        if field.group(1) == separator and at < size:
            continue
        if content[begin:at].strip():
            found.append((begin, at))
        begin = at
    return found
