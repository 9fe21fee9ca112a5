"""How the entry script is found and imported, what it sees, and what happens when it can't be used."""

import json
import os
import unittest

from harness import ECHO, Host, ready


class Importing(unittest.TestCase):
    def seen(self, expression, script="", **options):
        text = "import os, sys, json\n" + script + "\ndef run(mini_batch): return [json.dumps(eval(mini_batch[0]))]\n"
        with ready(text, **options) as host:
            return [json.loads(row) for row in host.rows(expression).splitlines()][0]

    def test_it_looks_like_a_module_of_its_own(self):
        seen = self.seen("[__name__, os.path.basename(__file__), os.getcwd() == os.path.dirname(__file__), sys.modules[__name__].run is run]")
        self.assertEqual(seen, ["score", "score.py", True, True])

    def test_the_arguments_are_its_own(self):
        argv = ["--scoring_module_name", "score.py", "--names", "a b", "ü"]
        seen = self.seen("[os.path.basename(sys.argv[0]), os.path.isabs(sys.argv[0]), sys.argv[1:]]", argv=argv)
        self.assertEqual(seen, ["score.py", True, argv])

    def test_main_blocks_do_not_run(self):
        self.assertEqual(self.seen("ran", "ran = False\nif __name__ == '__main__': ran = True"), False)

    def test_its_folder_and_the_working_directory_are_importable(self):
        files = {
            "pkg/score.py": "import beside, at_the_root\ndef run(mini_batch): return [beside.X, at_the_root.Y, __name__]\n",
            "pkg/beside.py": "X = 'beside'\n",
            "at_the_root.py": "Y = 'root'\n",
        }
        with ready(files=files, entry_script="pkg/score.py") as host:
            self.assertEqual(host.rows("a"), "beside\nroot\nscore\n")

    def test_a_dotted_module_with_relative_imports(self):
        files = {
            "pkg/__init__.py": "",
            "pkg/main.py": "import sys\nfrom .part import X\ndef run(mini_batch): return [X, __name__, sys.argv[0][-11:]]\n",
            "pkg/part.py": "X = 'part'\n",
        }
        with ready(files=files, entry_script="pkg.main") as host:
            self.assertEqual(host.rows("a"), "part\npkg.main\npkg/main.py\n")

    def test_a_module_named_without_its_ending(self):
        with ready(ECHO, entry_script="score") as host:
            self.assertEqual(host.rows("a"), "a\n")

    def test_names_that_are_no_identifiers(self):
        for name in ("my-score.py", "score.v2.py", "1.py", "größe.py"):
            with ready(files={name: "def run(mini_batch): return [__name__]\n"}, entry_script=name) as host:
                self.assertEqual(host.rows("a"), name[:-3] + "\n")

    def test_files_beside_it_do_not_stand_in_for_ours(self):
        names = ("json", "traceback", "struct", "logging", "cProfile", "_fanfold", "fanfold_host", "linecache", "platform", "difflib")
        files = {name + ".py": "raise SystemExit('shadowed')\n" for name in names}
        script = "def run(mini_batch): raise ValueError('told')\ndef shutdown(): raise ValueError('too')\n"
        with ready(script, files, profiling_module="cProfile") as host:
            self.assertEqual(host.fails("a")["message"], "ValueError: told")
            self.assertIn("too", host.stop()["traceback"])

    def test_a_script_called_like_a_module_of_the_library_works(self):
        files = {"json.py": "import decimal, json\ndef run(mini_batch): return [json.loads('1'), __name__]\n"}
        with ready(files=files, entry_script="json.py") as host:
            self.assertEqual(host.rows("a"), "1\njson\n")
            self.assertIsNone(host.stop()["traceback"])

    def test_pickle_and_dataclasses_find_it(self):
        script = """
            import dataclasses, pickle
            @dataclasses.dataclass
            class Point:
                x: "int" = 1
            def run(mini_batch): return [pickle.loads(pickle.dumps(Point(5)))]
        """
        with ready(script) as host:
            self.assertEqual(host.rows("a"), "Point(x=5)\n")

    def test_processes_of_its_own(self):
        script = """
            import multiprocessing, os
            from azureml_user.parallel_run import EntryScript
            def work(item):
                EntryScript().logger.info("item %s", item)
                return item + " " + EntryScript().agent_name
            def run(mini_batch):
                with multiprocessing.get_context(mini_batch[0]).Pool(2) as pool:
                    return pool.map(work, mini_batch)
        """
        with ready(script, process_name="process007") as host:
            for method in ("fork", "spawn", "forkserver"):
                self.assertEqual(host.rows(method, "b"), method + " process007\nb process007\n")
            self.assertIsNone(host.stop()["traceback"])
            log = host.read("entry_script_log")
            for method in ("fork", "spawn", "forkserver"):
                self.assertIn("item " + method, log)
            self.assertEqual(host.read("fd_stderr"), "")


