"""run() leaves a thread behind that never ends and is no daemon: Python would wait for it at exit."""
import threading


def run(mini_batch):
    threading.Thread(target=threading.Event().wait).start()
    return mini_batch
