"""Runs the items of a list through Celery workers that are up. Usage: celery_peer.py ITEMS OUT

Prints {"seconds": …}: from the first hand-over to the last row written.
"""
import json
import sys
import time

from celery import group
from celery_app import run

with open(sys.argv[1]) as file:
    mini_batches = [[line.rstrip("\n")] for line in file]
with open(sys.argv[2], "w", 1 << 20) as out:
    started = time.perf_counter()
    # Of Celery's ways to collect results, the one that was fastest.
    for _, meta in group(run.s(mini_batch) for mini_batch in mini_batches).apply_async().iter_native():
        out.writelines(row + "\n" for row in meta["result"])
    out.flush()
    print(json.dumps({"seconds": time.perf_counter() - started}))
