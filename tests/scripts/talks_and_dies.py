"""run() writes to sys.stderr and to descriptor 2, for one item, and leaves."""
import os
import sys


def run(mini_batch):
    if "item-003" in mini_batch:
        print("about to give up", file=sys.stderr)
        os.write(2, b"libfast: giving up\n")
        os._exit(4)
    print("fine:", *mini_batch, file=sys.stderr)
    return mini_batch
