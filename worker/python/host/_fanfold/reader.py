"""What pandas makes of a slice of a table (``docs/design/tables.md``).

What depends on the file as a whole (how many columns there are without a header, whether the first ones are the index) is taken from its
beginning.
"""

import codecs
import csv
import importlib
import io
import re
import sys
import warnings

from . import slices
from .failure import one_line, text_of
from .script import EntryScriptError


class Reader:
    """Reads slices of one kind of table. ``wanted`` says which of the columns of a Parquet file are read, by their names; None: all."""

    def __init__(self, options, wanted):
        self.options = options
        self.wanted = wanted
        #: What an `MLTable` says; None: there is none.
        self.mltable = options.get("mltable")
        self.pandas = _module("pandas")
        self.kind = options["kind"]
        #: Of its text.
        self.encoding = "utf-8" if self.kind == "jsonl" else options["encoding"]
        self._read = getattr(self, "_" + self.kind)
        self._check()
        if self.kind == "parquet":
            self.arrow = _module("pyarrow")
            self._parquet_module = importlib.import_module("pyarrow.parquet")
        # Of the file that was read last: its path, and what was learned of it.
        self._known = (None, None)
        # Of the file whose header counts for all: its names, and a header of them.
        self._named = None

    def _check(self):
        """Refuses what can't be known without Python, before anything is read."""
        try:
            codecs.lookup(self.options["encoding"])
        except LookupError:
            raise EntryScriptError("`read_csv`: Python knows no encoding `{}`".format(self.options["encoding"])) from None
        dtype = self.options["dtype"]
        for name in dtype.values() if isinstance(dtype, dict) else [dtype]:
            try:
                self.pandas.api.types.pandas_dtype(name)
            except TypeError as error:
                raise EntryScriptError("`read_csv`: pandas knows no dtype `{}`: {}".format(name, one_line(text_of(error)))) from None

    def read(self, where, **more):
        """The frame of a slice. ``more`` is for pandas: of text, `nrows` and, where columns are separated, `usecols`."""
        return self._read(where, **more)

    def _csv(self, where, **more):
        options = dict(self.csv_options(), **more)
        if where.end is not None:
            return self.rows(where, where.header(), where.body(), options)
        named = self._header_elsewhere(where)
        if named:
            options.update(header=None, index_col=False, names=named[0])
        return self.finished(self.pandas.read_csv(where.path, compression=where.compression, **options))

    _tsv = _csv

    def rows(self, where, header, body, options, skipped=0):
        """The frame of some rows of a slice, behind so many of it that are skipped."""
        at_beginning = where.start + skipped == 0
        shape, own_header = self._shape_of(where)
        options = dict(options, **shape)
        if own_header and at_beginning and body.startswith(codecs.BOM_UTF8):
            # Its file has no header, and is not where it begins any more.
            body = body[len(codecs.BOM_UTF8) :]
        text = body if own_header else header + body
        if not at_beginning and not header:
            # A byte order mark is one at the beginning of a file only. A blank line is none of the rows.
            text = b"\n" + text
        frame = self.delimited(own_header + text if own_header else text, options)
        if options["index_col"]:
            frame.index.names = [None] * frame.index.nlevels
        return self.finished(frame)

    def delimited(self, text, options):
        """What pandas makes of delimited text; fields that belong to no column are an error."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", self.pandas.errors.ParserWarning)
            return self.pandas.read_csv(io.BytesIO(text), **options)

    def finished(self, frame):
        """What the original makes of delimited text where that is not what pandas makes of it."""
        if self.mltable is None:
            return frame
        if not self.options["header"]:
            frame.columns = ["Column{}".format(number + 1) for number in range(frame.shape[1])]
        if self.mltable["empty_as_string"]:
            for at, kind in enumerate(frame.dtypes):
                if self.pandas.api.types.is_object_dtype(kind) or self.pandas.api.types.is_string_dtype(kind):
                    frame.isetitem(at, frame.iloc[:, at].fillna(""))
        return frame

    def csv_options(self):
        """What pandas is told of all slices of delimited text."""
        given = self.options
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
        if self.mltable is not None:
            # There a field is missing if it is empty, and `NA` is a text.
            options.update(keep_default_na=False, na_values=[""])
        dtype = given["dtype"]
        if isinstance(dtype, dict) and not given["header"] and self.mltable is not None:
            number = re.compile("Column([1-9][0-9]*)").fullmatch
            dtype = {int(number(name).group(1)) - 1: kind for name, kind in dtype.items() if number(name)}
        elif isinstance(dtype, dict) and not given["header"]:
            dtype = {int(name) if name.isdigit() else name: kind for name, kind in dtype.items()}
        if dtype:
            options["dtype"] = dtype
        return options

    def has_header(self, where):
        """Whether the first record of its file is the header of it."""
        return self.kind != "jsonl" and self.options["header"] and not self._header_elsewhere(where)

    def _header_elsewhere(self, where):
        """The names of the columns and a header of them, where they stand in the first file only, and this is another one; else None."""
        header_of = self.mltable and self.mltable["header_of"]
        if not header_of or where.name == header_of["name"]:
            return None
        if self._named is None:
            file = header_of["path"]
            names = self.pandas.read_csv(file, compression=slices.compression(file), nrows=0, **self.csv_options())
            self._named = (list(names.columns), self._header_of(names, 0))
        return self._named

    def _shape_of(self, where):
        """What the beginning of a file says of all of it: how pandas reads its slices, and a header for them in place of its own."""
        named = self._header_elsewhere(where)
        if named:
            return {"index_col": False}, named[1]
        if self._known[0] != where.path:
            options = self.csv_options()
            options.pop("dtype", None)
            # What is no text further down is for those to tell whose rows it is in.
            as_text = {"encoding": options["encoding"], "errors": "replace", "newline": ""}
            with slices.unpacked(where.path, where.compression, "rt", **as_text) as text:
                first, own_header = self.pandas.read_csv(text, nrows=1, **options), None
            if not self.options["header"]:
                shape = {"names": list(range(first.shape[1])), "index_col": False}
            elif isinstance(first.index, self.pandas.RangeIndex):
                shape = {"index_col": False}
            else:
                # More fields than names: pandas takes the first ones for the index, without a name.
                # The first row of a slice may be a short one, and then would not say so.
                shape = {"index_col": list(range(first.index.nlevels))}
                own_header = self._header_of(first, first.index.nlevels)
            self._known = (where.path, (shape, own_header))
        return self._known[1]

    def _header_of(self, frame, levels):
        """A header that names the columns of the index as well."""
        levels = ["index {}".format(level) for level in range(levels)]
        names = io.StringIO()
        quote = self.options["quotechar"]
        writer = csv.writer(
            names,
            delimiter=self.options["sep"],
            lineterminator="\n",
            quotechar=quote,
            quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_ALL,
        )
        writer.writerow(levels + list(frame.columns))
        return names.getvalue().encode(self.options["encoding"])

    def _jsonl(self, where, **more):
        if where.end is None:
            return self.pandas.read_json(where.path, lines=True, compression=where.compression, **more)
        text = where.header() + where.body()
        if text.startswith(codecs.BOM_UTF8):
            text = text[len(codecs.BOM_UTF8) :]
        return self.json_lines(text, **more)

    def json_lines(self, text, **more):
        """What pandas makes of lines of JSON."""
        return self.pandas.read_json(io.BytesIO(text), lines=True, **more)

    def _parquet(self, where):
        file = self.parquet_file(where.path)
        end = file.num_row_groups if where.end is None else where.end
        groups = list(range(where.start, end))
        table = file.read_row_groups(groups, columns=self.wanted(file.schema_arrow.names), use_pandas_metadata=True)
        frame = table.to_pandas()
        index = stored_index(table)
        if isinstance(index, dict) and index.get("name") is not None:
            # An index that is written down as a range, and is more than the numbers of rows: it has a name.
            step = index["step"]
            begin = index["start"] + where.first * step
            frame.index = self.pandas.RangeIndex(begin, begin + len(frame) * step, step, name=index["name"])
        return frame

    def parquet_file(self, path):
        """A file, open until another one is read."""
        if self._known[0] != path:
            self._known = (path, self._parquet_module.ParquetFile(path))
        return self._known[1]


def stored_index(table):
    """How pandas wrote down the index of a table: a range as a dict, else the name of its first column; None: there is none."""
    return ((table.schema.pandas_metadata or {}).get("index_columns") or [None])[0]


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
