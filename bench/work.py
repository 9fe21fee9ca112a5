"""The work of the parts that have some: what jobs are told, what their yardsticks run, and what is read of both."""
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

from spread import spread

HERE = pathlib.Path(__file__).resolve().parent
DIGITS_PACKAGES = ["numpy", "pillow", "scikit-learn"]
DIGITS = 18_000


def lines(bench, n):
    """The keys of a job over n items."""
    return {"inputs": [str(bench.items(n))], "input_type": "lines", "mini_batch_size": 1}


def seconds_of(status):
    """From the first hand-over to the last commit."""
    return (status["timing"]["last_commit_us"] - status["timing"]["first_handover_us"]) / 1e6


def seconds_from_ready(bench, status):
    """From the moment at which the last process was ready (the pipe's clock starts there, too) to the last commit."""
    master = (bench.folder / "job" / "logs" / "sys" / "master_role.txt").read_text().splitlines()
    stamps = [line.split("|")[0] for line in master if "is ready after" in line]
    ready = [datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=datetime.timezone.utc) for stamp in stamps]
    return status["timing"]["last_commit_us"] / 1e6 - max(ready).timestamp()


def cpu_seconds(pid):
    """The processor time of a process, without that of its children."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows_of(what, theirs_name, pairs, unit, form="{:,.0f}"):
    """The rows of pairs of figures of which more is better."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return [
        (f"{what}: fanfold", spread(ours, form), unit),
        (f"{what}: {theirs_name}", spread(theirs, form), unit),
        (f"{what}: fanfold / {theirs_name}", spread([a / b for a, b in pairs], "{:.2f}"), f"ratio of {len(pairs)} pairs"),
    ]


def venv(bench, name, packages):
    """A Python with these packages; made once."""
    python = bench.folder / name / "bin" / "python"
    if not python.exists():
        shutil.rmtree(bench.folder / name, ignore_errors=True)
        part = bench.folder / (name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(part)], check=True)
        subprocess.run([str(part / "bin" / "pip"), "install", "-q", *packages], check=True)
        part.rename(bench.folder / name)
    return python


def bare_pipe(bench, items, depth, per, python, environment):
    """The pipe yardstick with two children; returns what it printed."""
    command = [bench.programs / "fanfold-yardstick", "pipe", items, bench.folder / "yardstick.txt", 2, depth, per, python]
    bench.command("pipe", [*command, HERE / "pipe_child.py"], environment=environment)
    return json.loads((bench.folder / "pipe.out").read_text())


class Digits:
    """PNG files of digits, and a model that knows them."""

    def __init__(self, bench):
        self.bench, folder = bench, bench.folder / "digits"
        self.python = venv(bench, "digits-venv", DIGITS_PACKAGES)
        if not (folder / "model.pickle").exists():
            subprocess.run([str(self.python), str(HERE / "make_digits.py"), str(folder), str(DIGITS)], check=True)
        #: The list of them, for yardsticks.
        self.listed = bench.folder / "digits.txt"
        self.listed.write_text("".join(f"{path}\n" for path in sorted((folder / "png").iterdir())))
        self.environment = {
            "BENCH_WORK": "digits",
            "BENCH_MODEL": str(folder / "model.pickle"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        #: Of the job.
        self.keys = {"inputs": [str(folder / "png")], "mini_batch_size": 10, "environment_variables": self.environment}

    def check(self, output):
        """Ends the benchmark unless each digit has its row."""
        with open(output) as rows:
            if len(set(rows)) != DIGITS:
                sys.exit(f"error: {output} has not {DIGITS} distinct rows")

    def pool(self):
        """Seconds of `multiprocessing.Pool` with chunksize 1 for the same mini-batches."""
        command = [self.python, HERE / "pool.py", self.listed, self.bench.folder / "yardstick.txt", 2, 1, 10]
        self.bench.command("pool", command, environment=self.environment)
        return json.loads((self.bench.folder / "pool.out").read_text())["seconds"]
