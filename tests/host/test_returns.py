"""What ``run()`` may return, what is written of it, and how the rest is refused."""

import platform
import subprocess
import sys
import unittest

from harness import PYTHON, OneHost, Record, ready

# Each item is an expression; its value is what run() returns.
EVAL = """
import collections, enum, sys
try:
    import numpy as np
    import pandas as pd
except ImportError:
    pass

class Text(str):
    def __str__(self): return "text of " + self.upper()

class Color(str, enum.Enum):
    RED = "red"

class Level(enum.IntEnum):
    LOW = 1

class Broken:
    def __str__(self): raise KeyError("no text")

class Countdown:
    def __init__(self, n): self.n = n
    def __iter__(self): return self
    def __next__(self):
        if self.n == 0: raise StopIteration
        self.n -= 1
        return self.n

class OldStyle:
    def __getitem__(self, index):
        if index > 2: raise IndexError
        return index * 10

Pair = collections.namedtuple("Pair", "a b")

class FancyList(list):
    pass

async def coroutine(): return []

def failing():
    yield 1
    raise LookupError("from the generator")

def reused():
    row = {}
    for n in range(3):
        row["n"] = n
        yield row

def spied(values, seen):
    for value in values:
        seen.append(value)
        yield value

FRAMES = type("DataFrame", (), {"__module__": "polars.dataframe.frame", "__iter__": lambda self: iter(["column"])})

def run(mini_batch):
    return eval(mini_batch[0])
"""


HAS_PANDAS = subprocess.run([PYTHON, "-c", "import pandas"], stderr=subprocess.DEVNULL).returncode == 0
if not HAS_PANDAS:
    print("SKIPPED: pandas is not installed for {}: its results are not tested".format(PYTHON), file=sys.stderr)


class Returns(OneHost):
    script = EVAL

    def returned(self, expression):
        (answer,) = self.host.run([expression])
        self.assertIsInstance(answer, Record, answer)
        return answer.returned, answer.rows.decode("utf-8", "surrogateescape")


class Rows(Returns):
    def check(self, expression, count, rows):
        self.assertEqual(self.returned(expression), (count, rows))

    def test_lists_and_tuples(self):
        self.check("['a']", 1, "a\n")
        self.check("[]", 0, "")
        self.check("()", 0, "")
        self.check("('a', 'b')", 2, "a\nb\n")
        self.check("Pair(1, 2)", 2, "1\n2\n")
        self.check("FancyList('ab')", 2, "a\nb\n")
        self.check("['a'] * 1000", 1000, "a\n" * 1000)

    def test_elements_are_written_with_str(self):
        self.check("[None, 1, 2.5, True]", 4, "None\n1\n2.5\nTrue\n")
        self.check("[{'k': 'v'}, ['x', 1], ('y',)]", 3, "{'k': 'v'}\n['x', 1]\n('y',)\n")
        self.check("[b'bytes']", 1, "b'bytes'\n")
        self.check("['']", 1, "\n")
        self.check("['two\\nlines']", 1, "two\nlines\n")

    def test_subclasses_of_str_are_written_by_their_own_str(self):
        self.check("[Text('a')]", 1, "text of A\n")
        self.check("[Text('a'), 'b']", 2, "text of A\nb\n")
        self.check("[Color.RED] * 2", 2, "Color.RED\n" * 2)
        self.check("[str(Level.LOW)]", 1, self.returned("[Level.LOW]")[1])

    def test_iterators(self):
        self.check("(n * n for n in range(4))", 4, "0\n1\n4\n9\n")
        self.check("map(str, [1, 2])", 2, "1\n2\n")
        self.check("Countdown(3)", 3, "2\n1\n0\n")
        self.check("OldStyle()", 3, "0\n10\n20\n")
        self.check("range(1000)", 1000, "".join("{}\n".format(n) for n in range(1000)))
        self.check("{'only'}", 1, "only\n")
        self.check("{1: 2}.values()", 1, "2\n")
        self.check("iter([])", 0, "")

    def test_elements_of_a_generator_are_written_as_they_come(self):
        self.check("reused()", 3, "{'n': 0}\n{'n': 1}\n{'n': 2}\n")

    def test_a_generator_that_raises_is_a_run_that_raises(self):
        told = self.host.fails("failing()")
        self.assertEqual((told["kind"], told["message"]), ("exception", "LookupError: from the generator"))
        self.assertIn("in failing", told["traceback"])

    def test_an_element_whose_str_raises_fails_the_attempt(self):
        told = self.host.fails("[Broken()]")
        self.assertEqual((told["kind"], told["message"]), ("exception", "KeyError: 'no text'"))
        self.assertIn("__str__", told["traceback"])
        self.check("['next']", 1, "next\n")

    def test_neither_pandas_nor_numpy_is_imported_for_anybody(self):
        with ready("import sys\ndef run(m): return [[n for n in ('pandas', 'numpy') if n in sys.modules], *(0,)]\n") as host:
            self.assertEqual(host.rows("a"), "[]\n0\n")


