"""The other yardstick: multiprocessing.Pool. Usage: pool.py ITEMS OUT PROCESSES CHUNKSIZE

Prints {"seconds": …}: from the first hand-over, all processes being up, to the last row written.
"""
import json
import multiprocessing
import sys
import time

import entry


def main(items, out, processes, chunksize):
    with open(items) as file:
        mini_batches = [[line.rstrip("\n")] for line in file]
    with multiprocessing.get_context("fork").Pool(int(processes)) as pool, open(out, "w", 1 << 20) as file:
        pool.map(bool, range(64), chunksize=1)
        started = time.perf_counter()
        for rows in pool.imap_unordered(entry.run, mini_batches, chunksize=int(chunksize)):
            for row in rows:
                file.write(row + "\n")
        file.flush()
        print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
