"""Where the script's text goes: sys.stdout, sys.stderr and the root logger. A log that can't be written stops nothing."""
import io
import logging
import os
import sys

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogFile(io.RawIOBase):
    """An append-only file that swallows what the disk refuses: a full disk must not fail a mini-batch."""

    def __init__(self, path):
        super().__init__()
        self.name = path
        self.mode = "ab"
        try:
            self._fd = os.open(path, APPEND, 0o666)
        except OSError:
            self._fd = None

    def writable(self):
        return True

    def fileno(self):
        if self._fd is None:
            raise io.UnsupportedOperation("fileno")
        return self._fd

    def write(self, data):
        length = len(data)
        data = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        while self._fd is not None and len(data):
            try:
                data = data[os.write(self._fd, data):]
            except OSError:
                break
        return length

    def close(self):
        if not self.closed:
            fd, self._fd = self._fd, None
            super().close()
            if fd is not None:
                try:
                    os.close(fd)
                except OSError:
                    pass


def text_file(path):
    """A line-buffered text file for a stream of the script."""
    return io.TextIOWrapper(
        io.BufferedWriter(LogFile(path), 8192), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def redirect(stdout, stderr):
    """Gives the script its streams, and the root logger its handler (default level WARNING)."""
    logging.raiseExceptions = False
    sys.stdout = sys.__stdout__ = text_file(stdout)
    sys.stderr = sys.__stderr__ = text_file(stderr)
    handler = logging.StreamHandler(text_file(stdout))
    handler.setFormatter(logging.Formatter("%(asctime)s|%(levelname)s|%(process)d|%(name)s|%(message)s"))
    logging.getLogger().addHandler(handler)


def flush():
    """Flushes the script's streams, whatever it has made of them."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
