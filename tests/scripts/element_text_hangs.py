"""run() returns, for one item, an element whose str() never ends: that is overhead, not run()."""
import time


class Element:
    def __str__(self):
        time.sleep(600)
        return "late"


def run(mini_batch):
    return [Element() if item == "item-003" else item for item in mini_batch]
