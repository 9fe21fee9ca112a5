"""The parts of the benchmark in which jobs run on a fleet: RabbitMQ, Redis, coordinator and one worker with two processes, all on this machine."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import servers
import work
from spread import spread
from work import cpu_seconds, lines, seconds_of, venv

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["triangle", "celery", "digits", "big", "one", "fleet-memory", "idle"]
PEER_PACKAGES = ["celery[redis]==5.7.0", "redis==8.1.0"]
BIG = 600


class Fleet:
    """The servers and a worker, from `with` to its end."""

    def __init__(self, bench, environment=None):
        self.bench, self.worker, self.stack = bench, None, contextlib.ExitStack()
        self.environment = dict(environment or {})

    def __enter__(self):
        self.servers = self.stack.enter_context(servers.Servers(self.bench.folder / "servers"))
        self.environment.update(FANFOLD_BROKER=self.servers.broker, FANFOLD_REDIS=self.servers.store)
        self.stack.callback(self.stop_workers)
        self.workers = []
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start_workers(self, count=1):
        """Starts workers and waits until they listen."""
        for number in range(len(self.workers), len(self.workers) + count):
            log = self.bench.folder / f"worker-{number}.log"
            with open(log, "w") as out:
                command = [str(self.bench.programs / "fanfold-worker"), "--work-dir", str(self.bench.folder / f"worker-{number}")]
                self.workers.append(
                    subprocess.Popen(
                        command, env=dict(os.environ, **self.environment), stdin=subprocess.DEVNULL, stdout=out, stderr=out
                    )
                )

    def stop_workers(self):
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(60)
        self.workers = []

    def job(self, keys, **more):
        """Runs a job on the fleet; returns its status and the seconds of the whole command."""
        return self.bench.job(keys, environment=self.environment, **more)


def measure(bench, parts, options):
    """Runs these parts; returns their rows of the table."""
    table = []
    for name in parts:
        table += globals()[name.replace("-", "_")](bench, options)
    return table


def rows_of(what, theirs_name, pairs, unit):
    return work.rows_of(f"fleet, {what}", theirs_name, pairs, unit)


def triangle(bench, options):
    """Mini-batches per second beside what the broker alone can do with 16 of them in a message."""
    print("triangle: task and result through the broker, 16 mini-batches a message", flush=True)
    pairs = []
    with Fleet(bench) as fleet:
        fleet.start_workers()
        fleet.job(lines(bench, 1000))
        for _ in range(options.rounds):
            status, whole = fleet.job(lines(bench, options.n))
            ours = bench.record("fanfold", options.n, seconds_of(status), whole, bench.output())
            command = [bench.programs / "fanfold-yardstick", "triangle", fleet.servers.broker, options.n, 16]
            bench.command("triangle", command)
            theirs = json.loads((bench.folder / "triangle.out").read_text())["seconds"]
            print(f"  triangle {theirs:8.2f} s {options.n / theirs:10,.0f} mini-batches/s", flush=True)
            pairs.append((options.n / ours["seconds"], options.n / theirs))
    return rows_of("dispatch", "triangle by 16", pairs, "mini-batches/s")


def celery(bench, options):
    """Mini-batches per second beside Celery with the same servers and two processes."""
    print("celery: prefork, two processes, late acknowledgements, prefetch multiplier 64", flush=True)
    python, n, pairs = venv(bench, "peers", PEER_PACKAGES), min(options.n, 5000), []
    with Fleet(bench) as fleet:
        environment = {"BENCH_BROKER": fleet.servers.broker.replace("%2f", "/"), "BENCH_REDIS": fleet.servers.store}
        fleet.start_workers()
        fleet.job(lines(bench, 1000))
        for _ in range(options.rounds):
            status, whole = fleet.job(lines(bench, options.n))
            ours = bench.record("fanfold", options.n, seconds_of(status), whole, bench.output())
            with celery_worker(bench, python, environment):
                theirs = celery_run(bench, python, environment, n)
            pairs.append((options.n / ours["seconds"], n / theirs["seconds"]))
    return rows_of("dispatch", "Celery", pairs, "mini-batches/s")


@contextlib.contextmanager
def celery_worker(bench, python, environment):
    """A Celery worker that has answered once."""
    log = open(bench.folder / "celery-worker.log", "w")
    command = [str(python), "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-l", "error"]
    environment = dict(os.environ, **environment)
    worker = subprocess.Popen(command, cwd=HERE / "peers", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        ready = "import sys; from celery_app import run; [run.delay(['x']).get(timeout=60) for _ in range(20)]"
        subprocess.run([str(python), "-c", ready], cwd=HERE / "peers", env=environment, check=True)
        yield
    finally:
        worker.terminate()
        worker.wait(60)


def celery_run(bench, python, environment, n):
    out = bench.folder / "celery-rows.txt"
    whole = bench.command("celery", [python, HERE / "peers" / "celery_peer.py", bench.items(n), out], environment=environment)
    return bench.record("celery", n, json.loads((bench.folder / "celery.out").read_text())["seconds"], whole, out)


def digits(bench, options):
    """Images per second of a real model beside two bare piped children, depth 2, mini-batches of 10."""
    print("digits: 18,000 PNG files, a model of scikit-learn", flush=True)
    digits, pairs = work.Digits(bench), []
    with Fleet(bench) as fleet:
        fleet.start_workers()
        for _ in range(options.rounds):
            status, _ = fleet.job(digits.keys, python=digits.python)
            digits.check(bench.output())
            ours = work.DIGITS / work.seconds_from_ready(bench, status)
            theirs = work.DIGITS / work.bare_pipe(bench, digits.listed, 2, 10, digits.python, digits.environment)["seconds"]
            print(f"  fanfold {ours:8,.0f}   pipe {theirs:8,.0f} images/s", flush=True)
            pairs.append((ours, theirs))
    return rows_of("digits", "bare pipe", pairs, "images/s")


def big(bench, options):
    """Megabytes per second of mini-batches that return 1 MB of lines, beside the bare pipe."""
    print(f"big: {BIG} mini-batches that return 1 MB", flush=True)
    pairs, environment = [], {"BENCH_WORK": "big"}
    with Fleet(bench) as fleet:
        fleet.start_workers()
        for _ in range(options.rounds):
            status, _ = fleet.job({**lines(bench, BIG), "environment_variables": environment})
            size = bench.output().stat().st_size / 1e6
            if size != BIG:
                sys.exit(f"error: {bench.output()} has {size} MB, not {BIG}")
            ours = size / seconds_of(status)
            pipe = work.bare_pipe(bench, bench.items(BIG), 2, 1, sys.executable, environment)
            theirs = pipe["bytes"] / 1e6 / pipe["seconds"]
            print(f"  fanfold {ours:8.0f}   pipe {theirs:8.0f} MB/s", flush=True)
            pairs.append((ours, theirs))
    return rows_of("1 MB results", "bare pipe", pairs, "MB/s")


def one(bench, options):
    """Milliseconds from the command to the file of a job of one mini-batch on a fleet that is up, beside Celery."""
    print("one: a job of one mini-batch on a fleet that is up", flush=True)
    python, ours, theirs = venv(bench, "peers", PEER_PACKAGES), [], []
    with Fleet(bench) as fleet:
        environment = {"BENCH_BROKER": fleet.servers.broker.replace("%2f", "/"), "BENCH_REDIS": fleet.servers.store}
        fleet.start_workers()
        with celery_worker(bench, python, environment):
            fleet.job(lines(bench, 1))
            for _ in range(max(options.rounds, 10)):
                ours.append(fleet.job(lines(bench, 1))[1] * 1e3)
                theirs.append(celery_run(bench, python, environment, 1)["whole_seconds"] * 1e3)
    return [
        ("fleet, job of one mini-batch: fanfold", spread(ours, "{:.0f}"), "ms"),
        ("fleet, job of one mini-batch: Celery", spread(theirs, "{:.0f}"), "ms"),
        ("fleet, job of one mini-batch: fanfold / Celery", spread([a / b for a, b in zip(ours, theirs)], "{:.2f}"), "ratio of pairs"),
    ]


def fleet_memory(bench, options):
    """The peak memory of the coordinator and of the broker at two sizes."""
    print("fleet-memory: VmHWM of the coordinator, VmRSS of the broker", flush=True)
    table = []
    for n in options.memory_n:
        peaks = {"coordinator": 0.0, "broker": 0.0}
        with Fleet(bench) as fleet:
            fleet.start_workers()
            fleet.job(lines(bench, 1000))
            broker = fleet.servers.broker_pid()

            def watch(pid):
                peaks["coordinator"] = max(peaks["coordinator"], memory(pid, "VmHWM"))
                peaks["broker"] = max(peaks["broker"], memory(broker, "VmRSS"))

            fleet.job(lines(bench, n), watch=watch)
        for who, mib in peaks.items():
            table.append((f"fleet, peak memory of the {who} at {n:,} mini-batches", f"{mib:.0f}", "MiB, one run"))
    return table


def memory(pid, field):
    """A figure of /proc/<pid>/status, MiB; 0 if the process has ended."""
    with contextlib.suppress(OSError, StopIteration):
        with open(f"/proc/{pid}/status") as status:
            return int(next(line for line in status if line.startswith(field + ":")).split()[1]) / 1024
    return 0.0


def idle(bench, options):
    """The share of a core that two idle workers and an idle coordinator take together."""
    print("idle: two workers and the service, 30 s", flush=True)
    with Fleet(bench) as fleet:
        command = [bench.programs / "fanfold", "serve", "--state", bench.folder / "service", "--listen", "127.0.0.1:0"]
        log = open(bench.folder / "serve.log", "w")
        environment = dict(os.environ, **fleet.environment)
        shutil.rmtree(bench.folder / "service", ignore_errors=True)
        service = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            fleet.start_workers(2)
            time.sleep(10)  # until what belongs to starting is over
            pids = [service.pid, *(worker.pid for worker in fleet.workers)]
            before = sum(map(cpu_seconds, pids))
            time.sleep(30)
            share = (sum(map(cpu_seconds, pids)) - before) / 30
        finally:
            service.terminate()
            service.wait(60)
    return [("fleet, two idle workers and an idle coordinator", f"{share * 100:.2f}", "% of a core")]
