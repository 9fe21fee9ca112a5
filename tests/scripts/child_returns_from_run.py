"""run() forks and returns in both processes: one answer may count, and no row may be doubled."""
import os


def run(mini_batch):
    os.fork()
    return mini_batch
