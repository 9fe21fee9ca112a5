"""Nothing that the script prints, closes, forks, replaces or signals disturbs the protocol."""

import os
import pstats
import signal
import sys
import time
import unittest

from harness import ECHO, PYTHON, WAITING, ready


class Output(unittest.TestCase):
    def test_streams_and_descriptors_have_files_of_their_own(self):
        script = """
            import os, subprocess, sys
            print("imported")
            def run(mini_batch):
                print("to stdout", "ü \\ud800")
                print("to stderr", file=sys.stderr)
                sys.stdout.buffer.write(b"bytes\\n")
                os.write(1, b"to descriptor 1\\n")
                subprocess.call(["sh", "-c", "echo from a child; echo and its errors >&2"])
                subprocess.call(["echo", "redirected"], stdout=sys.stdout)
                return [sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty(), sys.stdin.read()]
        """
        with ready(script, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}) as host:
            self.assertEqual(host.rows("a"), "utf-8\nbackslashreplace\nFalse\n\n")
            self.assertEqual(host.read("stdout"), "imported\nto stdout ü \\ud800\nredirected\n")
            # Bytes written below the text layer wait for the next flush, as they do in any Python.
            host.stop()
            self.assertIn("bytes\n", host.read("stdout"))
            self.assertEqual(host.read("stderr"), "to stderr\n")
            self.assertEqual(host.read("fd_stdout"), "to descriptor 1\nfrom a child\n")
            self.assertEqual(host.read("fd_stderr"), "and its errors\n")

    def test_lines_are_there_at_once_and_the_rest_at_the_end(self):
        with ready("def run(mini_batch): print('line'); print('rest', end=''); return mini_batch\n") as host:
            host.rows("a")
            self.assertEqual(host.read("stdout"), "line\n")
            host.stop()
            self.assertEqual(host.read("stdout"), "line\nrest")

    def test_a_second_process_appends(self):
        with ready("print('again')\n" + ECHO) as host:
            host.stop()
            os.close(host.to_host)
            host.begin()
            host.ready()
            self.assertEqual(host.read("stdout"), "again\nagain\n")

    def test_a_hundred_megabytes_without_a_newline(self):
        script = "def run(mini_batch):\n    for _ in range(100): print('x' * 1000000, end='')\n    return mini_batch\n"
        with ready(script) as host:
            self.assertEqual(host.rows("a"), "a\n")
            host.stop()
            self.assertEqual(os.path.getsize(host.config["stdout"]), 100_000_000)

    def test_closed_and_replaced_streams(self):
        script = """
            import io, logging, os, sys
            def run(mini_batch):
                what = mini_batch[0]
                if what == "descriptors": os.close(0); os.close(1); os.close(2)
                if what == "streams": sys.stdout.close(); sys.stderr.close()
                if what == "replaced": sys.stdout = sys.stderr = io.StringIO()
                if what == "gone": sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
                if what == "log": logging.warning("still logging")
                return mini_batch
        """
        with ready(script) as host:
            for what in ("descriptors", "streams", "replaced", "gone", "log"):
                self.assertEqual(host.rows(what), what + "\n")
            host.stop()
            self.assertIn("still logging", host.read("stdout"))

    def test_full_disks_fail_nothing(self):
        script = """
            import logging, sys
            from azureml_user.parallel_run import EntryScript
            def run(mini_batch):
                for _ in range(3):
                    print("x" * 100000)
                    print("x" * 100000, file=sys.stderr)
                    sys.stdout.buffer.write(b"x" * 100000)
                    sys.stdout.flush()
                    logging.error("x" * 100000)
                    EntryScript().logger.error("x" * 100000)
                return mini_batch
        """
        with ready(script, stdout="/dev/full", stderr="/dev/full", entry_script_log="/dev/full") as host:
            self.assertEqual([host.rows("a"), host.rows("b")], ["a\n", "b\n"])
            self.assertIsNone(host.stop()["traceback"])
            self.assertEqual(host.read("fd_stderr"), "")

    def test_logs_that_can_not_be_opened_fail_nothing(self):
        with ready("print('x')\n" + ECHO, stdout="/proc/no/such", stderr="/proc/no/such") as host:
            self.assertEqual(host.rows("a"), "a\n")
            self.assertIn("can't open /proc/no/such", host.read("fd_stderr"))

    def test_a_crash_leaves_the_stack_on_descriptor_2(self):
        script = "import ctypes, os\ndef crash(): ctypes.string_at(0)\ndef run(mini_batch): {}; crash()\n"
        for first in ("pass", "os.close(2)"):
            with ready(script.format(first)) as host:
                host.give(["a"])
                self.assertEqual(host.leaves(), -signal.SIGSEGV)
                self.assertRegex(host.read("fd_stderr"), r"Fatal Python error(.|\n)*score.py\", line 2 in crash")


