"""Takes mini-batches, runs them and answers: the hot path, about a microsecond for each on top of ``run()``.

What keeps it short: a frame is decoded as a whole; a result costs one tuple in a list, and packing, joining and encoding
happen for all results of an answer at once; the end of one mini-batch is the start of the next, so the clock is read twice
for each; exact types are asked for first. The clocks are bound before the script is imported, so a script that replaces
``time.monotonic_ns`` does it to itself alone.
"""

import functools
import struct
import sys
import time

from . import failure
from .rows import SMALL_CHARS, BadReturn, encode
from .script import MiniBatchContext, Unreadable
from .spool import Blocks, Spooled
from .streams import note
from .wire import NO_ROOM, OVERHEAD, RUN, STOP, WAITING, Fatal

# Runs of at least this long get their own CPU time in an answer.
_LONG_NS = 1000000

_HEAD = struct.Struct("<QII")
# In an attempt: only a part of the mini-batch is meant, and the first item says which.
_PART = 1 << 31
# Rows that go out at once, with nothing behind them.
_LARGE = (Blocks, Spooled)


class Loop:
    """Serves ``R`` frames. Answers go out when they are old, large, or nothing more is to be run."""

    def __init__(self, channel, page, config):
        self._channel = channel
        self._page = page
        self._separator = chr(config["separator"])
        # Paths must survive open(), so they are decoded as it will encode them.
        self._encoding = sys.getfilesystemencoding() if config["separator"] == 0 else "utf-8"
        self._partition_keys = config["partition_keys"]
        # Of values of columns: how their bytes become text.
        self._key_values = None
        if config["partition_encoding"] is not None:
            from .groups import key_values

            self._key_values = functools.partial(key_values, config["partition_encoding"])
        self._flush_ns = config["flush_ns"]
        self._flush_bytes = config["flush_bytes"]
        self._clock = time.monotonic_ns
        self._cpu_clock = time.process_time_ns
        self._serializer = None
        # (mini-batch, start, run, total, returned, rows) of each mini-batch since the last answer.
        self._records = []
        # Length of their rows, in characters, and when they are to go out.
        self._held = 0
        self._flush_at = 0
        # (index in the records, CPU time) of those that were long.
        self._long = []
        # CPU time when the last answer went out, and how much of what came since belongs to single mini-batches.
        self._cpu_answered = self._cpu_given = 0
        # The last reading of the CPU clock, and when that was.
        self._cpu_read = self._cpu_read_at = 0
        self._finished = 0
        self.retired = False

    def waiting(self, text):
        """A context in which the page says that the host waits for room on the disk, so that nobody is charged and the job
        shows what it waits for; ``text`` goes to the log."""
        return _WaitingForRoom(self._page, text)

    def serve(self, script, run, serializer, after_frame):
        """Runs mini-batches until ``S``. ``after_frame()`` is called after each frame of them."""
        self._serializer = serializer
        channel, page = self._channel, self._page
        self._start_clocks()
        while True:
            frame = channel.take()
            if frame is None:
                self._flush()
                page.enter(WAITING)
                frame = channel.take(wait=True)
                self._start_clocks()
            kind, body = frame
            if kind == b"S":
                self._flush()
                return
            if kind != b"R":
                raise Fatal("the worker sent a frame of kind {!r}".format(kind))
            # What a retired process was already given is run elsewhere.
            if not self.retired:
                self._run_frame(body, script, run)
                after_frame()

    def _values(self, items):
        """What a mini-batch is of, from the items before its own."""
        if not self._partition_keys:
            return None
        if self._key_values is not None:
            items = self._key_values(items)
        return dict(zip(self._partition_keys, items))

    def _run_frame(self, frame, script, run):
        clock, words = self._clock, self._page.words
        settle, make_rows, append = self._serializer.settle, self._serializer.rows, self._serializer.text
        takes_context, flush_bytes, load = script.takes_context, self._flush_bytes, script.load
        namer, keys = script.namer, len(self._partition_keys)
        keep = self._records.append
        held, flush_at, finished = self._held, self._flush_at, self._finished
        at = 0

        taken = start = clock()
        (mini_batch, _, attempt_shown) = _HEAD.unpack_from(frame, 9)
        words[4] = attempt_shown & ~_PART
        part = None
        if attempt_shown & _PART:
            # Shown already, and looked at below.
            attempt_shown = None
        self._page.enter(OVERHEAD, mini_batch)
        try:
            heads, items = self._decode(frame)
        except MemoryError as error:
            self._fail(error, mini_batch, start, taken)
            return

        for mini_batch, count, attempt in heads:
            if words[STOP]:
                # The worker wants no further mini-batch begun: it takes back what is left of the frame.
                break
            end = at + count
            try:
                if attempt != attempt_shown:
                    words[4], attempt_shown, part = attempt & ~_PART, attempt, None
                    if attempt & _PART:
                        # Each has its own.
                        attempt_shown = None
                        part = tuple(map(int, items[at].split(" ")))
                        at += 1
                told = None
                if namer is not None and namer.is_told:
                    told = items[at]
                    at += 1
                mini_batch_items = items[at + keys : end]
                if load is not None:
                    # A slice of a table, which the page shows as what is around run().
                    self._page.enter(OVERHEAD, mini_batch)
                    paths = [item.split("\n", 1)[1] for item in mini_batch_items]
                    mini_batch_items = load(mini_batch_items, part)
                    start = clock()
                if namer is not None:
                    self._serializer.keys = namer.of(told, mini_batch_items, part)
                # The time goes before the phase, here and below: see Page.enter.
                words[3] = start
                words[2] = mini_batch << 8 | RUN
                if takes_context:
                    values = self._values(items[at : at + keys])
                    paths = mini_batch_items if load is None else paths
                    result = run(mini_batch_items, MiniBatchContext(mini_batch, paths, values, part))
                else:
                    result = run(mini_batch_items)
                if type(result) is not list:
                    result = settle(result)
                ran = clock()
                words[3] = ran
                words[2] = mini_batch << 8 | OVERHEAD
                rows = None
                if append and type(result) is list and len(result) == 1:
                    returned, rows = 1, str(result[0])
                    rows = rows + "\n" if len(rows) < SMALL_CHARS else None
                if rows is None:
                    returned, rows = make_rows(result)
                # What the script got and returned must not take memory from its next run().
                result = mini_batch_items = None
                done = clock()
                keep((mini_batch, start, ran - start, done - taken, returned, rows))
            except BaseException as error:
                result = rows = None
                failure.make_room(error)
                self._channel.leave_if_forked(error)
                finished += 1
                words[5] = self._finished = finished
                self._fail(error, mini_batch, start, taken)
                if self.retired:
                    return
                held, flush_at = 0, self._flush_at
                done = clock()
            else:
                finished += 1
                words[5] = finished
                large = type(rows) in _LARGE
                if large or ran - start >= _LONG_NS:
                    self._long.append((len(self._records) - 1, self._cpu_of(start, ran)))
                held = flush_bytes if large else held + len(rows)
                if held >= flush_bytes or done >= flush_at:
                    rows = None
                    self._flush()
                    held, flush_at = 0, self._flush_at
                    done = clock()
            at = end
            taken = start = done
        self._held, self._finished = held, finished
        if at != len(items) and not words[STOP]:
            raise Fatal("the worker sent {} items where the mini-batches have {}".format(len(items), at))

    def _decode(self, frame):
        """The heads of a frame as an iterator, and all its items."""
        (count,) = struct.unpack_from("<I", frame, 5)
        start = 9 + count * _HEAD.size
        items = frame[start:].decode(self._encoding, "surrogateescape").split(self._separator)
        if items.pop():
            raise Fatal("the worker sent a frame whose last item has no end")
        return _HEAD.iter_unpack(frame[9:start]), items

    def _fail(self, error, mini_batch, start, taken):
        """Answers ``F``, after what was finished before it."""
        now = self._clock()
        if isinstance(error, Fatal):
            raise error
        ran = now if self._page.phase == RUN else max(start, self._page.words[3])
        body = {
            "mini_batch": mini_batch,
            "start_ns": start,
            "run_ns": ran - start,
            "total_ns": now - taken,
            "cpu_ns": self._cpu_of(start, now),
        }
        if isinstance(error, BadReturn):
            body.update(kind="bad_return", type=error.type_name, message=str(error), traceback="", retire=False)
        elif isinstance(error, Unreadable):
            body.update(kind="input", type="", message=str(error), traceback="", retire=False, of_all=error.of_all)
        else:
            kind, self.retired = failure.classify(error)
            body.update(
                kind=kind,
                type=failure.type_name(type(error)),
                message=failure.message_of(error, "run()"),
                traceback=failure.traceback_of(error),
                retire=self.retired,
            )
        self._flush()
        self._page.enter(WAITING)
        self._channel.send_json("F", body)

    def _start_clocks(self):
        """After a wait: what other threads of the script used meanwhile belongs to no mini-batch."""
        self._cpu_answered = self._cpu_read = self._cpu_clock()
        self._cpu_given = 0
        self._cpu_read_at = self._clock()
        self._flush_at = self._cpu_read_at + self._flush_ns

    def _cpu_of(self, start, end):
        """CPU time of the mini-batch that ran from ``start`` to ``end``, which is now.

        The clock was last read some short runs ago. Those are taken to have been busy, which is right for most and wrong
        by the time between two answers at worst; the alternative is a system call for every run.
        """
        cpu = self._cpu_clock()
        used = max(0, cpu - self._cpu_read - max(0, start - self._cpu_read_at))
        self._cpu_read, self._cpu_read_at = cpu, end
        self._cpu_given += used
        return used

    def _flush(self):
        """Answers what is finished."""
        records = self._records
        if records:
            self._page.enter(WAITING)
            large = records.pop() if type(records[-1][5]) in _LARGE else None
            large_cpu = self._long.pop()[1] if large else 0
            if records:
                self._answer(records, None)
            if large and type(large[5]) is Spooled:
                self._answer_spooled(large, large_cpu)
            elif large:
                self._long.append((0, large_cpu))
                self._answer([large], large[5])
            records.clear()
        self._held = 0
        self._flush_at = self._clock() + self._flush_ns

    def _answer(self, records, blocks):
        mini_batches, starts, runs, totals, returned, texts = zip(*records)
        if blocks is not None:
            lengths, body = [blocks.length], blocks.blocks
        elif type(texts[0]) is bytes:
            lengths, body = map(len, texts), texts
        else:
            text = "".join(texts)
            if text.isascii():
                lengths, body = map(len, texts), [text.encode("ascii")]
            else:
                body = list(map(encode, texts))
                lengths = map(len, body)
        count = len(records)
        header = self._take_header()
        cpu = self._cpu_clock()
        shared = max(0, cpu - self._cpu_answered - self._cpu_given)
        self._cpu_answered = self._cpu_read = cpu
        self._cpu_read_at, self._cpu_given = self._clock(), 0

        words = [0] * (4 * count)
        words[0::4], words[1::4], words[2::4] = starts, runs, totals
        # The last two u32 of a record as one u64.
        words[3::4] = [min(n, 0xFFFFFFFF) | length << 32 for n, length in zip(returned, lengths)]
        head = struct.pack("<IQQI{}QI".format(4 * count), count, mini_batches[0], shared, len(header), *words, len(self._long))
        pairs = b"".join([struct.pack("<IQ", index, used) for index, used in self._long])
        self._long.clear()
        self._channel.send("D", head, pairs, header, *body)

    def _answer_spooled(self, record, cpu):
        mini_batch, start, run_ns, total_ns, returned, spooled = record
        body = {
            "mini_batch": mini_batch,
            "path": spooled.path,
            "rows_len": spooled.length,
            "returned": returned,
            "start_ns": start,
            "run_ns": run_ns,
            "total_ns": total_ns,
            "cpu_ns": cpu,
            "header": self._take_header().decode("utf-8", "backslashreplace"),
        }
        self._channel.send_json("P", body)

    def _take_header(self):
        header, self._serializer.header = self._serializer.header, None
        return encode(header) if header else b""


class _WaitingForRoom:
    def __init__(self, page, text):
        self._page = page
        self._text = text
        self._shown = 0

    def __enter__(self):
        self._shown = self._page.words[2]
        self._page.enter(NO_ROOM, self._shown >> 8)
        note(self._text)

    def __exit__(self, *_):
        self._page.enter(self._shown & 0xFF, self._shown >> 8)
