"""Runs mini-batches. A run() that returns at once costs about a microsecond here: what is short is done for a whole frame."""
import os
import struct
from time import monotonic_ns, process_time_ns

from . import failure, page as pages, streams
from .rows import BadReturn
from .script import Context

_RUN, _SHUT_DOWN = ord("R"), ord("S")
_COUNT = struct.Struct("<I")
_DONE = struct.Struct("<IQQI")
_PAIR = struct.Struct("<IQ")
# Runs shorter than this share what CPU time their frame used.
_MEASURED_NS = 1000000


class Loop:
    def __init__(self, channel, page, script, rows, config, profile):
        self._channel = channel
        self._page = page
        self._script = script
        self._rows = rows
        self._profile = profile
        self._separator = chr(config["separator"])
        self._flush_ns = config["flush_ns"]
        self._flush_bytes = config["flush_bytes"]
        self._spool_bytes = config["spool_bytes"]
        self._spool_dir = config["spool_dir"]
        self._pid = os.getpid()
        self._retired = False
        self._forget()
        self._flushed = monotonic_ns()

    def run(self):
        """True: asked to shut down. False: the worker is gone."""
        while True:
            frame = self._channel.receive()
            if frame is None:
                return False
            kind, body = frame
            if kind == _SHUT_DOWN:
                return True
            if kind == _RUN and not self._retired:
                self._frame(body)
                self._page[pages.SINCE] = monotonic_ns()
                self._page[pages.STATE] = pages.WAITING
                self._flush()

    def _frame(self, body):
        count = _COUNT.unpack_from(body)[0]
        table = struct.unpack_from("<" + "QII" * count, body, 4)
        text = body[4 + 16 * count:].decode("utf-8", "surrogateescape")
        items = text.split(self._separator)
        page, script, profile = self._page, self._script, self._profile
        run, take, make = script.run, self._rows.take, self._rows.make
        wants_context, profiled = script.wants_context, profile.on
        STATE, SINCE, ATTEMPT, FINISHED, STOP = pages.STATE, pages.SINCE, pages.ATTEMPT, pages.FINISHED, pages.STOP
        OVERHEAD, RUN = pages.OVERHEAD, pages.RUN
        times, rows, records = self._times, self._row_parts, self._records
        flush_ns, flush_bytes, spool_bytes = self._flush_ns, self._flush_bytes, self._spool_bytes
        at = 0
        for index in range(0, 3 * count, 3):
            if page[STOP]:
                return
            mini_batch = table[index]
            end = at + table[index + 1]
            mine = items[at:end]
            at = end
            start = monotonic_ns()
            page[ATTEMPT] = table[index + 2]
            page[SINCE] = start
            page[STATE] = mini_batch << 8 | RUN
            try:
                if wants_context:
                    arguments = (mine, Context(mini_batch, mine))
                else:
                    arguments = (mine,)
                if profiled:
                    result = profile.call(lambda: take(run(*arguments)))
                else:
                    result = take(run(*arguments))
                ran = monotonic_ns()
                page[SINCE] = ran
                page[STATE] = mini_batch << 8 | OVERHEAD
                data, header = make(result)
                returned = len(result)
            except BaseException as error:
                self._failed(mini_batch, start, error)
                if self._retired:
                    return
                continue
            # Not kept until the next mini-batch is done: results may be large.
            result = mine = arguments = None
            done = monotonic_ns()
            page[FINISHED] += 1
            if ran - start >= _MEASURED_NS or len(data) > spool_bytes:
                # Only a run that takes long enough can have left this process forked, so only then it is asked.
                if os.getpid() != self._pid:
                    os._exit(0)
                cpu = self._cpu_since_last()
                if len(data) > spool_bytes:
                    self._spool(mini_batch, data, header, returned, start, ran, done, cpu)
                    data = None
                    continue
                self._measured.append((len(records) // 5, cpu))
            if header:
                self._header = header
            if not records:
                self._first = mini_batch
            records += (start, ran - start, done - start, returned, len(data))
            if data:
                rows.append(data)
                self._bytes += len(data)
            data = None
            if done - self._flushed >= flush_ns or self._bytes >= flush_bytes:
                self._flush()
                times, rows, records = self._times, self._row_parts, self._records

    def _cpu_since_last(self):
        now = process_time_ns()
        cpu, self._cpu = now - self._cpu, now
        return cpu

    def _forget(self):
        self._first = 0
        self._records = []
        self._row_parts = []
        self._measured = []
        self._header = b""
        self._bytes = 0
        self._times = None
        self._cpu = process_time_ns()

    def _flush(self):
        self._flushed = monotonic_ns()
        records = self._records
        if not records:
            return
        if os.getpid() != self._pid:
            # run() forked, and the child has come back here: it is not this process.
            os._exit(0)
        count = len(records) // 5
        head = _DONE.pack(count, self._first, self._cpu_since_last(), len(self._header))
        body = struct.pack("<" + "QQQII" * count, *records)
        pairs = b"".join(_PAIR.pack(*pair) for pair in self._measured)
        parts = (head, body, _COUNT.pack(len(self._measured)), pairs, self._header, b"".join(self._row_parts))
        self._forget()
        self._channel.send("D", *parts)

    def _spool(self, mini_batch, data, header, returned, start, ran, done, cpu):
        self._flush()
        path = os.path.join(self._spool_dir, "%d-%d.rows" % (self._pid, mini_batch))
        with open(path, "wb", buffering=0) as file:
            rest = memoryview(data)
            while len(rest):
                rest = rest[file.write(rest[:1 << 20]):]
        self._channel.send_json("P", {
            "mini_batch": mini_batch, "path": path, "rows_len": len(data), "returned": returned,
            "start_ns": start, "run_ns": ran - start, "total_ns": done - start, "cpu_ns": cpu,
            "header": header.decode("utf-8", "surrogateescape") if header else None,
        })

    def _failed(self, mini_batch, start, error):
        done = monotonic_ns()
        if os.getpid() != self._pid:
            os._exit(0)
        # What came before this one must arrive before it; its own CPU time begins after theirs.
        self._flush()
        self._page[pages.FINISHED] += 1
        streams.flush()
        if isinstance(error, BadReturn):
            kind, line, retire, trace = "bad_return", str(error), False, ""
        else:
            kind, line, retire = failure.classify(error)
            trace = failure.trace(error)
        self._retired = retire
        self._channel.send_json("F", {
            "mini_batch": mini_batch, "kind": kind, "type": type(error).__name__, "message": line, "traceback": trace,
            "start_ns": start, "run_ns": done - start, "total_ns": done - start, "cpu_ns": self._cpu_since_last(),
            "retire": retire,
        })