class Logging(unittest.TestCase):
    def test_the_root_logger_writes_warnings_into_the_stdout_file(self):
        script = """
            import logging
            def run(mini_batch):
                logging.info("hidden")
                logging.warning("shown %s", "ü")
                logging.getLogger("own").error("named")
                return [logging.getLogger().level]
        """
        with ready(script) as host:
            self.assertEqual(host.rows("a"), "30\n")
            lines = host.read("stdout").splitlines()
            self.assertEqual(len(lines), 2)
            pid = host.process.pid
            self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\|root\|WARNING\|%d\|\d+\|run\(\)\|shown ü$" % pid)
            self.assertRegex(lines[1], r"\|own\|ERROR\|.*\|named$")


class Forks(unittest.TestCase):
    def test_a_child_that_falls_out_of_run_answers_nothing(self):
        script = """
            import os, sys
            def run(mini_batch):
                pid = os.fork()
                if pid == 0:
                    if mini_batch[0] == "exit": sys.exit(7)
                    if mini_batch[0] == "raise": raise ValueError("in the child")
                    if mini_batch[0] == "yield": return (item for item in mini_batch)
                    return mini_batch
                return [os.WEXITSTATUS(os.waitpid(pid, 0)[1])]
        """
        with ready(script) as host:
            for how, code in (("return", 0), ("exit", 7), ("raise", 1), ("yield", 0)):
                host.give([how], [how])
                self.assertEqual([a.rows for a in host.answers(2)], [b"%d\n" % code] * 2, how)
            self.assertIn("ValueError: in the child", host.read("stderr"))
            self.assertEqual(host.page[5], 8)
            host.stop()

    def test_a_child_that_falls_out_of_init_or_the_import_answers_nothing(self):
        fork = "\n    import os\n    pid = os.fork()\n    if pid: code = os.WEXITSTATUS(os.waitpid(pid, 0)[1])\n"
        for script in ("if True:" + fork, "def init():\n    global code" + fork):
            with ready(script + "def run(mini_batch): return [code]\n") as host:
                self.assertEqual(host.rows("a"), "0\n")
                host.stop()

    def test_children_do_not_hold_the_pipes(self):
        script = """
            import os, subprocess, sys, time
            def pipes(): return {os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)}
            def run(mini_batch):
                if os.fork() == 0:
                    time.sleep(600)
                    os._exit(0)
                child = subprocess.Popen(["sleep", "600"], close_fds=False)
                return [os.getpid()]
        """
        with ready(script) as host:
            host.rows("a")
            host.send(b"S")
            host.expect(b"Q")
            self.assertIsNone(host.receive(), "the end of the output is seen although children live")
            os.killpg(host.process.pid, signal.SIGKILL)


class Descriptors(unittest.TestCase):
    def test_closing_everything_ends_the_host_in_words(self):
        with ready("import os\ndef run(mini_batch): os.closerange(3, 256); return mini_batch\n") as host:
            host.give(["a"])
            self.assertEqual(host.leaves(), 3)
            for log in ("stderr", "fd_stderr"):
                self.assertIn("the entry script has closed descriptors that are not its own", host.read(log))

    def test_nothing_of_ours_lands_in_a_file_that_took_our_descriptor(self):
        script = """
            import os
            def run(mini_batch):
                file = open("own.txt", "w")
                for fd in range(3, 256):
                    try:
                        if os.readlink("/proc/self/fd/%d" % fd).startswith("pipe:"): os.dup2(file.fileno(), fd)
                    except OSError: pass
                return mini_batch
        """
        with ready(script) as host:
            host.give(["a"])
            self.assertEqual(host.leaves(), 3)
            self.assertEqual(os.path.getsize(os.path.join(host.work, "own.txt")), 0)


