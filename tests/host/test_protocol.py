"""Frames, the page, when answers go out, and the spool."""

import json
import os
import struct
import threading
import time
import unittest

from harness import ECHO, IMPORTING, INIT, OVERHEAD, RUN, SHUTDOWN, WAITING, Done, Host, ready

# Blocks in a function until the test makes the file.
GATE = """
import os, time
def gate(name):
    open(name + ".reached", "w").close()
    while not os.path.exists(name):
        time.sleep(0.002)
"""


class Gates:
    """The test's side of GATE."""

    def __init__(self, host):
        self.host = host

    def reached(self, name):
        path = os.path.join(self.host.work, name + ".reached")
        self.host.wait_for("gate " + name, lambda: os.path.exists(path))

    def open(self, name):
        open(os.path.join(self.host.work, name), "w").close()


class Frames(unittest.TestCase):
    def test_a_job_from_configuration_to_shutdown(self):
        with ready(ECHO) as host:
            self.assertEqual(sorted(host.started), ["init_seconds", "load_seconds", "python"])
            self.assertRegex(host.started["python"], r"^3\.\d+\.\d+")
            answers = host.run(["a", "b"], ["c"], [])
            self.assertEqual([a.rows for a in answers], [b"a\nb\n", b"c\n", b""])
            self.assertEqual([a.returned for a in answers], [2, 1, 0])
            self.assertEqual(host.stop(), {"traceback": None})

    def test_times_are_those_of_the_run(self):
        with ready("import time\ndef run(mini_batch): time.sleep(0.05); return mini_batch\n") as host:
            before = time.monotonic_ns()
            first, second = host.run(["a"], ["b"])
            after = time.monotonic_ns()
            for record in (first, second):
                self.assertGreaterEqual(record.run_ns, 50_000_000)
                self.assertGreaterEqual(record.total_ns, record.run_ns)
            self.assertTrue(before < first.start_ns < first.start_ns + first.run_ns <= second.start_ns < after)

    def test_cpu_time_is_told_apart_for_long_runs_and_summed_for_short_ones(self):
        script = """
            import time
            def run(mini_batch):
                until = time.process_time() + float(mini_batch[0])
                while time.process_time() < until: pass
                time.sleep(float(mini_batch[1]))
                return mini_batch
        """
        with ready(script, flush_ns=10**12) as host:
            host.give(["0", "0"], ["0.03", "0"], ["0", "0.03"], ["0", "0"])
            done = host.expect(b"D")
            for record in done.records:
                self.assertEqual(record.cpu_ns is not None, record.run_ns >= 1_000_000)
            self.assertGreaterEqual(done.records[1].cpu_ns, 29_000_000)
            self.assertLess(done.records[2].cpu_ns, 20_000_000)
            self.assertLess(done.shared_cpu_ns, 20_000_000)

    def test_frames_may_come_in_any_pieces(self):
        with ready(ECHO) as host:
            body = struct.pack("<I", 1) + struct.pack("<QII", 0, 2, 1) + b"one\ntwo\n"
            frame = struct.pack("<IB", 1 + len(body), ord("R")) + body
            for byte in frame + frame[:7]:
                os.write(host.to_host, bytes([byte]))
            (first,) = host.answers(1)
            os.write(host.to_host, frame[7:])
            (second,) = host.answers(1)
            self.assertEqual((first.rows, second.rows), (b"one\ntwo\n",) * 2)

    def test_a_frame_larger_than_the_pipe(self):
        items = ["{:07}".format(n) for n in range(300000)]
        with ready(ECHO) as host:
            feeder = threading.Thread(target=host.give, args=(items, ["last"]))
            feeder.start()
            large, last = host.answers(2)
            feeder.join()
            self.assertEqual(large.rows.decode().split(), items)
            self.assertEqual(last.rows, b"last\n")

    def test_failures_keep_their_place_among_the_answers(self):
        script = "def run(mini_batch): return [1 // int(item) for item in mini_batch]\n"
        with ready(script, flush_ns=10**12) as host:
            host.give(["1"], ["1"], ["0"], ["1"], ["0"])
            kinds = []
            while len(kinds) < 4:
                kind, body = host.receive()
                kinds.append((kind, Done(body).records[0].mini_batch if kind == b"D" else json.loads(body.decode())["mini_batch"]))
            self.assertEqual(kinds, [(b"D", 0), (b"F", 2), (b"D", 3), (b"F", 4)])

    def test_the_worker_dying_ends_the_host_at_once(self):
        script = ECHO + "def shutdown(): open('shut', 'w').close()\n"
        with ready(script) as host:
            host.run(["a"])
            os.close(host.to_host)
            self.assertNotEqual(host.leaves(), 0)
            self.assertFalse(os.path.exists(os.path.join(host.work, "shut")))

    def test_a_worker_of_another_version_is_refused(self):
        with Host(ECHO, version=2) as host:
            self.assertEqual(host.leaves(), 3)
            self.assertIn("the worker speaks version 2", host.read("fd_stderr"))

    def test_an_old_python_is_refused_in_words(self):
        with Host(ECHO, start=False) as host:
            with open(host.start_file) as file:
                text = file.read()
            self.assertIn("sys.version_info < (3, 7)", text)
            with open(host.start_file, "w") as file:
                file.write(text.replace("sys.version_info < (3, 7)", "True"))
            host.spawn()
            told = host.expect(b"X")
            self.assertEqual(told["stage"], "import")
            self.assertIn("needs Python 3.7 or later", told["message"])
            self.assertEqual(host.exit_code(), 1)


