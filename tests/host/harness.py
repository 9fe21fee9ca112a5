"""A worker for one host: starts it as a node would and speaks its protocol (docs/design/host-protocol.md)."""

import json
import mmap
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = os.path.join(REPOSITORY, "worker", "python")

# The interpreter under test; the tests themselves may run in another.
PYTHON = os.environ.get("FANFOLD_TEST_PYTHON") or sys.executable

# Every wait has an end; nothing here takes a tenth of it.
LIMIT_SECONDS = 30

# The script of tests that are about something else.
ECHO = "def run(mini_batch): return mini_batch\n"

PAGE_MAGIC = 0x31454741504646
STARTING, IMPORTING, INIT, WAITING, OVERHEAD, RUN, SHUTDOWN = range(7)


def lay_out(node_dir):
    """Puts the host where a worker puts it: its files and ``azureml_user`` side by side. Returns the start file."""
    host = os.path.join(node_dir, "host")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(os.path.join(SOURCES, "host"), host, ignore=ignore)
    shutil.copytree(os.path.join(SOURCES, "azureml_user"), os.path.join(host, "azureml_user"), ignore=ignore)
    return os.path.join(host, "fanfold_host.py")


class Record:
    """One finished mini-batch, out of a ``D`` or a ``P``."""

    def __init__(self, mini_batch, start_ns, run_ns, total_ns, returned, rows, cpu_ns=None, path=None):
        self.mini_batch = mini_batch
        self.start_ns, self.run_ns, self.total_ns = start_ns, run_ns, total_ns
        self.returned = returned
        self.rows = rows
        self.cpu_ns = cpu_ns
        self.path = path


class Done:
    """A ``D`` frame."""

    def __init__(self, body):
        count, first, self.shared_cpu_ns, header_len = struct.unpack_from("<IQQI", body, 0)
        at = 24
        heads = list(struct.iter_unpack("<QQQII", body[at : at + 32 * count]))
        at += 32 * count
        (pairs,) = struct.unpack_from("<I", body, at)
        at += 4
        cpu = dict(struct.iter_unpack("<IQ", body[at : at + 12 * pairs]))
        at += 12 * pairs
        self.header = body[at : at + header_len]
        at += header_len
        self.records = []
        for index, (start, run, total, returned, length) in enumerate(heads):
            self.records.append(Record(first + index, start, run, total, returned, body[at : at + length], cpu.get(index)))
            at += length
        assert at == len(body), "a D frame has {} bytes too many".format(len(body) - at)


