"""run() calls abort(), as a failed assertion in C does, for one item."""
import os


def run(mini_batch):
    if "item-003" in mini_batch:
        os.abort()
    return mini_batch
