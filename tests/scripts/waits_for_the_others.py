"""run() waits, at one item, until every other item was run: what lies behind it in this process must be run by another."""
import os
import time


def init():
    os.makedirs("done", exist_ok=True)


def run(mini_batch):
    if "item-200" in mini_batch:
        give_up = time.monotonic() + 20
        while len(os.listdir("done")) < 399:
            if time.monotonic() > give_up:
                raise TimeoutError("nobody ran the others")
            time.sleep(0.01)
    else:
        for item in mini_batch:
            open(os.path.join("done", item), "w").close()
    return mini_batch
