"""shutdown() never returns: by then every result is in."""
import time


def run(mini_batch):
    return mini_batch


def shutdown():
    time.sleep(600)
