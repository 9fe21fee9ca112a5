"""run() closes every descriptor but the first three, as daemons do, for one item."""
import os
import time


def run(mini_batch):
    if "item-003" in mini_batch:
        os.closerange(3, 4096)
        time.sleep(0.5)  # so that it is caught in the act
    return mini_batch