class Signals(unittest.TestCase):
    def test_interrupts_are_ignored_and_termination_works(self):
        with ready(ECHO) as host:
            host.process.send_signal(signal.SIGINT)
            self.assertEqual(host.rows("a"), "a\n")
            host.process.send_signal(signal.SIGTERM)
            self.assertEqual(host.exit_code(), -signal.SIGTERM)

    def test_a_handler_that_exits_may(self):
        script = "import signal, sys\ndef init(): signal.signal(signal.SIGTERM, lambda *a: sys.exit(5))\n" + ECHO
        with ready(script) as host:
            host.process.send_signal(signal.SIGTERM)
            self.assertEqual(host.exit_code(), 5)

    def test_a_forgotten_alarm_is_noted(self):
        script = """
            import signal
            def alarmed(*_): raise TimeoutError("too slow")
            def run(mini_batch):
                signal.signal(signal.SIGALRM, alarmed)
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                return mini_batch
        """
        with ready(script) as host:
            self.assertEqual(host.rows("a"), "a\n")
            host.wait_for("the alarm", lambda: "raised outside run(), ignored: too slow" in host.read("stderr"))
            self.assertEqual(host.phase, WAITING)
            self.assertEqual(host.rows("b"), "b\n")

    def test_an_alarm_while_an_answer_waits_tears_nothing(self):
        script = """
            import signal
            def alarmed(*_): raise TimeoutError("too slow")
            def run(mini_batch):
                signal.signal(signal.SIGALRM, alarmed)
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                return ["x" * 200000] * 20
        """
        with ready(script) as host:
            host.give(["a"])
            host.wait_for("the alarm", lambda: "ignored: too slow" in host.read("stderr"))
            self.assertEqual(host.answers(1)[0].rows, (b"x" * 200000 + b"\n") * 20)


class TheInterpreter(unittest.TestCase):
    def test_threads_may_do_what_they_like(self):
        script = """
            import threading, time
            stop = False
            def spin():
                while not stop: print("spinning")
            def init():
                for _ in range(3): threading.Thread(target=spin).start()
            def run(mini_batch): return mini_batch
            def shutdown():
                global stop
                stop = True
        """
        with ready(script) as host:
            host.give(*[[str(n)] for n in range(300)])
            self.assertEqual([a.rows for a in host.answers(300)], [b"%d\n" % n for n in range(300)])
            host.stop()

    def test_a_script_may_replace_clocks_and_builtins(self):
        script = """
            import builtins, os, struct, time
            def init():
                time.monotonic_ns = time.process_time_ns = time.monotonic = lambda: 0
                os.chdir("/")
            def run(mini_batch): return mini_batch
        """
        with ready(script) as host:
            before = time.monotonic_ns()
            (answer,) = host.run(["a"])
            self.assertGreater(answer.start_ns, before)
            host.stop()

    def test_the_last_result_takes_no_memory_from_the_next_run(self):
        script = """
            import weakref
            class Result(list): pass
            class Item:
                def __str__(self): return "item"
            last = None
            def run(mini_batch):
                global last
                alive = last is not None and last() is not None
                if mini_batch[0] == "ask": return [alive]
                result = Result([Item()])
                last = weakref.ref(result)
                if mini_batch[0] == "raise": raise ValueError(result)
                return result
        """
        with ready(script) as host:
            host.give(["return"], ["ask"], ["raise"], ["ask"])
            first, second, _, fourth = host.answers(4)
            self.assertEqual((first.rows, second.rows, fourth.rows), (b"item\n", b"False\n", b"False\n"))


class Profiles(unittest.TestCase):
    def test_each_profiler_leaves_a_profile(self):
        script = """
            def loading(): pass
            def init(): loading()
            def scoring(item): return item
            def run(mini_batch):
                for item in mini_batch: yield scoring(item)
            def saving(): pass
            def shutdown(): saving(); raise ValueError("late")
        """
        for module in ("cProfile", "profile"):
            with ready(script, profiling_module=module) as host:
                self.assertEqual(host.rows("a", "b"), "a\nb\n")
                text = host.stop()["traceback"]
                self.assertNotIn("rofile.py", text)
                if PYTHON == sys.executable:
                    calls = {key[2]: value[0] for key, value in pstats.Stats(host.config["profile"]).stats.items()}
                    self.assertEqual([calls.get(n) for n in ("loading", "scoring", "saving", "run")], [1, 2, 1, 3], module)
                else:
                    self.assertTrue(os.path.getsize(host.config["profile"]))

    def test_a_killed_process_leaves_one_too(self):
        script = """
            import sys
            sys.modules["_fanfold.profiling"]._DUMP_SECONDS = 0
            def run(mini_batch): return mini_batch
        """
        with ready(script, profiling_module="cProfile") as host:
            host.rows("a")
            host.wait_for("the profile", lambda: os.path.exists(host.config["profile"]))
            host.process.kill()


if __name__ == "__main__":
    unittest.main()
