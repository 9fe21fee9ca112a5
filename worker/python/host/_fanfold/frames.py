"""Judges what ``run()`` returned and makes an Arrow record batch of it, for a job whose output is a Parquet file.

``settle`` belongs to ``run()`` and ``rows`` does not, as in ``rows.py``. What is sent for a mini-batch is a whole Arrow IPC stream, or
nothing if it has no row. ``docs/design/parquet-output.md`` says what becomes of it; whether its columns are those of the output is
the coordinator's to judge, which alone knows them.
"""

import collections.abc
import importlib
import json
import re
import sys

from .failure import one_line, text_of, type_name
from .rows import SMALL_CHARS, BadColumns, BadReturn, kind_of
from .script import EntryScriptError
from .spool import Blocks, Spool

# The column of results that have no columns of their own.
RESULT = "result"
# Rows, and about as many bytes, of one record batch: what whoever reads it holds at once.
_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 8 << 20
# Every whole number up to here is one of float64.
_EXACT = 1 << 53
# What the coordinator is told of a column, in the metadata of its field.
_MARK = b"fanfold"
_EMPTY = b"no value"
_IS_EXACT = b"exact as float64"


def arrow():
    """pyarrow, or an error that says what to do."""
    try:
        importlib.import_module("pyarrow.compute")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        text = (
            "pyarrow can't be imported by {}: {}; a job whose output is a Parquet file needs it: `environment: {{requirements: [pyarrow]}}`, "
            "or an interpreter that has it, `environment: {{python: …}}`"
        )
        raise EntryScriptError(text.format(sys.executable, one_line(text_of(error)))) from None


class BadFrame(BadColumns):
    """``run()`` returned what a Parquet file can't hold."""


