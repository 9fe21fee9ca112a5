"""run() starts a daemon as they do: fork, setsid, fork. Nothing ties it to the process but its ancestry."""
import os
import time


def run(mini_batch):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    return mini_batch
