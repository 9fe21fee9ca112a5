"""run() reads at address 0, for one item."""
import ctypes


def run(mini_batch):
    if "item-003" in mini_batch:
        ctypes.string_at(0)
    return mini_batch