class Refused(Returns):
    def check(self, expression, name, hint=""):
        told = self.host.fails(expression)
        self.assertEqual((told["kind"], told["type"], told["retire"]), ("bad_return", name, False))
        self.assertEqual(told["traceback"], "")
        begin = "run() returned {}; expected a list, tuple, pandas DataFrame or Series, numpy array or an iterator".format(name)
        self.assertTrue(told["message"].startswith(begin), told["message"])
        self.assertIn(hint, told["message"])
        self.assertGreater(told["total_ns"], 0)

    def test_nothing(self):
        self.check("None", "None", "is a `return` missing")

    def test_text(self):
        for expression, name in (("'text'", "str"), ("b'text'", "bytes"), ("bytearray()", "bytearray"), ("memoryview(b'')", "memoryview")):
            self.check(expression, name, "return it in a list: [result]")
        self.check("Text('a')", "score.Text", "[result]")

    def test_mappings(self):
        self.check("{}", "dict", "one element per item")
        self.check("collections.OrderedDict()", "collections.OrderedDict", "one element per item")

    def test_scalars(self):
        for expression, name in (("0", "int"), ("True", "bool"), ("1.5", "float"), ("object()", "object"), ("Ellipsis", "ellipsis")):
            self.check(expression, name)

    def test_coroutines(self):
        self.check("coroutine()", "coroutine", "make it `def run`")

    def test_frames_of_other_libraries(self):
        self.check("FRAMES()", "polars.dataframe.frame.DataFrame", ".to_pandas()")


class SummaryOnly(Returns):
    config = {"output_action": "summary_only"}

    def test_results_are_counted_and_not_written(self):
        for expression, count in (("['a', 'b']", 2), ("()", 0), ("(n for n in range(700))", 700), ("[Broken()]", 1)):
            self.assertEqual(self.returned(expression), (count, ""))

    def test_bad_returns_are_refused_all_the_same(self):
        self.assertEqual(self.host.fails("None")["kind"], "bad_return")


class Iterating(unittest.TestCase):
    def test_it_counts_as_run(self):
        script = """
            import mmap, time
            with open("../page", "r+b") as file:
                page = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
            def run(mini_batch):
                for item in mini_batch:
                    time.sleep(0.02)
                    yield page[2] & 0xFF
        """
        with ready(script) as host:
            (answer,) = host.run(["a", "b", "c"])
        self.assertEqual(answer.rows, b"5\n5\n5\n")
        self.assertGreaterEqual(answer.run_ns, 60_000_000)


@unittest.skipUnless(HAS_PANDAS, "pandas is not installed")
@unittest.skipIf("glibc" not in platform.libc_ver(), "other C libraries have ways of their own")
class Memory(unittest.TestCase):
    """What large rows take of it."""

    def faults(self, env):
        """Pages that a mini-batch touched for the first time, once the first ones are over."""
        script = "import resource\ndef run(m): return [resource.getrusage(resource.RUSAGE_SELF).ru_minflt, *(['x' * 99] * 20000)]\n"
        with ready(script, env=env) as host:
            faults = [int(host.rows("x").split("\n")[0]) for _ in range(12)]
        return (faults[11] - faults[5]) / 6

    def test_it_is_kept_for_the_next_ones(self):
        kept, given_back = self.faults({}), self.faults({"MALLOC_TRIM_THRESHOLD_": "131072"})
        self.assertLess(kept * 4, given_back)


