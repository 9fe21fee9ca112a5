"""run() calls itself without end for one item: Python's own limit stops it."""


def run(mini_batch):
    if "item-003" in mini_batch:
        return run(mini_batch)
    return mini_batch
