"""The life of the process: configure, load the script, init(), mini-batches until told otherwise, shutdown()."""
import faulthandler
import gc
import importlib
import importlib.util
import json
import logging
import os
import platform
import signal
import sys
import time

from . import failure, page as pages, streams
from .channel import Channel, Closed
from .loop import Loop
from .rows import Rows
from .script import Script

_LOST = 3


def run(in_fd, out_fd):
    """Runs until the worker says so, or is gone. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(file=2, all_threads=False)
    channel = Channel(in_fd, out_fd)
    try:
        code = _live(channel)
    except Closed as lost:
        os.write(2, ("fanfold: the control descriptors are closed (%s); did the entry script close them?\n" % lost).encode())
        code = _LOST
    streams.flush()
    logging.shutdown()
    # Threads and atexit handlers of the script had their chance in shutdown(); they must not keep the device.
    os._exit(code)


def _live(channel):
    first = channel.receive()
    if first is None:
        return 0
    config = json.loads(first[1].decode("ascii"))
    page = pages.open_page(config["page"])
    page[pages.PID] = os.getpid()

    def phase(number):
        page[pages.SINCE] = time.monotonic_ns()
        page[pages.STATE] = number

    streams.redirect(config["stdout"], config["stderr"])
    _provide_entry_script(config)
    sys.argv[1:] = config["argv"]
    profile = _Profile(config)

    times = {}
    stage = "import"
    try:
        phase(pages.IMPORTING)
        began = time.monotonic()
        script = profile.call(Script, config["entry_script"], config["working_dir"])
        rows = Rows(script.dir, config["output_action"] == "append_row", config["dataframe_header"])
        times["load_seconds"] = time.monotonic() - began
        stage = "init"
        phase(pages.INIT)
        began = time.monotonic()
        if script.init is not None:
            profile.call(script.init)
        times["init_seconds"] = time.monotonic() - began
    except BaseException as error:
        streams.flush()
        if isinstance(error, SystemExit):
            line = "%s called sys.exit(%s)" % ("the script" if stage == "import" else "init()", error.code)
        else:
            line = failure.message(error)
        channel.send_json("X", {"stage": stage, "type": type(error).__name__, "message": line, "traceback": failure.trace(error)})
        return 1
    phase(pages.WAITING)
    streams.flush()
    channel.send_json("I", dict(times, python=platform.python_version()))
    # What the script loaded lives as long as the process: no use in going through it again and again.
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()

    if not Loop(channel, page, script, rows, config, profile).run():
        return 0
    phase(pages.SHUTDOWN)
    trouble = None
    if script.shutdown is not None:
        try:
            profile.call(script.shutdown)
        except BaseException as error:
            trouble = failure.trace(error)
    profile.dump()
    streams.flush()
    channel.send_json("Q", {"traceback": trouble})
    return 0


def _provide_entry_script(config):
    """Makes `from azureml_user.parallel_run import EntryScript` find the live one, whatever is installed."""
    root = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "azureml_user")
    for name, folder in (("azureml_user", root), ("azureml_user.parallel_run", os.path.join(root, "parallel_run"))):
        spec = importlib.util.spec_from_file_location(
            name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    sys.modules["azureml_user"].parallel_run = sys.modules["azureml_user.parallel_run"]
    entry_script = sys.modules["azureml_user.parallel_run"].EntryScript()
    entry_script._set_up(config, logging.StreamHandler(streams.text_file(config["entry_script_log"])))


class _Profile:
    """The profiler that the job asked for, around everything of the script; without one, a plain call."""

    _EVERY = 10.0

    def __init__(self, config):
        self._path = config.get("profile")
        self._profiler = None
        self._dumped = time.monotonic()
        if config.get("profiling_module"):
            self._profiler = importlib.import_module(config["profiling_module"]).Profile()

    @property
    def on(self):
        return self._profiler is not None

    def call(self, function, *arguments):
        if self._profiler is None:
            return function(*arguments)
        try:
            return self._profiler.runcall(function, *arguments)
        finally:
            # Now and then, so that a process that is killed leaves one.
            if time.monotonic() - self._dumped > self._EVERY:
                self.dump()

    def dump(self):
        self._dumped = time.monotonic()
        if self._profiler is not None:
            try:
                self._profiler.dump_stats(self._path)
            except OSError:
                pass
