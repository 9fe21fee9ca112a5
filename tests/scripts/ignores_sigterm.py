"""run() refuses to end: it ignores SIGTERM and sleeps for ever on one item."""
import signal
import time


def run(mini_batch):
    if "item-003" in mini_batch:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(600)
    return mini_batch
