"""run() stops its process with SIGSTOP, for one item: it takes no SIGTERM either."""
import os
import signal


def run(mini_batch):
    if "item-003" in mini_batch:
        os.kill(os.getpid(), signal.SIGSTOP)
    return mini_batch
