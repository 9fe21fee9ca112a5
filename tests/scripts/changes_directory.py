"""run() moves to another directory and stays there."""
import os


def run(mini_batch):
    os.chdir("/")
    return mini_batch