class Functions(unittest.TestCase):
    def test_init_runs_once_and_shutdown_too(self):
        script = """
            calls = []
            def init(): calls.append("init")
            def run(mini_batch): calls.append("run"); return calls
            def shutdown(): calls.append("shutdown"); print(calls)
        """
        with ready(script) as host:
            host.run(["a"], ["b"])
            host.stop()
            self.assertEqual(host.read("stdout"), "['init', 'run', 'run', 'shutdown']\n")

    def test_a_failing_shutdown_is_told_and_the_process_leaves(self):
        for statement, text in (("raise ValueError('late')", "ValueError: late"), ("import sys; sys.exit(3)", "SystemExit: 3")):
            with ready(ECHO + "def shutdown():\n    " + statement + "\n") as host:
                self.assertIn(text, host.stop()["traceback"])

    def test_the_ordinary_way_out_saves_what_the_script_left_open(self):
        script = """
            import atexit
            def init():
                global file
                file = open("left_open.txt", "w")
                atexit.register(print, "bye")
            def run(mini_batch): file.write(mini_batch[0]); return mini_batch
        """
        with ready(script) as host:
            host.rows("written")
            host.stop()
            with open(os.path.join(host.work, "left_open.txt")) as file:
                self.assertEqual(file.read(), "written")
            self.assertEqual(host.read("stdout"), "bye\n")

    def test_run_may_be_anything_that_can_be_called(self):
        for script in (
            "import functools\ndef f(scale, mini_batch): return [m * scale for m in mini_batch]\nrun = functools.partial(f, 1)\n",
            "class Model:\n    def __call__(self, mini_batch): return mini_batch\nrun = Model()\n",
            "run = sorted\n",
            "run = list\n",
            "def run(*mini_batches): return mini_batches[0] if len(mini_batches) == 1 else None\n",
            "def run(mini_batch, *, key=None): return mini_batch\n",
            "import functools\ndef timed(f):\n    @functools.wraps(f)\n    def g(*a): return f(*a)\n    return g\n@timed\ndef run(m): return m\n",
        ):
            with ready(script) as host:
                self.assertEqual(host.rows("a", "b"), "a\nb\n", script)

    def test_the_context_comes_with_a_second_parameter(self):
        show = "[c.minibatch_index, c.partition_key_value, c.dataset.to_path(), len(c.dataset), list(c.dataset)]"
        for head in (
            "def run(mini_batch, c):",
            "def run(mini_batch, c=None):",
            "def run(mini_batch, c, *rest):",
            "class Model:\n  def score(self, mini_batch, c):\n    return SHOW\nrun = Model().score\ndef unused():",
            "import functools\ndef timed(f):\n  @functools.wraps(f)\n  def g(*a): return f(*a)\n  return g\n@timed\ndef run(mini_batch, c):",
        ):
            with ready(head.replace("SHOW", show) + " return " + show + "\n") as host:
                host._next = 12
                self.assertEqual(host.rows("/a", "/b"), "12\nNone\n['/a', '/b']\n2\n['/a', '/b']\n", head)


