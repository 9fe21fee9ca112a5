"""run() is a generator that yields without end for one item: iterating it counts as run()."""
import time


def run(mini_batch):
    yield from mini_batch
    while "item-003" in mini_batch:
        yield "item-003"
        time.sleep(0.01)
