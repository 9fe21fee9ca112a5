"""Makes the ``pandas.DataFrame`` of a mini-batch of a table, or says whose rows can't be read, and why."""

from . import groups, salvage, slices, trouble
from .columns import Columns, Unfit
from .reader import Reader
from .script import Unreadable


class Tables:
    """Reads the mini-batches of one kind of table."""

    def __init__(self, options):
        self._columns = Columns(options.get("values", ()), options.get("columns", ()))
        self._reader = Reader(options, self._columns.wanted)
        self._pandas = self._reader.pandas
        #: Of each item that the last frame is of: the row of its file that it begins with, and how many rows it has.
        self.pieces = []

    def load(self, items, part=None):
        """The frame of a mini-batch, or of the rows ``part[0]`` to ``part[1]`` of it."""
        try:
            frame = self._load(items)
        except Unreadable as error:
            if part is None or error.of_all or len(items) > 1:
                raise
            # Its rows are looked for one by one.
            return self._some(items[0], part, error)
        if part is None:
            return frame
        if len(items) == 1:
            # By themselves, where their types are not written down: one odd value makes text of a column for all rows that it is read with.
            try:
                return self._some(items[0], part, Unreadable(""))
            except Unreadable:
                pass
        return self._rows_of(frame, part)

    def _rows_of(self, frame, part):
        """Some rows of a frame."""
        index = frame.index
        frame = frame.iloc[slice(*part)]
        if isinstance(index, self._pandas.RangeIndex) and index.name is None:
            frame = frame.reset_index(drop=True)
        return frame

    def _some(self, item, part, error):
        """Some rows of a mini-batch, read without the others."""
        where = slices.parse(item, alone=True)
        if self._reader.kind == "parquet" or isinstance(where, slices.Gathered):
            raise error
        self.pieces = [(where.first, where.counted)]
        try:
            frame = salvage.rows(self._reader, where, part, error)
            return self._columns.of(frame, where.name, where.values)
        except (MemoryError, Unreadable):
            raise
        except Exception:
            # What they can't be looked for in can't be read either, as was said of all of it.
            raise error from None

    def _load(self, items):
        """The frame of a mini-batch, of one file or of several whole ones, or of rows that were gathered of any number of files."""
        frames, counted = [], 0
        self.pieces = []
        for item in items:
            where = slices.parse(item, alone=len(items) == 1)
            counted = counted + where.rows if isinstance(where, slices.Gathered) else where.counted
            frame = self._frame(where)
            self.pieces.append((where.first, 0 if frame is None else len(frame)))
            if frame is None:
                continue
            try:
                frames.append(self._columns.of(frame, where.name, where.values))
            except Unfit as error:
                raise Unreadable("{}: {}".format(where.file(), error)) from None
        if len(frames) == 1:
            return frames[0]
        frame = self._pandas.concat(frames, ignore_index=True) if frames else ()
        if len(frame) != counted:
            text = "{} and {} files more have {} rows, where {} were counted when the job was listed"
            raise Unreadable(text.format(where.file(), len(items) - 1, len(frame), counted))
        return frame

    def _frame(self, where):
        """The frame of one item; None: it is one of several files, with nothing in it."""
        gathered = isinstance(where, slices.Gathered)
        try:
            frame = groups.frame(self._reader, where) if gathered else self._reader.read(where)
        except MemoryError:
            raise
        except self._pandas.errors.ParserWarning:
            text = "{}: the first of these rows has more fields than the file has columns"
            raise Unreadable(text.format(where.place())) from None
        except Exception as error:
            if where.rows is None and isinstance(error, self._pandas.errors.EmptyDataError):
                return None
            told = groups.explain(where, error) if gathered else trouble.explain(self._reader, where, error)
            raise Unreadable(told) from None
        if where.rows is not None and len(frame) != where.rows:
            text = "{}: {} reads {} rows where {} were counted when the job was listed"
            raise Unreadable(text.format(where.place(), self._pandas.__name__, len(frame), where.rows))
        return frame
