"""run() refuses to end: it ignores every signal that can be ignored and sleeps for ever on one item."""
import signal
import time


def run(mini_batch):
    if "item-003" in mini_batch:
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(ignored, signal.SIG_IGN)
        while True:
            time.sleep(600)
    return mini_batch
