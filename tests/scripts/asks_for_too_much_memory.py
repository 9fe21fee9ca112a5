"""run() asks for more memory than any machine has, for one item."""


def run(mini_batch):
    if "item-003" in mini_batch:
        bytearray(1 << 60)
    return mini_batch
