"""Notes every call in a side log that no crash can undo, and behaves as it is told in behaviour.py."""
import os
import time

from azureml_user.parallel_run import EntryScript

import behaviour

SIDE_LOG = os.environ["CRASH_SIDE_LOG"]
TRIES = os.environ["CRASH_TRIES"]


def note(text):
    log = os.open(SIDE_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, (text + "\n").encode("ascii"))
    os.close(log)


def init():
    note("init {} {}".format(EntryScript().agent_name, os.getpid()))


def told(keys):
    """Notes that a mini-batch runs, and behaves as it is told; what is left to do is returned."""
    note("run {} {}".format(os.getpid(), " ".join(keys)))
    time.sleep(behaviour.SECONDS)
    does, n = behaviour.OF.get(keys[0], ("plain", 0))
    if does == "raises":
        # Its first n runs, of whichever process: a file remembers them.
        with open(os.path.join(TRIES, keys[0]), "ab") as tries:
            tries.write(b"x")
            tries.flush()
            if tries.tell() <= n:
                raise ValueError("not yet")
    elif does == "hangs":
        note("hangs {}".format(os.getpid()))
        time.sleep(600)
    return does, n


def run(mini_batch):
    keys = [os.fsencode(os.path.basename(item)).hex() for item in mini_batch]
    does, n = told(keys)
    if does == "short":
        return keys[:-n]
    if does == "large":
        return [key + " " + "x" * n for key in keys]
    return keys