class Pandas(Returns):
    check = Rows.check

    def test_frames_are_written_as_the_original_writes_them(self):
        self.check("pd.DataFrame({'a': [1, 2], 'b': ['x', 'two words']})", 2, '1 x\n2 "two words"\n')
        self.check("pd.DataFrame({'a': [1.5, None]})", 2, '1.5\n""\n')
        self.check("pd.DataFrame({'a': []})", 0, "")
        self.check("pd.DataFrame()", 0, "")
        self.check("type('Own', (pd.DataFrame,), {})({'a': [1]})", 1, "1\n")

    def test_large_frames(self):
        count, rows = self.returned("pd.DataFrame({'a': range(200000), 'b': 'x' * 50})")
        self.assertEqual(count, 200000)
        self.assertEqual(rows, "".join("{} {}\n".format(n, "x" * 50) for n in range(200000)))

    def test_series(self):
        self.check("pd.Series([1.5, 2])", 2, "1.5\n2.0\n")
        self.check("pd.Series(['a b', 1], index=[7, 8])", 2, "a b\n1\n")
        self.check("pd.Index([3, 4])", 2, "3\n4\n")

    def test_arrays(self):
        self.check("np.arange(3)", 3, "0\n1\n2\n")
        self.check("np.array([0.1], dtype='float32')", 1, "0.1\n")
        self.check("np.array(['a', 'b'])", 2, "a\nb\n")
        self.check("np.array([])", 0, "")
        self.check("np.arange(4).reshape(2, 2)", 2, "[0, 1]\n[2, 3]\n")
        self.check("np.zeros((1, 100), dtype=int)", 1, str([0] * 100) + "\n")
        self.check("np.matrix([[1, 2]])", 1, "[[1, 2]]\n")
        self.check("[np.float64(1.5), np.str_('s')]", 2, "1.5\ns\n")

    def test_scalars_are_refused(self):
        Refused.check(self, "np.array(5)", "numpy.ndarray")
        Refused.check(self, "np.float64(5)", "numpy.float64")
        Refused.check(self, "np.str_('x')", "numpy.str_", "[result]")


@unittest.skipUnless(HAS_PANDAS, "pandas is not installed")
class PandasOptions(unittest.TestCase):
    FRAME = "import pandas as pd\ndef run(m): return pd.DataFrame({'a a': [1], 'b': [m[0]]}) if m[0] != '-' else pd.DataFrame()\n"

    def settings(self, options):
        return {"parallel_run_step.settings.json": '{"append_row": {"pandas.DataFrame.to_csv": %s}}' % options}

    def test_the_settings_file_changes_the_arguments(self):
        with ready(self.FRAME, self.settings('{"sep": ",", "index": true}')) as host:
            self.assertEqual(host.rows("x"), "0,1,x\n")

    def test_rows_end_in_a_newline_whatever_the_settings_say(self):
        name = "lineterminator" if self.pandas_major() >= 2 else "line_terminator"
        with ready(self.FRAME, self.settings('{"%s": ";"}' % name)) as host:
            self.assertEqual(host.rows("x"), "1 x;\n")

    def test_the_header_is_told_once_by_the_first_frame_that_has_columns(self):
        with ready(self.FRAME, self.settings('{"sep": ","}'), dataframe_header=True) as host:
            host.header = b""
            self.assertEqual(host.rows("-"), "")
            self.assertEqual(host.header, b"")
            self.assertEqual(host.rows("x"), "1,x\n")
            self.assertEqual(host.header, b"a a,b\n")
            host.header = b""
            self.assertEqual(host.rows("y"), "1,y\n")
            self.assertEqual(host.header, b"")

    def test_the_header_goes_with_rows_in_the_spool(self):
        script = "import pandas as pd\ndef run(m): return pd.DataFrame({'a': ['x' * 100] * 30000})\n"
        with ready(script, dataframe_header=True, spool_bytes=1 << 20) as host:
            (answer,) = host.run(["a"])
            self.assertIsNotNone(answer.path)
            self.assertEqual(answer.rows, (b"x" * 100 + b"\n") * 30000)
            self.assertEqual(host.header, b"a\n")

    def test_a_header_in_the_settings_alone_is_part_of_every_result(self):
        with ready(self.FRAME, self.settings('{"header": ["p", "q"]}')) as host:
            self.assertEqual([host.rows("x"), host.rows("y")], ["p q\n1 x\n", "p q\n1 y\n"])
        with ready(self.FRAME, self.settings('{"header": ["p", "q"]}'), dataframe_header=True) as host:
            self.assertEqual(host.rows("x"), "1 x\n")
            self.assertEqual(host.header, b"p q\n")

    def test_an_option_that_pandas_refuses_fails_the_attempt(self):
        with ready(self.FRAME, self.settings('{"separator": ","}')) as host:
            told = host.fails("x")
            self.assertEqual((told["kind"], told["type"]), ("exception", "TypeError"))
            self.assertIn("separator", told["message"])

    def pandas_major(self):
        script = "import pandas; print(pandas.__version__.split('.')[0])"
        return int(subprocess.run([PYTHON, "-c", script], stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    unittest.main()
