"""The table of misbehaving scripts is whole: every script has a case, and every case makes sense."""
import ast
import json
import pathlib
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
STATES = {"Completed": {0, 5}, "Failed": {1}}
KINDS = set("exception bad_return short_return timeout overhead_timeout exit signal oom init input node_lost".split())
COUNTS = {"items_succeeded", "items_failed", "mini_batches_failed", "attempts", "attempts_failed", "surplus_results", "rows"}
TEXTS = {"message", "traceback", "stderr", "cause", "capped"}
EXPECT = COUNTS | TEXTS | {"state", "exit_code", "kinds", "missing", "output", "logs"}


class Table(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        table = json.loads((FOLDER / "table.json").read_text())
        cls.defaults, cls.cases = table["defaults"], table["cases"]
        cls.scripts = {path.name for path in FOLDER.glob("*.py")} - {pathlib.Path(__file__).name}

    def test_every_script_has_a_case_and_every_case_a_script(self):
        self.assertEqual(self.scripts, {case["script"] for case in self.cases})

    def test_a_name_stands_for_one_case(self):
        names = [case["name"] for case in self.cases]
        self.assertEqual(len(names), len(set(names)))

    def test_what_is_expected_can_be(self):
        for case in self.cases:
            with self.subTest(case["name"]):
                expect, items = case["expect"], case.get("items", self.defaults["items"])
                self.assertLessEqual(set(case), {"name", "script", "items", "input_type", "job", "limit", "expect"})
                self.assertLessEqual(set(expect), EXPECT)
                self.assertIn(expect["exit_code"], STATES[expect["state"]])
                self.assertLessEqual(set(expect.get("kinds", ())), KINDS)
                self.assertEqual("cause" in expect, expect["state"] == "Failed")
                if expect["state"] == "Completed":
                    self.assertEqual(expect["items_succeeded"] + expect["items_failed"], items)
                    appends = case.get("job", {}).get("output_action", "append_row") == "append_row"
                    self.assertEqual("missing" in expect or "output" in expect, appends)
                    self.assertLessEqual(len(expect.get("missing", ())), expect["items_failed"])
                if expect["exit_code"] == 5:
                    self.assertGreater(expect["items_failed"], 0)

    def test_every_script_compiles_but_the_one_that_must_not(self):
        for name in sorted(self.scripts):
            with self.subTest(name):
                source = (FOLDER / name).read_text()
                if name == "has_a_syntax_error.py":
                    self.assertRaises(SyntaxError, ast.parse, source)
                else:
                    self.assertTrue(ast.get_docstring(ast.parse(source)), "a docstring says what it does")


if __name__ == "__main__":
    unittest.main()
