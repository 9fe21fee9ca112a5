"""``azureml_user``: inside a job, in processes of the script's own, and outside of any job. And the syntax of all we ship."""

import ast
import datetime
import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

from harness import PYTHON, REPOSITORY, SOURCES, ready

SHOW = "[e.agent_name, e.node_id, e.log_dir, e.output_dir, e.working_dir]"


class InAJob(unittest.TestCase):
    def test_it_knows_the_job(self):
        script = """
            from azureml_user.parallel_run import EntryScript
            e = EntryScript()
            def run(mini_batch): return {} + [EntryScript() is e, EntryScript().logger is e.logger]
        """.format(SHOW)
        with ready(script, process_name="process012", node_id="node-3") as host:
            shown = host.rows("a").splitlines()
            config = host.config
            self.assertEqual(shown[:2], ["process012", "node-3"])
            self.assertEqual(shown[2:5], [config["log_dir"], config["output_dir"], config["working_dir"]])
            self.assertEqual(shown[5:], ["True", "True"])

    def test_the_logger_writes_its_file_at_the_jobs_level_in_utc(self):
        script = """
            from azureml_user.parallel_run import EntryScript
            def run(mini_batch):
                logger = EntryScript().logger
                logger.debug("debug"); logger.info("info %s ü \\udce9", 1); logger.warning("warning")
                return mini_batch
        """
        for level, words in (("DEBUG", ["debug", "info", "warning"]), ("INFO", ["info", "warning"]), ("WARNING", ["warning"])):
            with ready(script, logging_level=level, env={"TZ": "Asia/Tokyo"}) as host:
                host.rows("a")
                lines = host.read("entry_script_log").splitlines()
                self.assertEqual([re.split(r"[| ]", line.rpartition("|")[2])[0] for line in lines], words)
                self.assertEqual(host.read("stdout"), "")
                if level == "INFO":
                    pattern = r"^(\d{4}-\d\d-\d\d \d\d:\d\d):\d\d,\d{3}\|EntryScript\|INFO\|%d\|\d+\|run\(\)\|info 1 ü \\udce9$"
                    self.assertRegex(lines[0], pattern % host.process.pid)
                    logged = datetime.datetime.strptime(lines[0][:16], "%Y-%m-%d %H:%M")
                    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
                    self.assertLess(abs((now - logged).total_seconds()), 600)

    def test_an_installed_copy_does_not_shadow_it(self):
        fake = "class EntryScript:\n    agent_name = 'fake'\n"
        files = {"azureml_user/__init__.py": "", "azureml_user/parallel_run/__init__.py": fake}
        script = "from azureml_user.parallel_run import EntryScript\ndef run(m): return [EntryScript().agent_name]\n"
        with tempfile.TemporaryDirectory() as directory:
            for name, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
                with open(os.path.join(directory, name), "w") as file:
                    file.write(text)
            with ready(script, files, env={"PYTHONPATH": directory}) as host:
                self.assertEqual(host.rows("a"), "process000\n")

    def test_programs_that_the_script_starts_know_the_job_too(self):
        script = """
            import subprocess, sys
            def run(mini_batch):
                code = "from azureml_user.parallel_run import EntryScript as E; print(E().agent_name)"
                return [subprocess.check_output([sys.executable, "-c", code], cwd=HOST).decode().strip()]
        """
        with ready(script.replace("HOST", "sys.path[1]"), process_name="process004") as host:
            self.assertEqual(host.rows("a"), "process004\n")


class OutsideOfAJob(unittest.TestCase):
    def outside(self, code, **env):
        with tempfile.TemporaryDirectory() as directory:
            directory = os.path.realpath(directory)
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1", **env}
            result = subprocess.run(
                [PYTHON, "-c", "from azureml_user.parallel_run import EntryScript\ne = EntryScript()\n" + code],
                cwd=directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                universal_newlines=True,
                check=True,
            )
            self.assertEqual(os.listdir(directory), [])
            return result.stdout.replace(directory, "HERE").splitlines(), result.stderr

    def test_everything_has_a_value(self):
        shown, errors = self.outside("print(*{}, sep='\\n')".format(SHOW))
        self.assertEqual((shown, errors), (["process000", "0", "HERE/logs", "HERE/output", "HERE"], ""))
        shown, _ = self.outside("print(e.output_dir)", AZUREML_BI_OUTPUT_PATH="/elsewhere")
        self.assertEqual(shown, ["/elsewhere"])

    def test_the_logger_writes_to_stderr(self):
        shown, errors = self.outside("e.logger.debug('hidden'); e.logger.info('shown')")
        self.assertRegex(errors, r"^.*\|EntryScript\|INFO\|.*\|shown\n$")
        self.assertEqual(shown, [])

    def test_a_damaged_environment_is_none(self):
        for value in ("{", "[]", ""):
            self.assertEqual(self.outside("print(e.agent_name)", FANFOLD_ENTRY_SCRIPT=value)[0], ["process000"])


class Shipped(unittest.TestCase):
    def files(self):
        found = glob.glob(os.path.join(SOURCES, "**", "*.py"), recursive=True)
        return [path for path in found if os.sep + "build" + os.sep not in path]

    @unittest.skipIf(sys.version_info < (3, 8), "ast knows no feature_version")
    def test_everything_parses_as_python_3_7(self):
        files = self.files()
        self.assertGreater(len(files), 8)
        for path in files:
            with open(path, encoding="utf-8") as file:
                ast.parse(file.read(), path, feature_version=(3, 7))

    def test_nothing_but_the_standard_library_is_imported(self):
        allowed = {"azureml_user", "_fanfold"} | getattr(sys, "stdlib_module_names", set())
        for path in self.files():
            with open(path, encoding="utf-8") as file:
                tree = ast.parse(file.read())
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module]
                else:
                    continue
                for name in names:
                    self.assertFalse(name.split(".")[0] in ("numpy", "pandas"), path)
                    if hasattr(sys, "stdlib_module_names"):
                        self.assertIn(name.split(".")[0], allowed, path)

    def test_the_worker_carries_every_file(self):
        with open(os.path.join(REPOSITORY, "worker", "src", "host.rs"), encoding="utf-8") as file:
            carried = re.findall(r'^    "(.*\.py)",$', file.read(), re.M)
        self.assertEqual(sorted(carried), sorted(os.path.relpath(path, SOURCES) for path in self.files()))

    def test_the_package_that_pip_installs_is_azureml_user_alone(self):
        with open(os.path.join(REPOSITORY, "worker", "python", "pyproject.toml")) as file:
            text = file.read()
        packages = re.search(r"^packages = \[(.*)\]$", text, re.M).group(1)
        listed = [name.strip('" ') for name in packages.split(",")]
        exist = [os.path.relpath(folder, SOURCES).replace(os.sep, ".") for folder, _, files in os.walk(os.path.join(SOURCES, "azureml_user"))
                 if "__init__.py" in files]  # fmt: skip
        self.assertEqual(sorted(listed), sorted(exist))


if __name__ == "__main__":
    unittest.main()
