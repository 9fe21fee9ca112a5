"""init() calls sys.exit(2)."""
import sys


def init():
    sys.exit(2)


def run(mini_batch):
    return mini_batch