class NotReady(unittest.TestCase):
    def refused(self, script, stage="import", **options):
        with Host(script, **options) as host:
            told = host.expect(b"X")
            self.assertEqual(told["stage"], stage)
            self.assertEqual(host.leaves(), 1)
            self.assertNotIn("_fanfold", told["traceback"])
            self.assertNotIn("importlib", told["traceback"])
            return told

    def test_an_init_that_raises(self):
        told = self.refused("def init():\n    open('no model')\n" + ECHO, "init")
        self.assertEqual(told["type"], "FileNotFoundError")
        self.assertEqual(told["message"], "FileNotFoundError: [Errno 2] No such file or directory: 'no model'")
        self.assertRegex(told["traceback"], r"^Traceback .*\n  File .*score.py\", line 2, in init\n")

    def test_an_init_that_exits(self):
        self.assertEqual(self.refused("import sys\ndef init(): sys.exit()\n" + ECHO, "init")["message"], "init() called sys.exit()")

    def test_parse_args_is_told_from_other_exits(self):
        script = "import argparse\ndef init():\n    argparse.ArgumentParser().parse_args()\n" + ECHO
        told = self.refused(script, "init", argv=["--mini_batch_size", "5"])
        self.assertIn("init() called sys.exit(2): argparse does that", told["message"])
        self.assertIn("parse_known_args()", told["message"])
        self.assertEqual(told["type"], "SystemExit")

    def test_threads_of_a_failed_init_do_not_keep_the_process(self):
        self.refused("import threading, time\ndef init():\n  threading.Thread(target=time.sleep, args=(600,)).start()\n  1/0\n" + ECHO, "init")

    def test_an_import_that_fails(self):
        told = self.refused("import os\nimport no_such_module\n" + ECHO)
        self.assertEqual(told["message"], "ModuleNotFoundError: No module named 'no_such_module'")
        self.assertRegex(told["traceback"], r"^Traceback .*\n  File .*score.py\", line 2, in <module>\n    import no_such_module\n")

    def test_an_import_that_exits(self):
        self.assertIn("while it was imported, called sys.exit('why')", self.refused("raise SystemExit('why')\n")["message"])

    def test_a_syntax_error_shows_file_and_line(self):
        told = self.refused("x = 1\ndef run(:\n")
        self.assertIn("(score.py, line 2)", told["message"])
        self.assertRegex(told["traceback"], r'File ".*score.py", line 2\n *def run\(:\n *\^')

    def test_a_missing_run_names_what_there_is(self):
        for functions, nearest in ((["init", "Run"], "Run"), (["rnu", "helper"], "rnu"), (["run_batch", "load"], "run_batch")):
            told = self.refused("".join("def {}(*a): pass\n".format(name) for name in functions))
            self.assertEqual(told["type"], "EntryScriptError")
            self.assertIn("score.py has no function `run(mini_batch)`; its functions: " + ", ".join(functions), told["message"])
            self.assertIn("is `{}` meant to be `run`?".format(nearest), told["message"])
        self.assertNotIn("meant to be", self.refused("def predict(x): pass\n")["message"])
        self.assertIn("its functions: none", self.refused("")["message"])
        self.assertIn("its `run` is a int", self.refused("run = 5\n")["message"])

    def test_a_run_without_room_for_the_mini_batch(self):
        self.assertIn("run() of", self.refused("def run(): return []\n")["message"])

    def test_a_script_that_is_not_there(self):
        for name in ("scores.py", "no.such.module", "sub/score.py"):
            told = self.refused(ECHO, entry_script=name)
            self.assertIn("there is no entry script `{}` in".format(name), told["message"])
            self.assertIn("Python files there: score.py", told["message"])

    def test_a_broken_settings_file_is_named(self):
        name = "parallel_run_step.settings.json"
        for text in ("{", "[]", '{"append_row": 1}', '{"append_row": {"pandas.DataFrame.to_csv": []}}', b"\xff\xfe"):
            told = self.refused(ECHO, files={name: text})
            self.assertIn(name, told["message"], text)

    def test_settings_for_others_are_none_of_ours(self):
        for text in ("{}", '{"append_row": {}, "other": [1]}', b"\xef\xbb\xbf{}"):
            with ready(ECHO, {"parallel_run_step.settings.json": text}) as host:
                pass


if __name__ == "__main__":
    unittest.main()
