"""run() calls sys.exit(2) for one item."""
import sys


def run(mini_batch):
    if "item-003" in mini_batch:
        sys.exit(2)
    return mini_batch
