"""``sys.stdout``, ``sys.stderr`` and the root logger of the script: files that a full disk can't turn into failures."""

import errno
import io
import logging
import os
import sys
import time

# The same columns as EntryScript().logger.
LOG_FORMAT = "%(asctime)s|%(name)s|%(levelname)s|%(process)d|%(thread)d|%(funcName)s()|%(message)s"

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _LogFile(io.FileIO):
    """Appends; what the disk can't take is dropped."""

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            return memoryview(data).nbytes


def open_log(path):
    """A line-buffered text file at ``path``, or the null device if it can't be opened."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        raw = _LogFile(path, "ab")
    except OSError as error:
        os.write(2, "fanfold: can't open {}: {}; its text is dropped\n".format(path, error).encode("utf-8", "replace"))
        raw = _LogFile(os.devnull, "ab")
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def install(stdout, stderr):
    """Replaces ``sys.stdout`` and ``sys.stderr``, and gives the root logger a handler at WARNING."""
    sys.stdout = open_log(stdout)
    sys.stderr = open_log(stderr)
    # A file of its own, so that logging goes on when the script closes or replaces sys.stdout.
    handler = logging.StreamHandler(open_log(stdout))
    formatter = logging.Formatter(LOG_FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def note(text):
    """Tells the script's stderr file something in our name. Never raises."""
    try:
        sys.stderr.write("fanfold: {}\n".format(text))
    except Exception:
        pass


def flush():
    """Writes out what the script left without a newline. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
