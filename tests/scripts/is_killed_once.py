"""The process gets SIGKILL in the first attempt of one mini-batch; the next attempt works."""
import os
import signal


def run(mini_batch):
    if "item-003" in mini_batch and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return mini_batch
