"""run() starts a daemon that holds a lock, as it could a GPU, for one item, and dies. The next process finds the lock free."""
import fcntl
import os
import subprocess


def lock():
    file = open("lock", "w")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def init():
    lock().close()


def run(mini_batch):
    if "item-003" in mini_batch:
        subprocess.Popen(["sleep", "600"], start_new_session=True, pass_fds=[lock().fileno()], stderr=subprocess.DEVNULL)
        os._exit(9)
    return mini_batch
