"""The parts of the benchmark in which a job runs on this machine alone and its `run()` does something."""
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import work
from spread import spread

PARTS = ["images", "start", "results", "files"]
RESULTS = 2000
FILES = 1_000_000


def measure(bench, parts, options):
    """Runs these parts; returns their rows of the table."""
    return [row for name in parts for row in globals()[name](bench, options)]


def images(bench, options):
    """Images per second of a real model, beside two bare piped children and a pool; and what fanfold itself takes of the processors."""
    print("images: 18,000 PNG files, a model of scikit-learn, mini-batches of 10", flush=True)
    digits, pipes, pools, shares = work.Digits(bench), [], [], []
    for _ in range(options.rounds):
        own = OwnTime()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status, _ = bench.job(digits.keys, python=digits.python, watch=own)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        digits.check(bench.output())
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        shares.append(100 * own.seconds / spent)
        ours = work.DIGITS / work.seconds_from_ready(bench, status)
        pipe = work.DIGITS / work.bare_pipe(bench, digits.listed, 2, 10, digits.python, digits.environment)["seconds"]
        pool = work.DIGITS / digits.pool()
        print(f"  fanfold {ours:8,.0f}   pipe {pipe:8,.0f}   pool {pool:8,.0f} images/s   own share {shares[-1]:.1f} %", flush=True)
        pipes.append((ours, pipe))
        pools.append((ours, pool))
    own_share = ("images: processor time of fanfold itself", spread(shares, "{:.1f}"), "% of all")
    return work.rows_of("images", "bare pipe", pipes, "images/s") + work.rows_of("images", "pool", pools, "images/s")[1:] + [own_share]


class OwnTime:
    """Called with a process id again and again while that runs: its processor time, without that of its children."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self, pid):
        with contextlib.suppress(OSError):
            self.seconds = work.cpu_seconds(pid)


def start(bench, options):
    """Milliseconds of the whole command for one mini-batch, more than Python needs to start."""
    print("start: a job of one mini-batch, a script without imports", flush=True)
    ours, theirs = [], []
    (bench.folder / "bare.py").write_text("def run(mini_batch):\n    return mini_batch\n")
    for _ in range(max(options.rounds, 20)):
        ours.append(1e3 * bench.job({**work.lines(bench, 1), "entry_script": str(bench.folder / "bare.py")})[1])
        theirs.append(1e3 * bench.command("python", [sys.executable, "-c", "pass"]))
    return [
        ("a job of one mini-batch: fanfold", spread(ours, "{:.0f}"), "ms"),
        ("`python3 -c pass`", spread(theirs, "{:.0f}"), "ms"),
        ("a job of one mini-batch: fanfold − Python", spread([a - b for a, b in zip(ours, theirs)], "{:.0f}"), "ms, of pairs"),
    ]


def results(bench, options):
    """Megabytes per second of mini-batches that return 1 MB of lines, beside the bare pipe, and beside the disk."""
    print(f"results: {RESULTS:,} mini-batches that return 1 MB", flush=True)
    pipes, disks, environment = [], [], {"BENCH_WORK": "big"}
    for _ in range(options.rounds):
        status, _ = bench.job({**work.lines(bench, RESULTS), "environment_variables": environment})
        size = bench.output().stat().st_size / 1e6
        if size != RESULTS:
            sys.exit(f"error: {bench.output()} has {size} MB, not {RESULTS}")
        ours = size / work.seconds_of(status)
        bench.output().unlink()
        told = work.bare_pipe(bench, bench.items(RESULTS), 2, 1, sys.executable, environment)
        pipe = told["bytes"] / 1e6 / told["seconds"]
        (bench.folder / "yardstick.txt").unlink()
        disk = RESULTS / written(bench.folder / "written", RESULTS)
        print(f"  fanfold {ours:8.0f}   pipe {pipe:8.0f}   disk {disk:8.0f} MB/s", flush=True)
        pipes.append((ours, pipe))
        disks.append((ours, disk))
    return work.rows_of("1 MB results", "bare pipe", pipes, "MB/s") + work.rows_of("1 MB results", "write + fdatasync", disks, "MB/s")[1:]


def written(path, megabytes):
    """Seconds to write so much to a file and have it on the disk."""
    block = os.urandom(1_000_000)
    os.sync()
    started = time.perf_counter()
    with open(path, "wb", 0) as file:
        for _ in range(megabytes):
            file.write(block)
        os.fdatasync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def files(bench, options):
    """Seconds from the command to the first result on disk, over a folder of a million files."""
    print(f"files: a folder of {FILES:,} files", flush=True)
    folder = bench.folder / "files"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "in").mkdir(parents=True)
        for number in range(FILES):
            os.close(os.open(folder / "in" / f"{number:07d}.png", os.O_CREAT | os.O_WRONLY, 0o644))
        (folder / "whole").touch()
    firsts, lists = [], []
    for _ in range(options.rounds):
        firsts.append(first_result(bench, {"inputs": [str(folder / "in")], "mini_batch_size": 10}))
        started = time.perf_counter()
        with os.scandir(folder / "in") as entries:
            sorted(entry.name for entry in entries)
        lists.append(time.perf_counter() - started)
        print(f"  first result after {firsts[-1]:.2f} s, sorted(os.scandir()) {lists[-1]:.2f} s", flush=True)
    return [
        (f"first result, {FILES:,} files: fanfold", spread(firsts, "{:.2f}"), "s"),
        (f"{FILES:,} files: sorted(os.scandir())", spread(lists, "{:.2f}"), "s"),
    ]


def first_result(bench, keys):
    command, partial = bench.prepare(keys), bench.output().with_name(bench.output().name + ".partial")
    os.sync()
    with open(bench.folder / "files.err", "w") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError):
                    if partial.stat().st_size:
                        return time.perf_counter() - started
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    sys.exit(f"error: fanfold ended with {process.returncode} before it had a result; see {bench.folder / 'files.err'}")
