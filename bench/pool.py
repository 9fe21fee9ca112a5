"""The other yardstick: multiprocessing.Pool. Usage: pool.py ITEMS OUT PROCESSES CHUNKSIZE [ITEMS PER MINI-BATCH]

Prints {"seconds": …}: from the first hand-over, all processes being up, to the last row written.
"""
import json
import multiprocessing
import sys
import time

import entry


def main(items, out, processes, chunksize, per=1):
    with open(items) as file:
        items = file.read().splitlines()
    mini_batches = [items[at : at + int(per)] for at in range(0, len(items), int(per))]
    context = multiprocessing.get_context("fork")
    ready = context.Semaphore(0)
    with context.Pool(int(processes), begin, [ready]) as pool, open(out, "w", 1 << 20) as file:
        for _ in range(int(processes)):
            ready.acquire()
        started = time.perf_counter()
        for rows in pool.imap_unordered(entry.run, mini_batches, chunksize=int(chunksize)):
            for row in rows:
                file.write(row + "\n")
        file.flush()
        print(json.dumps({"seconds": time.perf_counter() - started}))


def begin(ready):
    entry.init()
    ready.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
