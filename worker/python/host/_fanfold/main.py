"""The life of one process: configuration, import, ``init()``, mini-batches, ``shutdown()``."""

import faulthandler
import json
import os
import signal
import sys
import time

import azureml_user.parallel_run

from . import failure, script, streams, wire
from .loop import Loop
from .profiling import profiler
from .rows import Serializer

# The script, its functions or its settings file can't be used.
_EXIT_NOT_READY = 1
# The host could not go on: the pipes are closed, or the worker speaks another language.
_EXIT_FATAL = 3
# A bug of ours.
_EXIT_BUG = 70

_STDERR = {"path": None}


def main(host_dir, in_fd, out_fd):
    """Serves the worker at the other end of the two pipes, then ends the process."""
    try:
        code = _serve(host_dir, in_fd, out_fd)
    except wire.Fatal as error:
        _die(str(error), _EXIT_FATAL)
    except (SystemExit, KeyboardInterrupt):
        # Out of a signal handler of the script while nothing of it ran: it wants to leave, and may.
        raise
    except BaseException as error:
        _die("a bug in fanfold's Python host, please report it: " + failure.traceback_of(error), _EXIT_BUG)
    # The ordinary way out: it flushes files that the script never closed, and runs what it left with atexit.
    sys.exit(code)


def _serve(host_dir, in_fd, out_fd):
    channel = wire.Channel(in_fd, out_fd)
    kind, frame = channel.take(wait=True)
    if kind != b"C":
        raise wire.Fatal("the worker's first frame is of kind {!r} and not C".format(kind))
    config = json.loads(frame[5:].decode("utf-8"))
    if config["version"] != wire.VERSION:
        raise wire.Fatal("the worker speaks version {} and this host {}".format(config["version"], wire.VERSION))
    page = wire.Page(config["page"])
    channel.attach(page)
    # Text can be four bytes a character; with answers of large rows, whichever is more.
    channel.grow(max(5 * config["flush_bytes"], config["spool_bytes"]))

    _STDERR["path"] = os.path.abspath(config["stderr"])
    streams.install(os.path.abspath(config["stdout"]), _STDERR["path"])
    # A descriptor of its own: the script may close 2.
    stderr = os.dup(2)
    faulthandler.enable(stderr)
    # The worker asks before it kills what took too long. Written in C: a script that holds the GIL answers as well.
    faulthandler.register(signal.SIGQUIT, stderr, all_threads=True)
    # Ctrl-C reaches the whole group on some terminals; the worker decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    azureml_user.parallel_run._enter_job(
        {
            "entry_script_log": os.path.abspath(config["entry_script_log"]),
            "log_dir": os.path.abspath(config["log_dir"]),
            "output_dir": config["output_dir"],
            "working_dir": config["working_dir"],
            "agent_name": config["process_name"],
            "node_id": config["node_id"],
            "logging_level": config["logging_level"],
        }
    )

    loop = Loop(channel, page, config)
    profile = profiler(config["profiling_module"], config["profile"])
    loaded, make_serializer = _load(channel, page, host_dir, config, profile)
    serializer = make_serializer(loaded.csv_options, loop.waiting)
    serializer.settle = profile.around(serializer.settle)
    loop.serve(loaded, profile.around(loaded.run), serializer, profile.dump_now_and_then)

    page.enter(wire.SHUTDOWN)
    text = None
    if loaded.shutdown is not None and not loop.retired:
        try:
            profile.around(loaded.shutdown)()
        except BaseException as error:
            channel.leave_if_forked(error)
            text = failure.traceback_of(error)
    channel.leave_if_forked()
    profile.dump()
    channel.send_json("Q", {"traceback": text})
    return 0


def _load(channel, page, host_dir, config, profile):
    """The script, imported and initialised, and what makes rows of its results; answers ``I``, or ``X`` and ends the process."""
    stage, calling = "import", "the entry script, while it was imported,"
    began = time.monotonic()
    try:
        page.enter(wire.IMPORTING)
        working_dir = os.path.abspath(config["working_dir"])
        os.chdir(working_dir)
        failure.tell_from(working_dir)
        path, module = script.locate(config["entry_script"], working_dir)
        script.prepare(path, module, working_dir, host_dir, config["argv"])
        # Before the script, which may well change the modules that it imports.
        tables = _tables(config) if config["table"] else None
        make_serializer = _serializer(config)
        loaded = script.load(path, module)
        if tables is not None:
            loaded.load = tables.load
        if config["row_key"]:
            from .keys import Namer  # most jobs need none

            loaded.namer = Namer(config, tables)
        at_init = time.monotonic()
        page.enter(wire.INIT)
        stage, calling = "init", "init()"
        if loaded.init is not None:
            profile.around(loaded.init)()
        channel.leave_if_forked()
        ready = time.monotonic()
    except BaseException as error:
        failure.make_room(error)
        channel.leave_if_forked(error)
        if isinstance(error, wire.Fatal):
            raise
        ours = isinstance(error, script.EntryScriptError)
        body = {
            "stage": stage,
            "type": "EntryScriptError" if ours else failure.type_name(type(error)),
            "message": failure.one_line(str(error)) if ours else failure.message_of(error, calling),
            "traceback": "" if ours else failure.traceback_of(error),
        }
        channel.send_json("X", body)
        # Not the ordinary way out: threads that a failed init() left would keep the process for ever.
        streams.flush()
        os._exit(_EXIT_NOT_READY)
    page.enter(wire.WAITING)
    channel.send_json(
        "I",
        {
            "python": sys.version.split()[0],
            "load_seconds": round(at_init - began, 6),
            "init_seconds": round(ready - at_init, 6),
        },
    )
    return loaded, make_serializer


def _tables(config):
    # They import pandas and ctypes, and most jobs have no tables.
    from .memory import FRAMES_BYTES, keep_freed
    from .tables import Tables

    keep_freed(FRAMES_BYTES)
    return Tables(config["table"])


def _serializer(config):
    """What makes a serializer, once the script's settings are known."""
    if config["output_format"] != "parquet":
        key_names = ()
        if config["row_key"]:
            from .keys import columns

            key_names = columns(config)
        return lambda csv_options, waiting: Serializer(config, csv_options, waiting, key_names)
    from .frames import FrameSerializer, arrow  # pyarrow

    library = arrow()
    return lambda _, waiting: FrameSerializer(config, library, waiting)


def _die(text, code):
    """Ends the process with ``text`` in the script's stderr file and on descriptor 2, whichever still exists."""
    data = "fanfold: {}\n".format(text).encode("utf-8", "backslashreplace")
    try:
        if _STDERR["path"]:
            fd = os.open(_STDERR["path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            os.write(fd, data)
    except OSError:
        pass
    try:
        os.write(2, data)
    except OSError:
        pass
    os._exit(code)
