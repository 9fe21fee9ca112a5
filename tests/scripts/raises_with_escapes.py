"""run() raises, for one item, an exception whose text would clear a terminal and forge a line of a log."""


def run(mini_batch):
    if "item-003" in mini_batch:
        raise ValueError("\x1b[2J\x1b[31mred\x00\x07\r\n2026-11-21 00:00:00|INFO|all is well")
    return mini_batch
