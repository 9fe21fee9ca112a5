"""init() reads at address 0."""
import ctypes


def init():
    ctypes.string_at(0)


def run(mini_batch):
    return mini_batch
