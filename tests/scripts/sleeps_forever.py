"""run() sleeps for ever on one item."""
import time


def run(mini_batch):
    if "item-003" in mini_batch:
        time.sleep(600)
    return mini_batch
