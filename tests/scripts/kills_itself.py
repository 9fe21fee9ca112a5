"""The process gets SIGKILL for one item, as from the kernel."""
import os
import signal


def run(mini_batch):
    if "item-003" in mini_batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return mini_batch
