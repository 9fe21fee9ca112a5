"""Reads rows that were gathered by the values of columns (``docs/design/groups.md``)."""

import bisect
import json
import struct
import zlib

from . import slices
from .failure import reason_of
from .reader import stored_index

# A row in the file of origins: the entry of its file, and its number in it.
_ORIGIN = struct.Struct("<IQ")


def key_values(encoding, items):
    """The values of the keys: each came as JSON, a text whose characters are bytes, or null."""
    if encoding.lower().replace("_", "-") in ("utf-8-sig", "utf8-sig"):
        encoding = "utf-8"
    values = map(json.loads, items)
    return [value if value is None else value.encode("latin-1").decode(encoding, "surrogateescape") for value in values]


def frame(reader, where):
    """The frame of gathered rows."""
    return _parquet(reader, where) if reader.kind == "parquet" else of_records(reader, where, records(where))


def records(where):
    """The records of gathered rows of text, one behind the other."""
    read = _bytes(where, *where.told["records"])
    _prove(where, read)
    return read


def of_records(reader, where, read):
    """The frame of some of these records."""
    if reader.kind == "jsonl":
        return reader.json_lines(read)
    options = dict(reader.csv_options(), index_col=False)
    header = _bytes(where, *where.told["header"])
    if not header:
        # A blank line is none of the rows, and a byte order mark is one at the beginning of a file only.
        header = b"\n"
        options["names"] = list(range(where.told["columns"]))
    return reader.finished(reader.delimited(header + read, options))


def explain(where, error):
    """Why they can't be read, for the user."""
    reason = reason_of(error)
    if " line " in reason:
        reason += " (lines are counted from the header, which the first of these rows follows)"
    return "{}: {}".format(where.place(), reason)


def _parquet(reader, where):
    first, end = where.told["records"]
    origins = _bytes(where, first * _ORIGIN.size, end * _ORIGIN.size)
    _prove(where, origins)
    wanted = [row for _, row in _ORIGIN.iter_unpack(origins)]
    file = reader.parquet_file(where.path)
    columns = reader.wanted(file.schema_arrow.names)
    starts = [0]
    for group in range(file.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    if wanted[-1] >= starts[-1]:
        raise ValueError("it has {} rows, and row {} is wanted".format(starts[-1], wanted[-1] + 1))
    parts, at = [], 0
    while at < len(wanted):
        # They are in order: one row group after the other, of each what is wanted.
        group = bisect.bisect_right(starts, wanted[at]) - 1
        upto = bisect.bisect_left(wanted, starts[group + 1], at)
        rows = [row - starts[group] for row in wanted[at:upto]]
        table = file.read_row_group(group, columns=columns, use_pandas_metadata=True)
        # Copied, so that what is not wanted can go.
        parts.append(table.take(rows))
        at = upto
    table = reader.arrow.concat_tables(parts)
    frame = table.to_pandas()
    index = stored_index(table)
    if index is None or isinstance(index, dict):
        # An index that is written down as a range is one of rows that follow each other.
        frame.index = reader.pandas.RangeIndex(len(frame))
    if isinstance(index, dict) and index.get("name") is not None:
        numbers = [index["start"] + row * index["step"] for row in wanted]
        frame.index = reader.pandas.Index(numbers, name=index["name"])
    return frame


def _prove(where, read):
    if zlib.crc32(read) != where.told["crc32"]:
        raise ValueError("`{}` is damaged: the checksum of these rows is wrong".format(where.told["file"]))


def _bytes(where, start, end):
    file = where.told["file"]
    return slices.part(file, start, end, "`{}`".format(file))
