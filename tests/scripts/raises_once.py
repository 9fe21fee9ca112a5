"""run() raises in the first attempt of one mini-batch and works in the next."""
import os


def run(mini_batch):
    if "item-003" in mini_batch and not os.path.exists("raised"):
        open("raised", "w").close()
        raise ConnectionError("try again")
    return mini_batch
