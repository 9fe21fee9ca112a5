#!/usr/bin/env python3
"""Measures fanfold beside its yardsticks. docs/performance.md explains the figures.

    python3 bench/bench.py                          everything; takes many minutes
    python3 bench/bench.py --n 100000 --rounds 5    the same, smaller
    python3 bench/bench.py --only pipe memory       some parts

The work, unless a part says otherwise: a run() that returns at once, two processes, N mini-batches of one item. Product and yardstick take
turns; each ratio is that of a neighbouring pair. The product runs as it is: fsync, ledger, logs, and no switch that only a benchmark sets.
The parts of the fleet start a RabbitMQ and a Redis of their own; what their yardsticks need of Python comes from pip into a folder of the
benchmark's.
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

import alone
import fleet
import tables
from peak import Peak
from spread import spread
from work import seconds_of

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PROCESSES = 2
YARDSTICKS = {
    "pipe": "two Python children over pipes, depth 8",
    "pool": "multiprocessing.Pool, chunksize 1",
    "pool64": "multiprocessing.Pool, chunksize 64",
}
OTHERS = [alone, tables, fleet]
PARTS = [*YARDSTICKS, "memory", *(part for others in OTHERS for part in others.PARTS)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="mini-batches of one item (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of product and yardstick (default: 5)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--memory-n", type=int, nargs=2, default=[10_000, 1_000_000], help="sizes for the memory part")
    parser.add_argument("--gigabytes", type=float, default=5, help="the table of the parts about tables (default: 5)")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "target" / "bench", help="a folder on a real disk")
    parser.add_argument("--json", type=pathlib.Path, help="write every single measurement to this file")
    return parser.parse_args()


class Bench:
    """One series of runs: the folder they work in, the programs, the measurements so far."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.runs = folder.resolve(), programs, []
        self.folder.mkdir(parents=True, exist_ok=True)

    def items(self, n):
        """The input of n items, made if it is not there."""
        path = self.folder / f"items-{n}.txt"
        if not path.exists():
            part = path.with_suffix(".part")
            with open(part, "w", 1 << 20) as file:
                file.writelines(f"data/images/{i:08d}.png\n" for i in range(n))
            part.rename(path)
        return path

    def product(self, n, watch=None):
        """Runs fanfold on n items. `watch` is called with its process id, again and again while it runs."""
        status, whole = self.job({"inputs": [str(self.items(n))], "input_type": "lines", "mini_batch_size": 1}, watch=watch)
        return self.record("fanfold", n, seconds_of(status), whole, self.output())

    def job(self, keys, environment=None, watch=None, python=sys.executable):
        """Runs a job of the benchmark's entry script; returns its status and the seconds of the whole command."""
        whole = self.command("fanfold", self.prepare(keys, python), watch, environment)
        return json.loads((self.folder / "job" / "status.json").read_text()), whole

    def prepare(self, keys, python=sys.executable):
        """The command that runs such a job, in a directory without anything."""
        job_dir = self.folder / "job"
        shutil.rmtree(job_dir, ignore_errors=True)
        job = {
            "name": "bench",
            "entry_script": str(HERE / "entry.py"),
            "process_count_per_node": PROCESSES,
            "environment": {"python": str(python)},
            "allow_reuse": False,
            **keys,
        }
        (self.folder / "job.yaml").write_text(json.dumps(job))  # JSON is YAML
        return [self.programs / "fanfold", "run", self.folder / "job.yaml", "--job-dir", job_dir]

    def output(self):
        """The output file of the last job."""
        return self.folder / "job" / "output" / "parallel_run_step.txt"

    def yardstick(self, name, n):
        """Runs one of the yardsticks on n items."""
        out = self.folder / "yardstick.txt"
        if name == "pipe":
            command = [self.programs / "fanfold-yardstick", "pipe", self.items(n), out, PROCESSES, 8, 1, sys.executable]
            command.append(HERE / "pipe_child.py")
        else:
            chunk = 64 if name == "pool64" else 1
            command = [sys.executable, HERE / "pool.py", self.items(n), out, PROCESSES, chunk]
        whole = self.command(name, command)
        seconds = json.loads((self.folder / f"{name}.out").read_text())["seconds"]
        return self.record(name, n, seconds, whole, out)

    def command(self, name, command, watch=None, environment=None):
        """Runs a command to its end; returns its seconds. Its output lies in <name>.out and <name>.err."""
        os.sync()  # what the run before left to be written is not this one's
        with open(self.folder / f"{name}.out", "w") as out, open(self.folder / f"{name}.err", "w") as err:
            started = time.perf_counter()
            environment = dict(os.environ, **(environment or {}))
            command = [str(word) for word in command]
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            while watch and process.poll() is None:
                watch(process.pid)
                time.sleep(0.01)
            code = process.wait()
            whole = time.perf_counter() - started
        if code != 0:
            text = (self.folder / f"{name}.err").read_text()[-2000:]
            sys.exit(f"error: {name} ended with {code}\n{text}\ncommand: {' '.join(command)}")
        return whole

    def record(self, name, n, seconds, whole, out):
        """Checks the output as a set of rows and keeps the measurement."""
        with open(out) as file, open(self.items(n)) as items:
            rows = file.readlines()
            if len(rows) != n or set(rows) != set(items):
                sys.exit(f"error: {out} has {len(rows)} rows, {len(set(rows))} of them distinct: not the {n} of the input")
        run = {"what": name, "n": n, "seconds": seconds, "whole_seconds": whole}
        self.runs.append(run)
        print(f"  {name:8} {seconds:8.2f} s {n / seconds:10,.0f} mini-batches/s   whole command {whole:8.2f} s", flush=True)
        return run