class WhenAnswersGoOut(unittest.TestCase):
    def collect(self, host, count):
        sizes = []
        while sum(sizes) < count:
            sizes.append(len(host.expect(b"D").records))
        return sizes

    def test_short_runs_share_an_answer(self):
        with ready(ECHO, flush_ns=10**12) as host:
            host.give(*[[str(n)] for n in range(500)])
            self.assertEqual(self.collect(host, 500), [500])

    def test_an_answer_leaves_when_it_is_large(self):
        with ready(ECHO, flush_ns=10**12, flush_bytes=1000) as host:
            host.give(*[["x" * 99] for _ in range(100)])
            self.assertEqual(self.collect(host, 100), [10] * 10)

    def test_an_answer_leaves_when_it_is_old(self):
        with ready("import time\ndef run(mini_batch): time.sleep(0.003); return mini_batch\n") as host:
            host.give(["a"], ["b"], ["c"])
            self.assertEqual(self.collect(host, 3), [1, 1, 1])

    def test_a_stream_of_small_frames_does_not_hold_answers_back(self):
        script = GATE + (
            "def run(mini_batch):\n"
            "    if mini_batch == ['0']: gate('all given')\n"
            "    time.sleep(0.0005)\n"
            "    return mini_batch\n"
        )
        with ready(script) as host:
            for n in range(400):
                host.give([str(n)])
            Gates(host).open("all given")
            self.assertGreater(len(self.collect(host, 400)), 20)


class ThePage(unittest.TestCase):
    def test_asked_to_stop_it_finishes_what_runs_and_begins_nothing(self):
        script = GATE + "def run(mini_batch):\n    if mini_batch == ['a']: gate('go')\n    return mini_batch\n"
        with ready(script) as host:
            host.give(["a"], ["b"], ["c"])
            Gates(host).reached("go")
            host.page[6] = 1
            Gates(host).open("go")
            self.assertEqual([a.rows for a in host.answers(1)], [b"a\n"])
            self.assertEqual(host.stop(), {"traceback": None})

    def test_it_shows_every_phase(self):
        script = GATE + (
            "gate('import')\n"
            "def init(): gate('init')\n"
            "def run(mini_batch):\n"
            "    gate('run')\n"
            "    class Slow:\n"
            "        def __str__(self): gate('str'); return 'x'\n"
            "    return [Slow()]\n"
            "def shutdown(): gate('shutdown')\n"
        )
        with Host(script) as host:
            gates = Gates(host)
            gates.reached("import")
            self.assertEqual(host.page[1], host.process.pid)
            self.assertEqual(host.phase, IMPORTING)
            gates.open("import")
            gates.reached("init")
            self.assertEqual(host.phase, INIT)
            gates.open("init")
            host.ready()
            self.assertEqual(host.phase, WAITING)
            host._next = 41
            before = time.monotonic_ns()
            host.give(["a"], attempt=3)
            gates.reached("run")
            self.assertEqual(host.page[2], 41 << 8 | RUN)
            self.assertEqual((host.page[4], host.page[5]), (3, 0))
            self.assertTrue(before < host.page[3] < time.monotonic_ns())
            gates.open("run")
            gates.reached("str")
            self.assertEqual(host.page[2], 41 << 8 | OVERHEAD)
            gates.open("str")
            host.answers(1)
            host.wait_for("waiting", lambda: host.phase == WAITING)
            self.assertEqual(host.page[5], 1)
            host.send(b"S")
            gates.reached("shutdown")
            self.assertEqual(host.phase, SHUTDOWN)
            gates.open("shutdown")
            host.expect(b"Q")

    def test_nobody_is_named_while_an_answer_waits_for_the_worker(self):
        with ready("def run(mini_batch): return ['x' * 500000]\n", flush_bytes=1000) as host:
            host.give(["a"])
            # The pipe takes 64 KiB; the rest waits until the test reads.
            host.wait_for("the answer to fill the pipe", lambda: host.phase == WAITING and host.page[5] == 1)
            self.assertEqual(host.answers(1)[0].returned, 1)

    def test_failed_mini_batches_are_finished_ones(self):
        with ready("def run(mini_batch): return None\n") as host:
            host.run(["a"], ["b"])
            self.assertEqual(host.page[5], 2)

    def test_a_file_that_is_no_page_is_refused(self):
        with Host(ECHO, start=False) as host:
            host.page[0] = 7
            host.begin()
            self.assertEqual(host.leaves(), 3)
            self.assertIn("is not a page of fanfold", host.read("fd_stderr"))