class FrameSerializer:
    """Makes record batches of results."""

    # No element becomes a row by itself, and there is no header line.
    text = False
    header = None

    def __init__(self, config, library, waiting):
        self._arrow = library
        # Of the mini-batch that runs, where rows begin with them (``keys.py``).
        self.keys = None
        self._spool = Spool(config, waiting)
        self._spool_bytes = config["spool_bytes"]

    def settle(self, result):
        """What belongs to ``run()``: refuses what is no list of results, and runs iterators to their end."""
        kind = kind_of(type(result))
        if kind == "refused" or (kind == "array" and not result.shape):
            raise BadReturn(result)
        if kind != "iterable":
            return result
        try:
            iterator = iter(result)
        except TypeError:
            raise BadReturn(result) from None
        return list(iterator)

    def rows(self, result):
        """The number of elements and their rows as bytes, ``Blocks`` or ``Spooled``."""
        count = len(result)
        if not count:
            # An empty frame says nothing about its columns: an object without a value has no type.
            return 0, b""
        batch = self._batch(result)
        if batch.num_rows != count or not batch.num_columns:
            text = "run() returned {} with {} rows and {} columns: a row of a Parquet file needs at least one value"
            raise BadFrame(result, text.format(type_name(type(result)), count, batch.num_columns))
        return count, self._bytes(self._marked(batch))

    def _batch(self, result):
        kind = kind_of(type(result))
        if kind == "series":
            name = result.name if isinstance(result.name, str) else RESULT
            kind, result = "frame", result.to_frame(name)
        if kind == "frame":
            return self._from_frame(result if self.keys is None else self.keys.beside(result))
        if kind == "array":
            columns = self._columns_of_array(result)
        else:
            columns = self._columns_of_list(result)
        if self.keys is not None:
            columns = self._with_keys(result, columns)
        arrays = [self._array(result, name, values) for name, values in columns.items()]
        return self._arrow.RecordBatch.from_arrays(arrays, names=list(columns))

    def _with_keys(self, result, columns):
        self.keys.positions(result)
        taken = next((name for name in self.keys.names if name in columns), None)
        if taken is not None:
            text = "run() returned rows with a field `{}`, as `append_row_key` calls the key: rename it"
            raise BadFrame(result, text.format(taken))
        keyed = dict(zip(self.keys.names, self.keys.values))
        keyed.update(columns)
        return keyed

    def _from_frame(self, frame):
        names = [str(name) for name in frame.columns]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadFrame(frame, "run() returned a DataFrame with two columns called `{}`: rename one".format(twice))
        try:
            batch = self._arrow.RecordBatch.from_pandas(frame, preserve_index=False, nthreads=1)
        except MemoryError:
            raise
        except UnicodeEncodeError:
            frame = frame.copy()
            for at, name in enumerate(frame.columns):
                if frame.dtypes.iloc[at] == object:
                    frame[name] = frame[name].map(_without_surrogates)
            return self._from_frame_or_refuse(frame)
        except Exception:
            return self._from_frame_or_refuse(frame)
        return self._plain(frame, batch)

    def _from_frame_or_refuse(self, frame):
        """Once more, column by column: whoever is refused is told which one it is."""
        for name in frame.columns:
            self._array(frame, str(name), frame[name])
        try:
            return self._plain(frame, self._arrow.RecordBatch.from_pandas(frame, preserve_index=False, nthreads=1))
        except MemoryError:
            raise
        except Exception as error:
            text = "run() returned a DataFrame that Arrow can't take: {}"
            raise BadFrame(frame, text.format(text_of(error))) from None

    def _array(self, result, name, values):
        pa = self._arrow
        try:
            try:
                array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
            except UnicodeEncodeError:
                array = pa.array([_without_surrogates(value) for value in values], from_pandas=True)
        except MemoryError:
            raise
        except Exception as error:
            text = "run() returned {} whose column `{}` can't be one of a Parquet file: {}; give all its values one type, such as {}"
            # Without the address of an object: the same error is one error.
            reason = re.sub(" at 0x[0-9a-f]+", "", text_of(error))
            fix = "`frame.astype({{{!r}: str}})`".format(name) if kind_of(type(result)) == "frame" else "`str(value)`"
            raise BadFrame(result, text.format(type_name(type(result)), name, reason, fix)) from None
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks != 1 else array.chunk(0)
        return array

    def _columns_of_array(self, result):
        """A dimension behind the first is a list in each row; the fields of a structured array are columns."""
        pa = self._arrow
        if result.dtype.names:
            return {name: result[name].tolist() for name in result.dtype.names}
        if result.ndim == 1:
            return {RESULT: result}
        array = self._array(result, RESULT, result.reshape(-1))
        for width in reversed(result.shape[1:]):
            ends = range(0, len(array) + 1, width) if width else [0] * (len(result) + 1)
            array = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), array)
        return {RESULT: array}

    def _columns_of_list(self, result):
        """Elements that are rows themselves have columns: mappings, named tuples and Series. All others are values of one column."""
        kinds = {_row_kind(value) for value in result}
        if kinds == {"value"}:
            return {RESULT: [_value(value) for value in result]}
        if len(kinds) > 1 or "frame" in kinds:
            text = (
                "run() returned a {} of {}: for a Parquet file return a DataFrame (pandas.concat makes one of several), or a list whose "
                "elements are all dicts, all Series or all values"
            )
            types = sorted({type_name(type(value)) for value in result})
            raise BadFrame(result, text.format(type_name(type(result)), " and ".join(types[:3])))
        columns = {}
        for at, row in enumerate(result):
            for name, value in _items(row):
                name = str(name)
                if name not in columns:
                    columns[name] = [None] * len(result)
                columns[name][at] = _value(value)
        return columns

    def _plain(self, frame, batch):
        """Without dictionaries: categories differ from one mini-batch to the next, so a column has their values."""
        schema = batch.schema
        if not any(self._arrow.types.is_dictionary(field.type) for field in schema):
            return batch
        arrays, fields, dtypes = [], [], {}
        for at, field in enumerate(schema):
            array = batch.column(at)
            if self._arrow.types.is_dictionary(field.type):
                array = array.dictionary_decode()
                field = field.with_type(array.type)
                categories = getattr(getattr(frame.dtypes.iloc[at], "categories", None), "dtype", "object")
                dtypes[field.name] = str(categories)
            arrays.append(array)
            fields.append(field)
        metadata = dict(schema.metadata or {})
        if b"pandas" in metadata:
            pandas = json.loads(metadata[b"pandas"].decode("utf-8"))
            for column in pandas["columns"]:
                if column["field_name"] in dtypes:
                    column.update(pandas_type="unicode", numpy_type=dtypes[column["field_name"]], metadata=None)
            metadata[b"pandas"] = json.dumps(pandas).encode("utf-8")
        return self._arrow.RecordBatch.from_arrays(arrays, schema=self._arrow.schema(fields, metadata=metadata))

    def _marked(self, batch):
        """With what its values say of columns: none that has no value fixes a type, and whole numbers may be float64 too if nothing is lost."""
        fields = []
        for at, field in enumerate(batch.schema):
            array, mark = batch.column(at), None
            if array.null_count == len(array):
                mark = _EMPTY
            elif field.type in (self._arrow.int64(), self._arrow.uint64()):
                bounds = self._arrow.compute.min_max(array)
                if -_EXACT <= bounds["min"].as_py() and bounds["max"].as_py() <= _EXACT:
                    mark = _IS_EXACT
            metadata = dict(field.metadata or {})
            if mark:
                metadata[_MARK] = mark
            fields.append(field.with_nullable(True).with_metadata(metadata or None))
        schema = self._arrow.schema(fields, metadata=batch.schema.metadata)
        return self._arrow.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _bytes(self, batch):
        try:
            # What a script puts together of raw buffers need not be text, and later nobody could be told.
            batch.validate(full=True)
        except Exception as error:
            raise BadFrame(batch, "run() returned a table that Arrow finds damaged: {}".format(text_of(error))) from None
        size = batch.get_total_buffer_size()
        rows = max(1, min(_BATCH_ROWS, batch.num_rows * _BATCH_BYTES // max(1, size)))
        if size <= self._spool_bytes:
            sink = self._arrow.BufferOutputStream()
            self._write(sink, batch, rows)
            buffer = sink.getvalue()
            if buffer.size <= SMALL_CHARS:
                return buffer.to_pybytes()
            if buffer.size <= self._spool_bytes:
                return Blocks([memoryview(buffer).cast("B")], buffer.size)
        store = self._spool.store()
        try:
            self._write(_Sink(store), batch, rows)
            return store.finish()
        except BaseException:
            store.discard()
            raise

    def _write(self, sink, batch, rows):
        # The environment of the script may ask for another form.
        options = self._arrow.ipc.IpcWriteOptions()
        with self._arrow.ipc.new_stream(sink, batch.schema, options=options) as writer:
            for start in range(0, batch.num_rows, rows):
                writer.write_batch(batch.slice(start, rows))


class _Sink:
    """A file for pyarrow that is a store."""

    closed = False

    def __init__(self, store):
        self._store = store

    def write(self, data):
        """Adds bytes."""
        data = bytes(data)
        self._store.put(data)
        return len(data)

    def flush(self):
        """Nothing is held back."""

    def close(self):
        """The store is finished by whoever made it."""

    def readable(self):
        """No."""
        return False

    def writable(self):
        """Yes."""
        return True

    def seekable(self):
        """No."""
        return False


def _row_kind(value):
    if isinstance(value, collections.abc.Mapping) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return "row"
    if isinstance(value, (str, bytes, int, float, list, tuple)) or value is None:
        return "value"
    kind = kind_of(type(value))
    if kind == "series":
        return "row"
    if kind == "frame" or (kind == "refused" and not isinstance(value, (bytearray, memoryview))):
        return "frame"
    return "value"


def _items(row):
    if isinstance(row, tuple):
        return zip(row._fields, row)
    return row.items()


def _value(value):
    """An element as Arrow takes it: of arrays with several dimensions it takes none."""
    if getattr(value, "ndim", None) not in (None, 0, 1) and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _without_surrogates(value):
    """Text as UTF-8 can hold it: names of files need not be."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value