class Host:
    """A running host. ``files`` are written into its working directory, the entry script being ``score.py``."""

    def __init__(self, script=None, files=None, env=None, start=True, node_dir=None, python=None, **config):
        self._own_dir = None
        if node_dir is None:
            node_dir = self._own_dir = tempfile.mkdtemp(prefix="fanfold-host-")
        self.dir = node_dir
        self.work = os.path.join(node_dir, "work")
        self.start_file = lay_out(node_dir)
        os.makedirs(self.work, exist_ok=True)
        files = dict(files or {})
        if script is not None:
            files["score.py"] = script
        for name, text in files.items():
            path = os.path.join(self.work, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            data = text if isinstance(text, bytes) else textwrap.dedent(text).encode("utf-8")
            with open(path, "wb") as file:
                file.write(data)
        logs = os.path.join(node_dir, "logs")
        self.config = {
            "version": 1,
            "job_id": "test-00000000",
            "node_id": "0",
            "process_name": "process000",
            "entry_script": "score.py",
            "working_dir": self.work,
            "argv": [],
            "separator": 10,
            "table": None,
            "partition_keys": [],
            "partition_encoding": None,
            "output_action": "append_row",
            "output_format": "text",
            "dataframe_header": False,
            "row_key": False,
            "logging_level": "INFO",
            "log_dir": os.path.join(logs, "entry_script_log"),
            "entry_script_log": os.path.join(logs, "entry_script_log", "process000.log.txt"),
            "stdout": os.path.join(logs, "user.stdout.txt"),
            "stderr": os.path.join(logs, "user.stderr.txt"),
            "output_dir": os.path.join(node_dir, "output"),
            "page": os.path.join(node_dir, "page"),
            "spool_dir": os.path.join(node_dir, "spool"),
            "flush_ns": 2000000,
            "flush_bytes": 1 << 20,
            "spool_bytes": 8 << 20,
            "profiling_module": None,
            "profile": os.path.join(logs, "process000.profile"),
        }
        self.config.update(config)
        os.makedirs(logs, exist_ok=True)
        with open(self.config["page"], "wb") as file:
            file.write(struct.pack("=Q", PAGE_MAGIC).ljust(4096, b"\0"))
        with open(self.config["page"], "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4096)
        self.page = memoryview(self._map).cast("Q")
        self.fd_stdout = os.path.join(logs, "fd.stdout.txt")
        self.fd_stderr = os.path.join(logs, "fd.stderr.txt")
        self._next = 0
        self._input = b""
        if start:
            self.begin(python or PYTHON, env)

    def begin(self, python=PYTHON, env=None):
        """Starts the process and sends it its configuration."""
        self.spawn(python, env)
        self.send(b"C", json.dumps(self.config).encode("ascii"))

    def spawn(self, python=PYTHON, env=None):
        """Starts the process."""
        in_read, self.to_host = os.pipe()
        self.from_host, out_write = os.pipe()
        environment = dict(os.environ)
        environment.pop("FANFOLD_ENTRY_SCRIPT", None)
        environment.update(env or {})
        with open(self.fd_stdout, "ab") as out, open(self.fd_stderr, "ab") as err:
            self.process = subprocess.Popen(
                [python, self.start_file, str(in_read), str(out_write)],
                pass_fds=(in_read, out_write),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.work,
                env=environment,
                start_new_session=True,
            )
        os.close(in_read)
        os.close(out_write)
        self.pipes = (in_read, out_write)

    def send(self, kind, body=b""):
        """Sends one frame."""
        data = memoryview(struct.pack("<IB", 1 + len(body), kind[0]) + body)
        while data:
            data = data[os.write(self.to_host, data) :]

    def receive(self, limit=LIMIT_SECONDS):
        """The next frame as ``(kind, body)``; None at the end of the output."""
        until = time.monotonic() + limit
        while True:
            if len(self._input) >= 4:
                (length,) = struct.unpack_from("<I", self._input)
                if len(self._input) >= 4 + length:
                    frame, self._input = self._input[4 : 4 + length], self._input[4 + length :]
                    return frame[:1], frame[1:]
            ready, _, _ = select.select([self.from_host], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise AssertionError("no answer; page {}; {}".format(list(self.page[:6]), self.said()))
            chunk = os.read(self.from_host, 1 << 20)
            if not chunk:
                assert not self._input, "the output ends within a frame"
                return None
            self._input += chunk

    def expect(self, kind):
        """The body of the next frame, which must be of ``kind``; JSON is decoded."""
        frame = self.receive()
        if frame is None or frame[0] != kind:
            raise AssertionError("expected {!r}, got {!r}; {}".format(kind, frame, self.said()))
        return Done(frame[1]) if kind == b"D" else json.loads(frame[1].decode("ascii"))

    def ready(self):
        """Waits for ``I``; returns self."""
        self.started = self.expect(b"I")
        return self

    def give(self, *mini_batches, attempt=1):
        """Sends one ``R`` frame; each mini-batch is a list of items. Returns the id of the first."""
        first = self._next
        separator = bytes([self.config["separator"]])
        heads, items = [], []
        for mini_batch in mini_batches:
            heads.append(struct.pack("<QII", self._next, len(mini_batch), attempt))
            self._next += 1
            for item in mini_batch:
                items += (item if isinstance(item, bytes) else item.encode("utf-8"), separator)
        self.send(b"R", struct.pack("<I", len(mini_batches)) + b"".join(heads + items))
        return first

    def answers(self, count):
        """The next ``count`` answers, in order: a ``Record``, or the dict of an ``F``."""
        found = []
        while len(found) < count:
            frame = self.receive()
            assert frame is not None, "the host is gone after {} answers; {}".format(len(found), self.said())
            kind, body = frame
            if kind == b"D":
                done = Done(body)
                found.extend(done.records)
                self.header = done.header or getattr(self, "header", b"")
            elif kind == b"P":
                told = json.loads(body.decode("ascii"))
                with open(told["path"], "rb") as file:
                    rows = file.read()
                assert len(rows) == told["rows_len"]
                found.append(
                    Record(
                        told["mini_batch"], told["start_ns"], told["run_ns"], told["total_ns"],
                        told["returned"], rows, told["cpu_ns"], told["path"],
                    )
                )  # fmt: skip
                self.header = (told["header"] or "").encode() or getattr(self, "header", b"")
            elif kind == b"F":
                found.append(json.loads(body.decode("ascii")))
            else:
                raise AssertionError("unexpected frame {!r} {!r}".format(kind, body))
        assert len(found) == count, "more answers than asked for"
        return found

    def run(self, *mini_batches):
        """Gives mini-batches and returns their answers."""
        first = self.give(*mini_batches)
        answers = self.answers(len(mini_batches))
        ids = [a["mini_batch"] if isinstance(a, dict) else a.mini_batch for a in answers]
        assert ids == list(range(first, first + len(ids))), ids
        return answers

    def rows(self, *items):
        """The rows of one mini-batch, which must succeed."""
        (answer,) = self.run(list(items))
        assert isinstance(answer, Record), answer
        return answer.rows.decode("utf-8", "surrogateescape")

    def fails(self, *items):
        """The ``F`` of one mini-batch, which must fail."""
        (answer,) = self.run(list(items))
        assert isinstance(answer, dict), answer.rows
        return answer

    def stop(self):
        """Sends ``S`` and returns the body of ``Q``."""
        self.send(b"S")
        told = self.expect(b"Q")
        assert self.leaves() == 0
        return told

    def leaves(self):
        """Waits for the end of the process, which must answer nothing more; returns its exit code."""
        frame = self.receive()
        assert frame is None, "unexpected frame {!r}".format(frame)
        return self.exit_code()

    def exit_code(self):
        """Waits for the end of the process."""
        return self.process.wait(LIMIT_SECONDS)

    def wait_for(self, what, condition):
        """Waits until ``condition()`` is true."""
        until = time.monotonic() + LIMIT_SECONDS
        while not condition():
            if time.monotonic() > until:
                raise AssertionError("waited in vain for {}; page {}; {}".format(what, list(self.page[:6]), self.said()))
            time.sleep(0.002)

    @property
    def phase(self):
        """What the page says the host is doing."""
        return self.page[2] & 0xFF

    def read(self, key):
        """The text of a log named by its configuration key, or of ``fd_stdout``, ``fd_stderr``."""
        path = self.config.get(key) or getattr(self, key)
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def said(self):
        """What the process said on stderr, for messages of failed tests."""
        return "stderr: " + self.read("stderr")[-2000:] + self.read("fd_stderr")[-2000:]

    def close(self):
        """Ends the process, whatever it does, and removes its directory."""
        for fd in (self.to_host, self.from_host):
            try:
                os.close(fd)
            except OSError:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._own_dir:
            shutil.rmtree(self._own_dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ready(*arguments, **config):
    """A host that waits for mini-batches; the arguments are those of ``Host``."""
    host = Host(*arguments, **config)
    try:
        return host.ready()
    except BaseException:
        host.close()
        raise


class OneHost(unittest.TestCase):
    """Tests of one host, which each of them leaves as it was."""

    script = ECHO
    config = {}

    @classmethod
    def setUpClass(cls):
        cls.host = ready(cls.script, **cls.config)

    @classmethod
    def tearDownClass(cls):
        cls.host.close()
