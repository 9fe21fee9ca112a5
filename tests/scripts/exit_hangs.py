"""The process hangs when it should leave: a function registered with atexit never returns."""
import atexit
import time


def init():
    atexit.register(time.sleep, 600)


def run(mini_batch):
    return mini_batch
