"""run() loops for hours in C, for one item, without ever letting another thread or a signal handler run."""


def run(mini_batch):
    if "item-003" in mini_batch:
        sum(range(10**13))
    return mini_batch
