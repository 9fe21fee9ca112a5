"""run() is a generator that raises after its first rows: none of them may reach the output."""


def run(mini_batch):
    for item in mini_batch:
        if item == "item-003":
            raise ValueError("item-003 is bad")
        yield item
