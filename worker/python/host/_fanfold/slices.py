"""Where the rows of a mini-batch of a table lie, as the worker says it, and the bytes that lie there."""

import gzip
import importlib
import json

from .failure import one_line
from .script import Unreadable

# The end of a slice that is a whole file.
_WHOLE = 0xFFFFFFFFFFFFFFFF
_PIECE = 1 << 20


def parse(item, alone):
    """What an item is: a ``Slice`` or ``Gathered``. ``alone``: its mini-batch has no other one.

    An item is ``<start> <end> <header> <first row> <rows>`` and, behind a tab, the values of the partition, and behind another one its address, if
    it was brought here; then a newline and the path. ``!`` and why the file can't be used stand in place of the numbers; of rows that were gathered
    ``@`` and where, as JSON.
    """
    head, path = item.split("\n", 1)
    head, *about = head.split("\t")
    values = json.loads(about[0]) if about else ()
    # The path of what was brought here says nothing to anybody.
    name = json.loads(about[1]) if len(about) > 1 else path
    if head.startswith("!"):
        raise Unreadable(head[1:], of_all=True)
    if head.startswith("@"):
        return Gathered(path, name, values, json.loads(head[1:]))
    return Slice(path, name, values, head, alone)


def counted(wheres):
    """How many rows a mini-batch has, as they were counted when the job was listed."""
    return sum(where.rows for where in wheres) if isinstance(wheres[0], Gathered) else wheres[0].counted


class _Rows:
    def __init__(self, path, name, values):
        self.path = path
        #: What the file is called: its path, or its address.
        self.name = name
        #: The values of its partition.
        self.values = values

    def file(self):
        """The file, for the user."""
        return "`{}`".format(one_line(self.name))


class Slice(_Rows):
    """Rows that follow each other in a file, or all of it."""

    def __init__(self, path, name, values, head, alone):
        super().__init__(path, name, values)
        start, end, header, first, rows = map(int, head.split(" "))
        #: Bytes, of a Parquet file row groups; ``end`` is None in a slice that is a whole file.
        self.start, self.end = start, None if end == _WHOLE else end
        #: The number of its first row in the file, from 0.
        self.first = first
        #: How many rows were counted in its mini-batch, and in it alone: None where there are others.
        self.counted, self.rows = rows, rows if alone else None
        self._header = header

    @property
    def compression(self):
        """How the file is packed, if it is: then it is one slice."""
        return compression(self.path) if self.end is None else None

    def header(self):
        """The header of the file, where it is none of the slice."""
        return part(self.path, 0, self._header) if self._header else b""

    def body(self, end=None):
        """Its bytes, or those up to ``end``, where the file is not packed."""
        return part(self.path, self.start, self.end if end is None else end)

    def pieces(self):
        """Its bytes, unpacked, one piece after the other."""
        return pieces(self.path, self.start, self.end, self.compression)

    def stretches(self):
        """What is read of the file, header and slice: where each begins, and its bytes as ``pieces``."""
        if self._header:
            yield 0, pieces(self.path, 0, self._header, self.compression)
        yield self.start, self.pieces()

    def place(self):
        """Where it lies, for the user."""
        return self.file() if self.rows is None else self.place_of(0, self.rows)

    def place_of(self, row, rows=1):
        """Where some of its rows lie, for the user."""
        first = self.first + row + 1
        return "{}, {}".format(self.file(), "row {}".format(first) if rows == 1 else "rows {} to {}".format(first, first + rows - 1))


class Gathered(_Rows):
    """Rows that ``partition_keys`` gathered: those that one header is for, or those of one Parquet file (``docs/design/groups.md``)."""

    def __init__(self, path, name, values, told):
        super().__init__(path, name, values)
        #: They begin in no place of one file.
        self.first = 0
        #: What the worker says of them.
        self.told = told
        self.rows = told["rows"]

    def place(self):
        """Where they lay, for the user."""
        where = "there and in other files" if self.told["of_others"] else "there"
        count = "the row" if self.rows == 1 else "{} rows".format(self.rows)
        return "{}, {} that `partition_keys` gathered {}".format(self.file(), count, where)

    def place_of(self, row):
        """Where one of them lay, for the user: its number there is told by its ordinal, not here."""
        return "one of the rows that `partition_keys` gathered" if self.told["of_others"] else "{}, a row that `partition_keys` gathered there".format(self.file())


def part(path, start, end, name="it"):
    """A part of a file, which is called ``name`` if it is not there any more."""
    with open(path, "rb") as file:
        file.seek(start)
        read = file.read(end - start)
    if len(read) != end - start:
        raise ValueError("{} has become shorter".format(name))
    return read


def compression(path):
    """How a file is packed; None: it is not."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "zstd" if head == b"\x28\xb5\x2f\xfd" else None


def unpacked(path, packed, mode="rb", **options):
    """A file, open to be read, unpacked."""
    if packed == "gzip":
        return gzip.open(path, mode, **options)
    if packed:
        # pandas needs it, too.
        return importlib.import_module("zstandard").open(path, mode, **options)
    return open(path, mode, **options)


def pieces(path, start, end, packed):
    """The bytes of a file, or of a part of it, unpacked."""
    with unpacked(path, packed) as file:
        left = None
        if end is not None:
            file.seek(start)
            left = end - start
        while left is None or left > 0:
            piece = file.read(_PIECE if left is None else min(left, _PIECE))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece
