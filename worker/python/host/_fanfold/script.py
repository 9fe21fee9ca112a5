"""Finds and imports the entry script, and learns what it wants: its functions, its arity, its settings file."""

import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import types

SETTINGS = "parallel_run_step.settings.json"

_CO_VARARGS = 0x04  # of code objects: inspect.CO_VARARGS

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


class EntryScriptError(Exception):
    """The entry script can't be used; the text says why and what to do."""


class Unreadable(Exception):
    """The rows of a mini-batch can't be had; the text says of which file, and why. ``of_all``: no part of them can."""

    def __init__(self, text, of_all=False):
        super().__init__(text)
        self.of_all = of_all


class EntryScript:
    """The script once it is imported."""

    def __init__(self, module, path):
        self.path = path
        self.init = _optional(module, "init")
        self.shutdown = _optional(module, "shutdown")
        self.run = _required(module, path)
        self.takes_context = takes_context(self.run)
        #: Makes a mini-batch of its one item; None: the items are the mini-batch.
        self.load = None
        #: Says what items are called; None: nobody asks.
        self.namer = None
        self.csv_options = read_settings(os.path.join(os.path.dirname(path), SETTINGS))


def locate(entry_script, working_dir):
    """``(path, module)`` of the script: ``module`` is its dotted name, or None where it was named by its path."""
    path = os.path.join(working_dir, entry_script)
    if os.path.isfile(path):
        return os.path.abspath(path), None
    if _DOTTED.match(entry_script) and not entry_script.endswith(".py"):
        stem = os.path.join(working_dir, *entry_script.split("."))
        for path in (stem + ".py", os.path.join(stem, "__init__.py")):
            if os.path.isfile(path):
                return os.path.abspath(path), entry_script
    raise EntryScriptError(
        "there is no entry script `{}` in {}; Python files there: {}".format(
            entry_script, working_dir, _python_files(working_dir)
        )
    )


def _python_files(directory):
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".py"))
    except OSError as error:
        return "can't be listed ({})".format(error)
    return ", ".join(names[:20]) or "none"


def prepare(path, module, working_dir, host_dir, argv):
    """Makes the interpreter look as if the script had been started by itself: ``sys.argv``, ``sys.path``."""
    folder = os.path.dirname(path)
    first = [folder, working_dir] if module is None else [working_dir, folder]
    # Ours comes after the script's own, for the processes it spawns: they find azureml_user there.
    first.append(host_dir)
    unique = list(dict.fromkeys(first))
    sys.path[:] = unique + [entry for entry in sys.path if entry not in unique]
    sys.argv[:] = [path] + list(argv)


def load(path, module):
    """Imports the script, as a module of its own name and never as ``__main__``."""
    if module is not None:
        return EntryScript(importlib.import_module(module), path)
    name = os.path.splitext(os.path.basename(path))[0]
    loader = importlib.machinery.SourceFileLoader(name, path)
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    # Pickle and dataclasses look modules up by name. A script called json.py must not become everybody's json.
    sys.modules.setdefault(name, loaded)
    loader.exec_module(loaded)
    return EntryScript(loaded, path)


def _optional(module, name):
    function = getattr(module, name, None)
    return function if callable(function) else None


def _required(module, path):
    run = getattr(module, "run", None)
    if callable(run):
        if _has_no_room(run):
            name = os.path.basename(path)
            raise EntryScriptError("run() of {} takes no arguments: make it `def run(mini_batch)`".format(name))
        return run
    functions = [name for name, value in vars(module).items() if isinstance(value, types.FunctionType)]
    message = "{} has no function `run(mini_batch)`".format(os.path.basename(path))
    if run is not None:
        message += ": its `run` is a {}".format(type(run).__name__)
    message += "; its functions: {}".format(", ".join(functions[:30]) if functions else "none")
    import difflib  # rarely needed, and every process waits for what is imported above

    nearest = difflib.get_close_matches("run", [name.lower() for name in functions], 1, 0.5)
    if nearest:
        similar = next(name for name in functions if name.lower() == nearest[0])
        message += "; is `{}` meant to be `run`?".format(similar)
    raise EntryScriptError(message)


def _positional(run):
    """``(positional parameters, whether it has *args)``, or None where Python can't tell."""
    if type(run) is types.FunctionType and not (hasattr(run, "__wrapped__") or hasattr(run, "__signature__")):
        return run.__code__.co_argcount, bool(run.__code__.co_flags & _CO_VARARGS)
    import inspect  # half of the time that this program takes to import, and a plain function needs none of it

    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = [parameter.kind for parameter in parameters]
    count = kinds.count(inspect.Parameter.POSITIONAL_ONLY) + kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return count, inspect.Parameter.VAR_POSITIONAL in kinds


def _has_no_room(run):
    return _positional(run) == (0, False)


def takes_context(run):
    """Whether ``run`` wants the context too: it has two positional parameters; ``*args`` alone is no wish."""
    positional = _positional(run)
    return positional is not None and positional[0] >= 2


def read_settings(path):
    """The script's arguments for ``DataFrame.to_csv``; {} without a settings file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            settings = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EntryScriptError("can't read {}: {}".format(path, error)) from None
    for key in (None, "append_row", "pandas.DataFrame.to_csv"):
        settings = settings if key is None else settings.get(key, {})
        if not isinstance(settings, dict):
            place = "`{}` in {}".format(key, path) if key else path
            example = '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}'
            raise EntryScriptError("{} must be a JSON object, as in {}".format(place, example))
    return settings


class Dataset:
    """The part of the input that one mini-batch is."""

    def __init__(self, paths):
        self._paths = paths

    def to_path(self):
        """The absolute paths of the files, in the order of the mini-batch."""
        return list(self._paths)

    def __len__(self):
        return len(self._paths)

    def __iter__(self):
        return iter(self.to_path())

    def __repr__(self):
        return "Dataset({!r})".format(self._paths)


class MiniBatchContext:
    """The second argument of ``run(mini_batch, mini_batch_context)``."""

    __slots__ = ("minibatch_index", "partition_key_value", "dataset")

    def __init__(self, mini_batch, items, partition_key_value=None, part=None):
        #: Names the mini-batch within the job; fit to be part of a file name. Of a part of one with its first and last item, from 0.
        self.minibatch_index = str(mini_batch) if part is None else "{}.{}-{}".format(mini_batch, part[0], part[1] - 1)
        #: The values that the mini-batch was partitioned by; None where it was not.
        self.partition_key_value = partition_key_value
        #: The items.
        self.dataset = Dataset(items)

    def __repr__(self):
        return "MiniBatchContext(minibatch_index={!r})".format(self.minibatch_index)
