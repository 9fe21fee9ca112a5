"""The key of its item before each row (``append_row_key``): what items are called, and which item an element of a result is of.

A result says the latter by its length, one element for each item in their order, or by its index: that of the mini-batch, or of a list the
items themselves. What says neither is refused: a key beside the wrong row would be worse than none.
"""

import json
import struct
import sys

from .rows import BadColumns, BadReturn, kind_of

FILE, ROW, ITEM = "input_file", "input_row", "input_item"

# A row in the file of origins: the entry of its file, and its number in it.
_ORIGIN = struct.Struct("<IQ")


def columns(config):
    """What the columns of keys are called."""
    if config["table"]:
        return [FILE, ROW]
    return [FILE] if config["separator"] == 0 else [ITEM]


class BadKeys(BadReturn):
    """It can't be told which items the elements of a result are of."""

    def __init__(self, result, count, items, why):
        self.type_name = kind = "list" if type(result) is list else type(result).__name__
        text = "run() returned a {} with {} element{} for {} item{}{}; `append_row_key` needs one for each item, in their order, or a DataFrame or Series {}"
        whose = "with the index of the mini-batch: leave out reset_index()" if kind in ("DataFrame", "Series") else "whose index says which"
        Exception.__init__(self, text.format(kind, count, "s"[count == 1 :], items, "s"[items == 1 :], why, whose))


class Namer:
    """Says what the items of mini-batches are called. ``tables`` knows where the rows of the frame that it read last are from."""

    def __init__(self, config, tables):
        self.columns = columns(config)
        #: Whether the worker says what files are called, with each mini-batch; lines are their own keys.
        self.is_told = self.columns != [ITEM]
        self._tables = tables

    def of(self, told, mini_batch, part):
        """The keys of a mini-batch; ``told``: what the worker says of its files, as JSON."""
        if self._tables is None:
            # The script may do what it likes with its list.
            items = list(mini_batch)
            return Keys(self.columns, [json.loads(told) if told else items], None, items)
        told = json.loads(told)
        files, rows = self._gathered(told) if isinstance(told, dict) else self._slices(told)
        if part is not None:
            files, rows = files[slice(*part)], rows[slice(*part)]
        return Keys(self.columns, [files, rows], mini_batch.index, ())

    def _slices(self, names):
        files, numbers = [], []
        for name, (first, rows) in zip(names, self._tables.pieces):
            files += [name] * rows
            numbers += range(first + 1, first + rows + 1)
        return files, numbers

    def _gathered(self, told):
        count = sum(rows for _, rows in self._tables.pieces)
        with open(told["origins"], "rb") as file:
            file.seek(told["first"] * _ORIGIN.size)
            origins = list(_ORIGIN.iter_unpack(file.read(count * _ORIGIN.size)))
        names = {int(entry): name for entry, name in told["names"].items()}
        return [names[entry] for entry, _ in origins], [row + 1 for _, row in origins]


class Keys:
    """The keys of one mini-batch: a list of values for each column, as long as it. ``index``: that of its frame; None: it is a list."""

    def __init__(self, names, values, index, items):
        self.names = names
        self.values = values
        self._index = index
        self._items = items

    def __len__(self):
        return len(self.values[0])

    def texts(self, result):
        """What stands before each element of a result that has a length."""
        return self._texts(self.positions(result))

    def texts_in_order(self):
        """What stands before each element where there is one for each item."""
        return self._texts(None)

    def _texts(self, positions):
        fields = [list(map(_field, values)) for values in self.values]
        texts = ["\t".join(row) + "\t" for row in zip(*fields)]
        return texts if positions is None else [texts[at] for at in positions]

    def refuse(self, result, count, why=""):
        """Raises what says that there must be one element for each item."""
        raise BadKeys(result, count, len(self), why)

    def beside(self, frame):
        """A frame with its keys as the first columns; what the script holds is not changed."""
        positions = self.positions(frame)
        frame = frame.copy(deep=False)
        for at, (name, values) in enumerate(zip(self.names, self.values)):
            if name in frame.columns:
                text = "run() returned a DataFrame with a column `{}`, as `append_row_key` calls the key: rename it"
                raise BadColumns(frame, text.format(name))
            frame.insert(at, name, values if positions is None else [values[at] for at in positions])
        return frame

    def positions(self, result):
        """The item that each element is of, counted from 0; None: one after the other."""
        count = len(result)
        if not count:
            return []
        if kind_of(type(result)) in ("frame", "series"):
            positions = self._by_index(result, count)
            if positions is not None:
                return positions
        if count != len(self):
            self.refuse(result, count)
        return None

    def _by_index(self, result, count):
        pandas = sys.modules["pandas"]
        ours = pandas.RangeIndex(len(self)) if self._index is None else self._index
        theirs = result.index
        if theirs.equals(ours):
            return None
        if isinstance(theirs, pandas.RangeIndex) and theirs.start == 0 and theirs.step == 1:
            # What pandas gives to any new frame.
            return None
        if theirs.nlevels != ours.nlevels or list(theirs.names) != list(ours.names):
            return None
        positions = _lookup(ours, theirs)
        if positions is None and self._index is None:
            positions = _lookup(pandas.Index(self._items, dtype=object), theirs)
        if positions is None:
            return None
        if len(set(positions)) == count:
            return positions
        if len(set(positions)) == 1 and count == len(self):
            # Frames of one row, put one behind the other as they were.
            return None
        return self.refuse(result, count, ", and its index has labels twice")


def _lookup(ours, theirs):
    """Where each of these labels is; None: some are not there, or that can't be told."""
    if not ours.is_unique:
        return None
    try:
        positions = ours.get_indexer_for(theirs).tolist()
    except TypeError:
        # Labels of several types.
        return None
    return None if -1 in positions else positions


def _field(value):
    """A field of a line, as CSV with tabs has it."""
    if type(value) is not str:
        return str(value)
    if any(char in value for char in '\t\n\r"'):
        return '"{}"'.format(value.replace('"', '""'))
    return value