def compare(bench, name, n, rounds):
    """Takes turns; returns the rows of the table."""
    print(f"{name}: {YARDSTICKS[name]}", flush=True)
    pairs = [(bench.product(n), bench.yardstick(name, n)) for _ in range(rounds)]
    rows = []
    for label, key in (("hand-over to commit", "seconds"), ("whole command", "whole_seconds")):
        ours, theirs = ([n / pair[side][key] for pair in pairs] for side in (0, 1))
        ratios = [a / b for a, b in zip(ours, theirs)]
        rows.append((f"{label}: fanfold", spread(ours, "{:,.0f}"), "mini-batches/s"))
        rows.append((f"{label}: {name}", spread(theirs, "{:,.0f}"), "mini-batches/s"))
        rows.append((f"{label}: fanfold / {name}", spread(ratios, "{:.2f}"), f"ratio of {rounds} pairs"))
    return rows


def memory(bench, sizes):
    """The peak memory of fanfold itself, its Python children left out, at two sizes; the rows of the table."""
    print("memory: VmHWM of fanfold itself", flush=True)
    rows = []
    for n in sizes:
        peak = Peak()
        run = bench.product(n, peak)
        run["peak_mib"] = peak.mib
        rows.append((f"peak memory at {n:,} mini-batches", f"{peak.mib:.1f}", "MiB, one run"))
    return rows


def main():
    options = arguments()
    # Python as it is for most people: it keeps what it compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    build = ["cargo", "build", "--release", "--locked"]
    build += [f"--package={package}" for package in ("fanfold", "fanfold-worker", "fanfold-yardstick")]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(ROOT / "target"))
    subprocess.run(build, cwd=ROOT, env=environment, check=True)
    bench = Bench(options.dir, ROOT / "target" / "release")

    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}\n{options.n:,} mini-batches of one item, {PROCESSES} processes, in {bench.folder}\nwarming up", flush=True)
    bench.product(1000)
    table = []
    for name in [name for name in options.only if name in YARDSTICKS or name == "memory"]:
        if name == "memory":
            table += memory(bench, options.memory_n)
        else:
            bench.yardstick(name, 1000)
            table += compare(bench, name, options.n, options.rounds)
    for others in OTHERS:
        table += others.measure(bench, [name for name in options.only if name in others.PARTS], options)

    print(f"\n{machine}\n\n| figure | median [min–max] | |\n|---|---|---|")
    for row in table:
        print("| " + " | ".join(row) + " |")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "runs": bench.runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
