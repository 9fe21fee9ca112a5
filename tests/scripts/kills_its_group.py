"""run() sends SIGKILL to its whole process group, for one item: nobody else may be in it."""
import os
import signal


def run(mini_batch):
    if "item-003" in mini_batch:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    return mini_batch