class Text(unittest.TestCase):
    def test_lengths_are_bytes_whatever_the_alphabet(self):
        with ready(ECHO, flush_ns=10**12) as host:
            texts = ["plain", "Grüße", "日本語", "🦀🦀", "plain again"]
            answers = host.run(*[[text] for text in texts])
            self.assertEqual([a.rows.decode() for a in answers], [text + "\n" for text in texts])

    def test_paths_need_not_be_utf_8(self):
        script = """
            def run(mini_batch):
                for path in mini_batch: open(path).close()
                return mini_batch
        """
        with ready(script, separator=0) as host:
            names = [os.path.join(os.fsencode(host.work), name) for name in (b"a b", b"line\nbreak", b"caf\xe9", "ü".encode())]
            for name in names:
                open(name, "w").close()
            (answer,) = host.run(names)
            self.assertEqual(answer.rows, b"\n".join(names) + b"\n")

    def test_characters_that_can_not_be_encoded_do_not_fail_an_attempt(self):
        with ready("def run(mini_batch): return ['\\ud800 \\udce9 \\u00fc', '\\udfff']\n") as host:
            (answer,) = host.run(["a"])
            self.assertEqual(answer.rows, b"\\ud800 \xe9 \xc3\xbc\n\\udfff\n")

    def test_a_line_ends_at_newlines_only(self):
        with ready(ECHO) as host:
            self.assertEqual(host.rows("a\rb\x0bc\u2028d", "", "e"), "a\rb\x0bc\u2028d\n\ne\n")


class LargeRows(unittest.TestCase):
    def test_rows_beyond_the_limit_go_to_the_spool(self):
        script = """
            def run(mini_batch):
                n = int(mini_batch[0])
                if mini_batch[1] == "one": return ["x" * n]
                if mini_batch[1] == "many": return ["ü" * 99] * (n // 100)
                return ("%099d" % i for i in range(n // 100))
        """
        with ready(script, spool_bytes=1 << 20) as host:
            small = 1000
            for kind in ("one", "many", "generated"):
                for size in (small, 500_000, 3_000_000):
                    first, large, last = host.run([str(small), kind], [str(size), kind], [str(small), kind])
                    self.assertEqual(large.path is not None, size == 3_000_000, (kind, size))
                    if kind == "one":
                        self.assertEqual(large.rows, b"x" * size + b"\n")
                    elif kind == "many":
                        self.assertEqual(large.rows, ("ü" * 99 + "\n").encode() * (size // 100))
                    else:
                        self.assertEqual(large.rows, b"".join(b"%099d\n" % i for i in range(size // 100)))
                    self.assertEqual(large.returned, 1 if kind == "one" else size // 100)
                    self.assertEqual(first.rows, last.rows)
                    if large.path:
                        self.assertEqual(os.path.dirname(large.path), host.config["spool_dir"])
                        self.assertIsNotNone(large.cpu_ns)

    def test_memory_does_not_double(self):
        script = """
            import resource
            def run(mini_batch):
                if mini_batch[0] == "peak":
                    return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
                return ("x" * 1000 for _ in range(100000))
        """
        with ready(script, spool_bytes=1 << 20) as host:
            before = int(host.rows("peak"))
            (large,) = host.run(["100 MB"])
            self.assertEqual(len(large.rows), 100_100_000)
            self.assertLess(int(host.rows("peak")) - before, 30_000, "KiB more for rows of 100 MB")

    def test_a_generator_that_raises_leaves_no_file(self):
        script = """
            def run(mini_batch):
                for _ in range(1000):
                    yield "x" * 10000
                raise ValueError("late")
        """
        with ready(script, spool_bytes=1 << 20) as host:
            told = host.fails("a")
            self.assertEqual(told["message"], "ValueError: late")
            self.assertEqual(os.listdir(host.config["spool_dir"]), [])

    def test_a_full_spool_is_waited_for_and_charged_to_nobody(self):
        script = """
            import errno, mmap, os
            with open("../page", "r+b") as file:
                page = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
            seen, write = [], os.write
            def full(fd, data):
                seen.append(page[2] & 0xFF)
                if len(seen) in (2, 3, 4): raise OSError(errno.ENOSPC, "No space left on device")
                return write(fd, data[:1000000])
            def run(mini_batch):
                if mini_batch[0] == "seen": return seen[:5]
                os.write = full
                return ["x" * 3000000]
        """
        with ready(script, spool_bytes=1 << 20) as host:
            (answer,) = host.run(["large"])
            self.assertEqual(answer.rows, b"x" * 3000000 + b"\n")
            self.assertEqual(host.rows("seen"), "4\n4\n7\n7\n7\n")
            self.assertIn("no room for rows in the spool directory", host.read("stderr"))

    def test_a_spool_that_can_not_be_written_ends_the_host_in_words(self):
        with ready("def run(mini_batch): return ['x' * 3000000]\n", spool_bytes=1 << 20) as host:
            with open(host.config["spool_dir"], "w"):
                pass
            host.give(["a"])
            self.assertEqual(host.leaves(), 3)
            self.assertIn("can't keep rows in the spool directory", host.read("stderr"))


if __name__ == "__main__":
    unittest.main()
