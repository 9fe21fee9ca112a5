"""run() writes garbage to every descriptor behind the first three, for one item."""
import os
import time


def run(mini_batch):
    if "item-003" in mini_batch:
        for descriptor in range(3, 64):
            try:
                os.set_blocking(descriptor, False)
                os.write(descriptor, b"\xff" * 4096)
            except OSError:
                pass
        time.sleep(0.5)  # so that it is caught in the act
    return mini_batch
