"""Reads some rows of a mini-batch of text without the others: those that bisecting asks for (``docs/design/bisect.md``), found by their bytes."""

import codecs
import json
import re

from . import groups, slices, trouble
from .script import Unreadable


class Found:
    """Some rows of a mini-batch."""

    def __init__(self):
        #: Of each item the row of its file that it begins with, and how many it has.
        self.pieces = []
        #: Of each item that has any a frame without rows: the columns that all of it has.
        self.shapes = []
        #: The frames of the rows.
        self.frames = []


def find(reader, wheres, first, end, finish):
    """The rows ``first`` to ``end`` of a mini-batch. ``finish(frame, where)`` makes of each frame what becomes of its columns.

    Raises `Unreadable` if it is a single row that can't be read, and anything else if they can't be read for another reason.
    """
    found, wanted, before = Found(), [], 0
    for where in wheres:
        text = _Text(reader, where)
        count = len(text.rows)
        begin, upto = max(first - before, 0), min(end - before, count)
        if begin < upto:
            wanted.append((text, begin, upto))
        found.pieces.append((where.first, count))
        if not text.is_blank:
            found.shapes.append(finish(text.shape(), where))
        before += count
    if before != slices.counted(wheres):
        raise ValueError("rows are not where they were counted")
    found.frames = [finish(text.frame(begin, upto, end - first == 1), text.where) for text, begin, upto in wanted]
    return found


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
        #: Whether there is nothing in it, not even a header.
        self.is_blank = not self.rows
        if not gathered:
            self._header = where.header()
            if where.end is None and self.rows and reader.has_header(where):
                self._header = self._content[: self.rows.pop(0)[1]]

    def shape(self):
        """A frame of none of its rows, with the columns that all of them have together."""
        if self._reader.kind != "jsonl":
            return self._read(b"\n", 0)
        names = {}
        for begin, end in self.rows:
            try:
                line = json.loads(self._content[begin:end])
            except ValueError:
                continue
            if type(line) is dict:
                names.update(line)
        return self._reader.pandas.DataFrame(columns=list(names))

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
