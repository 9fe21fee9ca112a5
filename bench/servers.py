"""A RabbitMQ and a Redis of the benchmark's own: on free loopback ports, with their data in a folder of the benchmark's."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

RABBITMQ = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Servers:
    """Both servers, from `with` to its end."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.processes = []
        self.node = f"fanfold-bench-{os.getpid()}@localhost"

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self.rabbitmq()
            self.redis()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        # RabbitMQ's port mapper makes itself independent.
        for pid in self.marked():
            os.kill(pid, signal.SIGKILL)

    def rabbitmq(self):
        program = next((found for name in RABBITMQ if (found := shutil.which(name))), None)
        if program is None:
            sys.exit("error: the fleet parts need rabbitmq-server (Debian package rabbitmq-server), or leave them out with --only")
        port, home = free_port(), self.folder / "rabbitmq"
        home.mkdir()
        (home / "enabled_plugins").write_text("[].")
        # As compose/rabbitmq/fanfold.conf has it: without, memory follows a log of 512 MB.
        (home / "rabbitmq.conf").write_text("raft.wal_max_size_bytes = 33554432\n")
        environment = dict(
            os.environ,
            HOME=str(home),
            RABBITMQ_NODENAME=self.node,
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(port),
            RABBITMQ_DIST_PORT=str(free_port()),
            ERL_EPMD_PORT=str(free_port()),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_MNESIA_BASE=str(home / "mnesia"),
            RABBITMQ_LOG_BASE=str(home / "log"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(home / "enabled_plugins"),
            RABBITMQ_PID_FILE=str(home / "pid"),
            RABBITMQ_CONFIG_FILE=str(home / "rabbitmq.conf"),
        )
        self.start("rabbitmq", [program], environment)
        self.broker = f"amqp://guest:guest@127.0.0.1:{port}/%2f"
        self.await_port("rabbitmq", port, b"AMQP\x00\x00\x09\x01")

    def redis(self):
        program = shutil.which("redis-server")
        if program is None:
            sys.exit("error: the fleet parts need redis-server (Debian package redis-server), or leave them out with --only")
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.start("redis", command, os.environ)
        self.store = f"redis://127.0.0.1:{port}/0"
        self.await_port("redis", port, b"PING\r\n")

    def start(self, name, command, environment):
        log = open(self.folder / f"{name}.log", "w")
        self.processes.append(
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        )

    def await_port(self, name, port, hello):
        """Waits until the server answers `hello`."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.sendall(hello)
                    if connection.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.1)
        sys.exit(f"error: {name} did not start; see {self.folder / (name + '.log')}")

    def broker_pid(self):
        """The process id of the Erlang machine."""
        return next(pid for pid in self.marked() if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "beam.smp")

    def marked(self):
        """What RabbitMQ started, whoever is its parent now."""
        mark = f"RABBITMQ_NODENAME={self.node}".encode()
        for entry in pathlib.Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in entry.read_bytes().split(b"\0"):
                    yield int(entry.parent.name)
            except OSError:
                pass
