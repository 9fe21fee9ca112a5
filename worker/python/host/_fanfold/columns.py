"""What becomes of the columns of a table: those made of the path of its file, those that are kept, those that go."""


class Unfit(Exception):
    """The columns of a file are not such that they could be made what they should be: why, as a text for the user."""


class Columns:
    """What becomes of the columns of each frame."""

    def __init__(self, values, steps):
        # The names of the values that are taken from paths.
        self._values = values
        self._steps = steps

    def of(self, frame, path, values):
        """The frame of a part of the file at `path`, which these values were taken from."""
        for step in self._steps:
            if step == "path":
                frame = self._make(frame, ["Path"], [path], True, "that of the path")
            elif step == "values" or step == "values_first":
                frame = self._make(frame, self._values, values, step != "values", "a name in `partition_format`")
            else:
                ((verb, names),) = step.items()
                # Those that are not there are no fault: as in the original, which may mean other files.
                frame = frame.loc[:, [(name in names) == (verb == "keep") for name in frame.columns]]
        if self._steps and not frame.shape[1]:
            raise Unfit("no column is left of it: look at `keep_columns` and `drop_columns` of the MLTable")
        return frame

    @staticmethod
    def _make(frame, names, values, first, what):
        for name in names:
            if name in frame.columns:
                raise Unfit("`{}` is a column of the file and {}: call it otherwise there".format(name, what))
        new = dict(zip(names, values))
        if not first:
            return frame.assign(**new)
        made, old = frame.assign(**new), frame.shape[1]
        return made.iloc[:, [*range(old, old + len(new)), *range(old)]]

    def wanted(self, names):
        """Those of the columns of a file that remain; None: all. Not to read the others is cheaper."""
        keep = list(names)
        for step in self._steps:
            if isinstance(step, dict):
                ((verb, chosen),) = step.items()
                keep = [name for name in keep if (name in chosen) == (verb == "keep")]
        # Without any the number of rows would be lost.
        return keep if keep and len(keep) < len(names) else None
