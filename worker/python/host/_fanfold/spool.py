"""Rows as bytes on their way to the worker: in memory while they fit the pipe, in a file of the spool beyond."""

import errno
import os
import time

from .wire import Fatal

_NO_ROOM_SECONDS = 0.5


class Blocks:
    """Rows as bytes, in pieces."""

    def __init__(self, blocks, length):
        self.blocks = blocks
        self.length = length


class Spooled:
    """Rows in a file of the spool."""

    def __init__(self, path, length):
        self.path = path
        self.length = length


class Spool:
    """Where rows go that are too large for the pipe: so many bytes of one mini-batch."""

    def __init__(self, config, waiting):
        self._bytes = config["spool_bytes"]
        self._dir = os.path.abspath(config["spool_dir"])
        self._stem = "{}-{}-{}".format(config["node_id"], config["process_name"], os.getpid())
        self._files = 0
        self._waiting = waiting

    def store(self):
        """An empty store for the rows of one mini-batch."""
        return Store(self._bytes, self._new_file, self._waiting)

    def _new_file(self):
        while True:
            self._files += 1
            path = os.path.join(self._dir, "{}-{}.rows".format(self._stem, self._files))
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                return path, os.open(path, flags, 0o666)
            except FileExistsError:
                continue
            except FileNotFoundError:
                os.makedirs(self._dir, exist_ok=True)


class Store:
    """Takes the rows of one mini-batch."""

    def __init__(self, spool_bytes, new_file, waiting):
        self._spool_bytes = spool_bytes
        self._new_file = new_file
        self._waiting = waiting
        self._blocks = []
        self._path = None
        self._fd = None
        self._pid = os.getpid()
        # Bytes so far.
        self.length = 0

    def put(self, data):
        """Adds bytes."""
        if not data:
            return
        self.length += len(data)
        if self._fd is None:
            self._blocks.append(data)
            if self.length <= self._spool_bytes:
                return
            self._path, self._fd = self._patiently(self._new_file)
            blocks, self._blocks = self._blocks, []
        else:
            blocks = [data]
        for block in blocks:
            view = memoryview(block)
            while view:
                view = view[self._patiently(lambda: os.write(self._fd, view)) :]

    def finish(self):
        """All that was put."""
        if self._fd is None:
            return Blocks(self._blocks, self.length)
        os.close(self._fd)
        return Spooled(self._path, self.length)

    def discard(self):
        """Forgets all that was put."""
        self._blocks = []
        # A child that the script forked in its generator comes here too; the file is its parent's.
        if self._fd is not None and self._pid == os.getpid():
            os.close(self._fd)
            self._fd = None
            os.unlink(self._path)

    def _patiently(self, action):
        """Does ``action``, waiting for room when the disk is full: that holds a job up, and never fails it."""
        try:
            return self._try(action)
        except _NoRoom:
            pass
        with self._waiting("no room for rows in the spool directory; waiting for some"):
            while True:
                time.sleep(_NO_ROOM_SECONDS)
                try:
                    return self._try(action)
                except _NoRoom:
                    pass

    @staticmethod
    def _try(action):
        try:
            return action()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _NoRoom() from None
            if error.errno is None:  # out of a signal handler of the script
                raise
            raise Fatal("can't keep rows in the spool directory: {}".format(error)) from None


class _NoRoom(Exception):
    pass
