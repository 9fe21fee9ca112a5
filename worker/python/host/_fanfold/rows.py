"""What run() returned: whether it is acceptable, how many elements it has, and its rows."""
import json
import os

SETTINGS = "parallel_run_step.settings.json"
_EXPECTED = (
    "a list, tuple, pandas DataFrame or Series, numpy array or an iterator with one element for each item that succeeded"
)
_SCALARS = (str, bytes, bytearray, memoryview, dict, int, float, complex, bool)


class BadReturn(Exception):
    """run() returned something that is no list of results."""


def to_csv_arguments(script_dir):
    """The arguments of DataFrame.to_csv: the original's, overridden by the settings file beside the script."""
    arguments = {"sep": " ", "header": False, "index": False}
    path = os.path.join(script_dir, SETTINGS)
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    except FileNotFoundError:
        return arguments
    except (OSError, ValueError) as error:
        raise ValueError("cannot read %s: %s" % (path, error))
    if not isinstance(settings, dict):
        raise ValueError("%s must hold a JSON object" % path)
    own = settings.get("append_row", {})
    own = own.get("pandas.DataFrame.to_csv", {}) if isinstance(own, dict) else None
    if not isinstance(own, dict):
        raise ValueError('%s: expected {"append_row": {"pandas.DataFrame.to_csv": {...}}}' % path)
    arguments.update(own)
    return arguments


def _named(value, module, name):
    """Whether value is of that class, found by name: the host imports neither pandas nor numpy."""
    for base in type(value).__mro__:
        if base.__name__ == name and base.__module__.split(".")[0] == module:
            return True
    return False


def encode(text):
    """UTF-8; names that are not UTF-8 get their own bytes back; nothing makes it fail."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return text.encode("utf-8", "backslashreplace")


class Rows:
    """Turns what run() returns into rows. `take` is the part that counts as run(): it goes through iterators."""

    def __init__(self, script_dir, wanted, header_wanted):
        self._csv = to_csv_arguments(script_dir)
        self._wanted = wanted
        self._header_wanted = wanted and header_wanted

    def take(self, result):
        """`result` as something that is finished and has a length."""
        kind = type(result)
        if kind is list or kind is tuple:
            return result
        if result is None:
            raise BadReturn("run() returned None; expected %s (is a return statement missing?)" % _EXPECTED)
        if isinstance(result, (list, tuple)) or _named(result, "pandas", "DataFrame") or _named(result, "pandas", "Series"):
            return result
        if _named(result, "numpy", "ndarray"):
            if result.ndim == 0:
                raise BadReturn("run() returned a numpy array without dimensions; expected %s" % _EXPECTED)
            # numpy wraps long rows over several lines; a list stays on one.
            return list(result) if result.ndim == 1 else [row.tolist() for row in result]
        if isinstance(result, _SCALARS) or hasattr(result, "keys"):
            hint = " (put it in a list: [result])" if isinstance(result, str) else ""
            raise BadReturn("run() returned a value of type %s; expected %s%s" % (kind.__name__, _EXPECTED, hint))
        try:
            iterator = iter(result)
        except TypeError:
            raise BadReturn("run() returned a value of type %s; expected %s" % (kind.__name__, _EXPECTED))
        return list(iterator)

    def make(self, result):
        """(rows, header) of something that `take` gave; the header only for the first DataFrame."""
        if not self._wanted:
            return b"", b""
        if _named(result, "pandas", "DataFrame"):
            return self._frame(result)
        text = "\n".join(map(str, result))
        return (encode(text + "\n") if len(result) else b""), b""

    def _frame(self, frame):
        header = b""
        arguments = dict(self._csv)
        arguments["header"] = False
        if self._header_wanted:
            self._header_wanted = False
            first = dict(self._csv)
            first["header"] = self._csv["header"] or True
            header = self._ended(frame.iloc[:0].to_csv(**first))
        elif self._csv["header"]:
            # The settings file asks for a header in every block, as the original would write it.
            arguments["header"] = self._csv["header"]
        return self._ended(frame.to_csv(**arguments)), header

    @staticmethod
    def _ended(text):
        data = encode(text)
        return data if not data or data.endswith(b"\n") else data + b"\n"
