"""Loads the entry script and finds its functions."""
import difflib
import importlib
import importlib.util
import inspect
import os
import sys


class NoRun(Exception):
    """The script has no run()."""


class Context:
    """The second argument of run(mini_batch, mini_batch_context)."""

    __slots__ = ("minibatch_index", "partition_key_value", "dataset")

    def __init__(self, mini_batch, items):
        self.minibatch_index = str(mini_batch)
        self.partition_key_value = None
        self.dataset = Dataset(items)


class Dataset:
    """The part of the input that a mini-batch covers."""

    __slots__ = ("_items",)

    def __init__(self, items):
        self._items = items

    def to_path(self):
        """The paths of the files, as a list."""
        return list(self._items)

    def __len__(self):
        return len(self._items)


class Script:
    def __init__(self, entry, working_dir):
        self.module = _load(entry, working_dir)
        self.dir = os.path.dirname(os.path.abspath(getattr(self.module, "__file__", None) or working_dir))
        self.init = self._function("init", required=False)
        self.run = self._function("run", required=True)
        self.shutdown = self._function("shutdown", required=False)
        self.wants_context = _positional(self.run) >= 2

    def _function(self, name, required):
        function = getattr(self.module, name, None)
        if callable(function):
            return function
        if not required:
            return None
        found = sorted(
            key for key, value in vars(self.module).items() if inspect.isfunction(value) and not key.startswith("_")
        )
        near = [key for key in found if key.lower() == name] or difflib.get_close_matches(name, found, 1)
        text = "the entry script has no function run(mini_batch)"
        if near:
            text += "; is `%s` meant to be it?" % near[0]
        elif found:
            text += "; it has " + ", ".join(found)
        raise NoRun(text)


def _load(entry, working_dir):
    path = os.path.join(working_dir, entry)
    if entry.endswith(".py") or os.path.isfile(path):
        folder = os.path.dirname(path)
        sys.path[:0] = [folder] if folder == working_dir else [folder, working_dir]
        sys.argv[0] = path
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        # Before it runs: pickling and dataclasses look the module up by name.
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    sys.path.insert(0, working_dir)
    sys.argv[0] = os.path.join(working_dir, *entry.split(".")) + ".py"
    return importlib.import_module(entry)


def _positional(function):
    """How many arguments the function takes by position; *args counts as none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in kinds for parameter in parameters)
