"""run() waits, for one item, for a lock that it holds itself."""
import threading

lock = threading.Lock()


def run(mini_batch):
    if "item-003" in mini_batch:
        with lock, lock:
            pass
    return mini_batch
