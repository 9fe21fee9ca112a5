"""Reads rows that were gathered by the values of columns (``docs/design/groups.md``)."""

import bisect
import io
import json
import struct
import warnings
import zlib

# A row in the file of origins: the entry of its file, and its number in it.
_ORIGIN = struct.Struct("<IQ")


def key_values(encoding, items):
    """The values of the keys: each came as JSON, a text whose characters are bytes, or null."""
    if encoding.lower().replace("_", "-") in ("utf-8-sig", "utf8-sig"):
        encoding = "utf-8"
    values = map(json.loads, items)
    return [value if value is None else value.encode("latin-1").decode(encoding, "surrogateescape") for value in values]


def frame(tables, told, path):
    """The frame of some rows: those that one header is for, or those that are of one Parquet file, at `path`."""
    return getattr(_Reader(tables, told, path), tables.kind)()


class _Reader:
    def __init__(self, tables, told, path):
        self._tables = tables
        self._told = told
        self._path = path

    def csv(self):
        tables, columns = self._tables, self._told["columns"]
        options = tables.csv_options()
        options["index_col"] = False
        header = self._bytes(*self._told["header"])
        if not header:
            # A blank line is none of the rows, and a byte order mark is one at the beginning of a file only.
            header = b"\n"
            options["names"] = list(range(columns))
        text = header + self._records()
        with warnings.catch_warnings():
            # Of fields that belong to no column.
            warnings.simplefilter("error", tables.pandas.errors.ParserWarning)
            return tables.finished(tables.pandas.read_csv(io.BytesIO(text), **options))

    tsv = csv

    def jsonl(self):
        return self._tables.pandas.read_json(io.BytesIO(self._records()), lines=True)

    def parquet(self):
        first, end = self._told["records"]
        origins = self._bytes(first * _ORIGIN.size, end * _ORIGIN.size)
        self._prove(origins)
        wanted = [row for _, row in _ORIGIN.iter_unpack(origins)]
        file, arrow = self._tables.parquet_file(self._path), self._tables.arrow
        columns = self._tables.wanted_columns(file)
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
        table = arrow.concat_tables(parts)
        frame = table.to_pandas()
        index = (table.schema.pandas_metadata or {}).get("index_columns") or [None]
        if index[0] is None or isinstance(index[0], dict):
            # An index that is written down as a range is one of rows that follow each other.
            frame.index = self._tables.pandas.RangeIndex(len(frame))
        if isinstance(index[0], dict) and index[0].get("name") is not None:
            numbers = [index[0]["start"] + row * index[0]["step"] for row in wanted]
            frame.index = self._tables.pandas.Index(numbers, name=index[0]["name"])
        return frame

    def _records(self):
        records = self._bytes(*self._told["records"])
        self._prove(records)
        return records

    def _prove(self, read):
        if zlib.crc32(read) != self._told["crc32"]:
            raise ValueError("`{}` is damaged: the checksum of these rows is wrong".format(self._told["file"]))

    def _bytes(self, start, end):
        with open(self._told["file"], "rb") as file:
            file.seek(start)
            read = file.read(end - start)
        if len(read) != end - start:
            raise ValueError("`{}` has become shorter".format(self._told["file"]))
        return read
