"""The two pipes and the page: all that the host shares with its worker (docs/design/host-protocol.md).

A forked child of the script never writes to either: the pipes are closed in it and the page is released, so that a child
which falls out of ``run()`` raises at its first touch of the page, without a check on the hot path.
"""

import errno
import io
import json
import mmap
import os
import select
import struct
import time

from . import failure, streams
from .streams import note

VERSION = 1
PAGE_BYTES = 4096
PAGE_MAGIC = 0x31454741504646

# Phases (word 2 of the page).
STARTING, IMPORTING, INIT, WAITING, OVERHEAD, RUN, SHUTDOWN, NO_ROOM = range(8)

# The word with which the worker asks that no further mini-batch is begun.
STOP = 6

# Room for the largest answer, so that each is taken whole by the buffer before the first byte of it leaves.
_OUT_SLACK = 1 << 20
_READ_BYTES = 1 << 18

# What the first touch of the page raises in a forked child.
_RELEASED = "operation forbidden on released memoryview object"


class Fatal(Exception):
    """The host can't go on, for a reason that is not the script's result. Carries the text for the logs."""


class Page:
    """The 4096 bytes that tell the worker, and whoever comes after it, what this process is doing."""

    def __init__(self, path):
        # mmap keeps a descriptor of its own. A script that writes to every descriptor there is must not hit the page with it:
        # what is written in append mode goes behind.
        with open(os.open(path, os.O_RDWR | os.O_APPEND), "r+b") as file:
            if os.fstat(file.fileno()).st_size < PAGE_BYTES:
                raise Fatal("the page {} is shorter than {} bytes".format(path, PAGE_BYTES))
            self._map = mmap.mmap(file.fileno(), PAGE_BYTES)
        self.words = memoryview(self._map).cast("Q")
        if self.words[0] != PAGE_MAGIC:
            raise Fatal("{} is not a page of fanfold".format(path))
        self.words[1] = os.getpid()
        self.enter(STARTING)

    def enter(self, phase, mini_batch=0):
        """Shows ``phase``. The time goes first: a reader between the two must never see a new phase that seems old."""
        self.words[3] = time.monotonic_ns()
        self.words[2] = mini_batch << 8 | phase

    @property
    def phase(self):
        """The phase shown."""
        return self.words[2] & 0xFF


class Channel:
    """Frames from and to the worker, over pipes that nothing else inherits."""

    def __init__(self, in_fd, out_fd):
        for fd in (in_fd, out_fd):
            os.set_inheritable(fd, False)
            os.set_blocking(fd, True)
        self._in_fd, self._out_fd = in_fd, out_fd
        self._in_is, self._out_is = _identity(in_fd), _identity(out_fd)
        self._poll = select.poll()
        self._poll.register(in_fd, select.POLLIN)
        self._input = b""
        self._at = 0
        self._out = None
        self._forked = False
        self._page = None
        self.grow(0)
        os.register_at_fork(after_in_child=self._in_child)

    def grow(self, answer_bytes):
        """Makes room for answers of ``answer_bytes``.

        io.BufferedWriter remembers in C what the pipe has taken, so an exception out of a signal handler of the script
        can interrupt a write without tearing a frame. Memory is used only as far as answers fill it.
        """
        raw = io.FileIO(self._out_fd, "wb", closefd=False)
        self._out = io.BufferedWriter(raw, answer_bytes + _OUT_SLACK)

    def attach(self, page):
        """Releases ``page`` in forked children."""
        self._page = page

    def leave_if_forked(self, error=None):
        """Ends a child that the script forked and that came back from the script's function, raising ``error`` or not."""
        if not self._forked:
            return
        code = 0
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None and str(error) != _RELEASED:
            code = 1
            note(failure.traceback_of(error).rstrip())
        streams.flush()
        os._exit(code & 0xFF)

    def _in_child(self):
        self._forked = True
        if self._page is not None:
            self._page.words.release()
        for fd, identity in ((self._in_fd, self._in_is), (self._out_fd, self._out_is)):
            try:
                if _identity(fd) == identity:
                    os.close(fd)
            except OSError:
                pass

    def take(self, wait=False):
        """The next frame as ``(kind, frame)``, kind being one byte and the body starting at offset 5 of the frame.

        None if it is not there yet and ``wait`` is not set. Ends the process when the worker is gone.
        """
        while True:
            have = len(self._input) - self._at
            if have >= 4:
                (length,) = struct.unpack_from("<I", self._input, self._at)
                if have >= 4 + length:
                    frame = self._input[self._at : self._at + 4 + length]
                    self._at += 4 + length
                    if self._at == len(self._input):
                        self._input, self._at = b"", 0
                    return frame[4:5], frame
            if not self._ready(wait):
                return None
            self._read()

    def _ready(self, wait):
        self._check(self._in_fd, self._in_is)
        while True:
            try:
                return bool(self._poll.poll(None if wait else 0))
            except Exception as error:
                # A signal handler of the script raised while nothing of it ran: an alarm it forgot to turn off.
                _note_stray(error)

    def _read(self):
        missing = 0
        if len(self._input) - self._at >= 4:
            (length,) = struct.unpack_from("<I", self._input, self._at)
            missing = 4 + length - (len(self._input) - self._at)
        try:
            chunk = os.read(self._in_fd, max(_READ_BYTES, missing))
        except OSError as error:
            raise Fatal(_lost("read from", error))
        if not chunk:
            # The worker is dead, and whoever it was working for takes the work elsewhere.
            os._exit(1)
        rest = self._input[self._at :] if self._at else self._input
        self._input, self._at = rest + chunk if rest else chunk, 0

    def send(self, kind, *pieces):
        """Sends one frame. Ends the process when the worker is gone."""
        self._check(self._out_fd, self._out_is)
        out = self._out
        try:
            out.write(struct.pack("<IB", 1 + sum(map(len, pieces)), ord(kind)))
            for piece in pieces:
                out.write(piece)
            while True:
                try:
                    out.flush()
                    return
                except Exception as error:
                    # TimeoutError, which handlers of alarms like to raise, is an OSError too, but has no number then.
                    if getattr(error, "errno", None) is not None:
                        raise
                    _note_stray(error)
        except BrokenPipeError:
            os._exit(1)
        except OSError as error:
            raise Fatal(_lost("write to", error))

    def send_json(self, kind, body):
        """Sends one frame whose body is JSON. Lone surrogates leave as escapes."""
        self.send(kind, json.dumps(body).encode("ascii"))

    def _check(self, fd, identity):
        # A descriptor that the script closed may be another file by now: nothing of ours may land in that.
        try:
            same = _identity(fd) == identity
        except OSError as error:
            raise Fatal(_lost("use", error))
        if not same:
            raise Fatal(_lost("use", OSError(errno.EBADF, "it is another file now")))


def _identity(fd):
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _lost(verb, error):
    return (
        "can't {} the worker's pipe: {}; the entry script has closed descriptors that are not its own "
        "(os.closerange, or a daemon library that closes everything?)".format(verb, error)
    )


def _note_stray(error):
    note("a signal handler of the entry script raised outside run(), ignored: {}".format(failure.text_of(error)))
