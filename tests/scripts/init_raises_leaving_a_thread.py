"""init() leaves a thread behind that never ends, and raises: Python would wait for the thread at exit."""
import threading


def init():
    threading.Thread(target=threading.Event().wait).start()
    raise ConnectionError("no server")


def run(mini_batch):
    return mini_batch
