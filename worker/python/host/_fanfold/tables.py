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
        if part is None:
            return self._load(items)
        alone = None
        if self._reader.kind != "parquet":
            try:
                frame = self._some(items, part)
                if frame is not None:
                    return frame
            except Unreadable as error:
                alone = error
        try:
            return self._rows_of(self._load(items), part)
        except Unreadable:
            if alone is None:
                raise
            raise alone from None

    def _rows_of(self, frame, part):
        """Some rows of a frame."""
        index = frame.index
        frame = frame.iloc[slice(*part)]
        if isinstance(index, self._pandas.RangeIndex) and index.name is None:
            frame = frame.reset_index(drop=True)
        return frame

    def _some(self, items, part):
        """The frame of some rows, read without the others, whose types would be theirs, too; None: that can't be done.

        Raises `Unreadable` if it is a single row that can't be read.
        """
        wheres = [slices.parse(item, alone=len(items) == 1) for item in items]
        try:
            found = salvage.find(self._reader, wheres, *part, finish=self._finished)
        except (MemoryError, Unreadable):
            raise
        except Exception:
            return None
        self.pieces = found.pieces
        frame = self._one(found.frames)
        # The script may ask for any column that the mini-batch has.
        names = list(dict.fromkeys(name for shape in found.shapes for name in shape.columns))
        return frame if list(frame.columns) == names else frame.reindex(columns=names)

    def _finished(self, frame, where):
        """What becomes of the frame of one item."""
        return self._columns.of(frame, where.name, where.values)

    def _load(self, items):
        """The frame of a mini-batch, of one file or of several whole ones, or of rows that were gathered of any number of files."""
        wheres = [slices.parse(item, alone=len(items) == 1) for item in items]
        frames = []
        self.pieces = []
        for where in wheres:
            frame = self._frame(where)
            self.pieces.append((where.first, 0 if frame is None else len(frame)))
            if frame is None:
                continue
            try:
                frames.append(self._finished(frame, where))
            except Unfit as error:
                raise Unreadable("{}: {}".format(where.file(), error)) from None
        frame = self._one(frames) if frames else ()
        if len(frame) != slices.counted(wheres):
            text = "{} and {} files more have {} rows, where {} were counted when the job was listed"
            raise Unreadable(text.format(wheres[0].file(), len(items) - 1, len(frame), slices.counted(wheres)))
        return frame

    def _one(self, frames):
        """Frames, one behind the other."""
        return frames[0] if len(frames) == 1 else self._pandas.concat(frames, ignore_index=True)

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
