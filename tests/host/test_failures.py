"""What is told of an attempt that failed, and when a process is not to be used again."""

import textwrap
import unittest

from harness import WAITING, OneHost, ready

RAISE = """
import sys

class Own(Exception):
    pass

class Unprintable(Exception):
    def __str__(self): raise RuntimeError("no")

class OutOfMemoryError(RuntimeError):
    pass

def deep(n=0):
    return deep(n + 1)

def chained():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("outer") from error

def while_handling():
    try:
        1 / 0
    except ZeroDivisionError:
        {}["missing"]

def wrapping(text):
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        raise Own("scoring failed") from error

def raising(error):
    raise error

def run(mini_batch):
    if mini_batch[0] == "fine":
        return mini_batch
    eval(mini_batch[0])
"""


class Told(OneHost):
    script = RAISE

    def check(self, expression, message, type_name=None):
        told = self.host.fails(expression)
        self.assertEqual(told["message"], message)
        self.assertEqual(told["type"], type_name or message.partition(":")[0])
        self.assertEqual((told["kind"], told["retire"]), ("exception", False))
        self.assertNotIn("_fanfold", told["traceback"])
        self.assertTrue(told["traceback"].startswith("Traceback (most recent call last):\n") or "direct cause" in told["traceback"]
                        or "During handling" in told["traceback"], told["traceback"])  # fmt: skip
        self.assertEqual(self.host.rows("fine"), "fine\n")
        return told["traceback"]

    def test_an_exception(self):
        text = self.check("raising(ValueError('bad pixel'))", "ValueError: bad pixel")
        self.assertRegex(text, r"^Traceback .*\n  File \".*score.py\", line \d+, in run\n")
        self.assertTrue(text.endswith("ValueError: bad pixel\n"))

    def test_an_exception_of_the_script(self):
        self.check("raising(Own('x'))", "score.Own: x")

    def test_messages_are_one_line(self):
        self.check("raising(ValueError('first\\n  second\\n\\nthird\\n'))", "ValueError: first second third")
        self.check("raising(ValueError())", "ValueError")
        self.check("raising(KeyError('k'))", "KeyError: 'k'")
        self.check("raising(ValueError('\\udce9'))", "ValueError: \\udce9")

    def test_messages_and_tracebacks_are_capped(self):
        told = self.host.fails("raising(ValueError('head' + 'x' * 10**7 + 'tail'))")
        self.assertEqual(len(told["message"]), 2000)
        self.assertTrue(told["message"].startswith("ValueError: headxxx"))
        self.assertLessEqual(len(told["traceback"].encode()), 64 * 1024)
        self.assertTrue(told["traceback"].startswith("Traceback"))
        self.assertTrue(told["traceback"].endswith("xtail\n"))
        self.assertIn("bytes left out", told["traceback"])

    def test_chains_are_kept(self):
        text = self.check("chained()", "ValueError: outer")
        self.assertIn("KeyError: 'missing'\n\nThe above exception was the direct cause", text)
        text = self.check("while_handling()", "KeyError: 'missing'")
        self.assertIn("ZeroDivisionError: division by zero\n\nDuring handling", text)

    def test_texts_that_can_not_be_had(self):
        text = self.check("raising(Unprintable())", "score.Unprintable: <its text can't be had: Unprintable.__str__() raised>")
        self.assertIn("Unprintable", text)

    def test_running_out_of_stack(self):
        told = self.host.fails("deep()")
        self.assertEqual((told["kind"], told["type"], told["retire"]), ("exception", "RecursionError", False))
        self.assertIn("in deep", told["traceback"])
        told = self.host.fails("(sys.setrecursionlimit(9000), deep())")
        self.assertEqual(told["type"], "RecursionError")
        self.assertEqual(self.host.rows("fine"), "fine\n")

    def test_exceptions_that_are_no_errors(self):
        self.check("raising(KeyboardInterrupt())", "KeyboardInterrupt")
        self.check("raising(GeneratorExit())", "GeneratorExit")
        self.check("raising(type('Odd', (BaseException,), {})('x'))", "score.Odd: x")


class Retired(unittest.TestCase):
    def retired(self, expression, kind, message, script=RAISE):
        """The mini-batches behind the one that fails, in its frame or a later one, are not run."""
        with ready(script + "\ndef shutdown(): print('shutdown ran')\n") as host:
            host.give(["fine"], [expression], ["fine"])
            host.give(["fine"])
            first, told = host.answers(2)
            self.assertEqual(first.rows, b"fine\n")
            self.assertEqual((told["kind"], told["retire"]), (kind, True))
            self.assertIn(told["message"], (message,) if isinstance(message, str) else message)
            host.wait_for("waiting", lambda: host.phase == WAITING)
            self.assertEqual(host.stop(), {"traceback": None})
            self.assertEqual(host.page[5], 2)
            self.assertEqual(host.read("stdout"), "")
            return told

    def test_exits(self):
        self.retired("sys.exit(3)", "exit", "run() called sys.exit(3)")
        self.retired("sys.exit('why\\nnot')", "exit", "run() called sys.exit('why\\nnot')")
        self.retired("raising(SystemExit())", "exit", "run() called sys.exit()")

    def test_memory_of_the_host(self):
        self.retired("raising(MemoryError())", "oom", "MemoryError")
        self.retired("'x' * (1 << 60)", "oom", "MemoryError")

    def test_memory_that_is_used_up_to_the_last_page(self):
        script = """
            import resource, sys
            def run(mini_batch):
                if mini_batch[0] == "fine": return mini_batch
                limit = 50 * 1024 + int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() // 1024
                resource.setrlimit(resource.RLIMIT_AS, (limit * 1024, limit * 1024))
                held = []
                size = 1 << 20
                while True:
                    try:
                        held.append(bytearray(size))
                    except MemoryError:
                        if size <= 64: raise
                        size //= 2
        """
        # Without memory for a MemoryError, CPython raises what its code raises without an exception.
        told = ("MemoryError", "SystemError: error return without exception set")
        self.retired("hungry", "oom", told, textwrap.dedent(script))

    def test_a_broken_interpreter(self):
        self.retired("raising(SystemError('error return without exception set'))", "oom", "SystemError: error return without exception set")
        text = "<built-in function f> returned NULL without setting an exception"
        self.retired("raising(SystemError({!r}))".format(text), "exception", "SystemError: " + text)

    def test_memory_of_the_device(self):
        text = "CUDA out of memory. Tried to allocate 20.00 GiB (GPU 0; 139 GiB total capacity)"
        self.retired("raising(RuntimeError({!r}))".format(text), "oom", "RuntimeError: " + text)
        self.retired("raising(OutOfMemoryError('x'))", "oom", "score.OutOfMemoryError: x")
        self.retired("wrapping('cuDNN error: CUDNN_STATUS_ALLOC_FAILED')", "oom", "score.Own: scoring failed")
        text = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
        self.retired("raising(RuntimeError({!r}))".format(text), "oom", "RuntimeError: " + text)

    def test_a_lost_device(self):
        for text in (
            "CUDA error: device-side assert triggered",
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: unspecified launch failure",
            "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        ):
            self.retired("raising(RuntimeError({!r}))".format(text), "exception", "RuntimeError: " + text)
        self.retired("wrapping('CUDA error: unknown error')", "exception", "score.Own: scoring failed")

    def test_a_result_that_runs_out_of_memory_while_it_is_written(self):
        script = "class Big:\n    def __str__(self): raise MemoryError()\ndef run(m): return m if m[0] == 'fine' else [Big()]\n"
        self.retired("big", "oom", "MemoryError", script)


if __name__ == "__main__":
    unittest.main()
