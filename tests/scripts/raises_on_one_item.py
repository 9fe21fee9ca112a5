"""run() raises for one item, each time."""


def run(mini_batch):
    if "item-003" in mini_batch:
        raise ValueError("item-003 is bad")
    return mini_batch
