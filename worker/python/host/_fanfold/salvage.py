"""Reads some rows of a slice that can't be read as a whole: those that bisecting asks for (``docs/design/bisect.md``), found by their bytes."""

import codecs
import re

from . import trouble
from .script import Unreadable


def rows(reader, where, part, error):
    """The frame of the rows ``part[0]`` to ``part[1]`` of a slice; raises ``error``, why not all can be read, if it is no better for these."""
    first, end = part
    packed = where.compression
    content = b"".join(where.pieces())
    records, header = _records(reader, content), where.header()
    if where.end is None and reader.kind != "jsonl" and reader.options["header"] and records:
        header = content[: records.pop(0)[1]]
    if len(records) != where.counted or end > where.counted:
        raise error
    begin, upto = records[first][0], records[end - 1][1]
    content = content[begin:upto]
    try:
        if reader.kind == "jsonl":
            frame = reader.json_lines(content)
        else:
            frame = reader.rows(where, header, content, reader.csv_options(), skipped=first)
    except MemoryError:
        raise
    except Exception as again:
        if end - first > 1:
            raise error
        raise Unreadable(where.place_of(first) + trouble.of_row(reader, content, where.start + begin, packed, again)) from None
    if len(frame) != end - first:
        raise error
    return frame


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
