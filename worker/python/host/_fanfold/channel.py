"""Frames over the two pipes to the worker: `u32 length`, `u8 kind`, body; little-endian."""
import errno
import json
import os
import struct

_HEAD = struct.Struct("<IB")


class Closed(Exception):
    """The worker is gone, or the script closed our descriptors."""


class Channel:
    def __init__(self, in_fd, out_fd):
        # What the script starts must not hold the pipes.
        os.set_inheritable(in_fd, False)
        os.set_inheritable(out_fd, False)
        self._in = in_fd
        self._out = out_fd
        self._buffer = b""

    def receive(self):
        """The next frame as (kind, body); None at the end of the input."""
        head = self._exactly(5)
        if head is None:
            return None
        length, kind = _HEAD.unpack(head)
        return kind, self._exactly(length - 1)

    def _exactly(self, count):
        buffer = self._buffer
        if len(buffer) < count:
            parts, have = [buffer], len(buffer)
            while have < count:
                try:
                    part = os.read(self._in, max(65536, count - have))
                except OSError as error:
                    raise Closed(str(error))
                if not part:
                    return None
                parts.append(part)
                have += len(part)
            buffer = b"".join(parts)
        self._buffer = buffer[count:]
        return buffer[:count]

    def send(self, kind, *parts):
        """Sends one frame whose body is the parts, one after the other."""
        length = 1
        for part in parts:
            length += len(part)
        head = _HEAD.pack(length, ord(kind))
        if length <= 65536:
            self._write(b"".join((head,) + parts))
        else:
            self._write(head)
            for part in parts:
                self._write(part)

    def send_json(self, kind, value):
        # ASCII: lone surrogates (names that are not UTF-8) travel escaped.
        self.send(kind, json.dumps(value).encode("ascii"))

    def _write(self, data):
        data = memoryview(data)
        while len(data):
            try:
                data = data[os.write(self._out, data):]
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise Closed(str(error))
