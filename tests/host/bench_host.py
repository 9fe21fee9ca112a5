"""Prints what the host costs for a mini-batch whose ``run()`` returns at once: ``python3 tests/host/bench_host.py``."""

import os
import statistics
import struct
import subprocess
import threading
import time

import harness

FRAMES = 400
PER_FRAME = 512


def frame_of(items):
    """An ``R`` frame of ``PER_FRAME`` mini-batches of ``items`` items each."""
    heads = b"".join(struct.pack("<QII", index, items, 1) for index in range(PER_FRAME))
    names = b"".join(b"/data/images/%08d.png\0" % index for index in range(PER_FRAME * items))
    body = struct.pack("<I", PER_FRAME) + heads + names
    return struct.pack("<IB", 1 + len(body), ord("R")) + body


def measure(script, items=1):
    """Microseconds for each mini-batch, the worker's side of the pipe included."""
    with harness.ready(script, separator=0) as host:
        data = frame_of(items) * 8

        def feed():
            for _ in range(FRAMES // 8):
                view = memoryview(data)
                while view:
                    view = view[os.write(host.to_host, view) :]

        began = time.perf_counter()
        cpu = cpu_seconds(host.process.pid)
        feeder = threading.Thread(target=feed)
        feeder.start()
        left = FRAMES * PER_FRAME
        while left:
            kind, body = host.receive()
            assert kind == b"D"
            left -= struct.unpack_from("<I", body)[0]
        wall = time.perf_counter() - began
        used = cpu_seconds(host.process.pid) - cpu
        feeder.join()
        return wall / (FRAMES * PER_FRAME) * 1e6, used / (FRAMES * PER_FRAME) * 1e6


def cpu_seconds(pid):
    """CPU time that process ``pid`` has used."""
    with open("/proc/{}/stat".format(pid)) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    """Measures each kind of script five times and prints the medians."""
    scripts = {
        "one item, a constant list": ("ROW = ['done']\ndef run(mini_batch): return ROW\n", 1),
        "one item, echoed": (harness.ECHO, 1),
        "ten items, echoed": (harness.ECHO, 10),
        "one item, with context": ("def run(mini_batch, context): return mini_batch\n", 1),
    }
    version = subprocess.check_output([harness.PYTHON, "--version"]).decode().strip()
    print(version, "| microseconds for each mini-batch: wall, CPU of the host")
    for name, (script, items) in scripts.items():
        runs = [measure(script, items) for _ in range(5)]
        wall, cpu = (statistics.median(values) for values in zip(*runs))
        print("{:28} {:6.2f} {:6.2f}".format(name, wall, cpu))


if __name__ == "__main__":
    main()
