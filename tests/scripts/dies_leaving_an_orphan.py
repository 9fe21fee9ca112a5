"""run() starts a program that ignores SIGTERM, for one item, and dies."""
import os
import subprocess


def run(mini_batch):
    if "item-003" in mini_batch:
        subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"], stderr=subprocess.DEVNULL)
        os._exit(9)
    return mini_batch
