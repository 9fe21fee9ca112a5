"""run() raises, for one item, an exception whose text has 8 MB."""


def run(mini_batch):
    if "item-003" in mini_batch:
        raise ValueError("huge " + "x" * 8_000_000)
    return mini_batch
