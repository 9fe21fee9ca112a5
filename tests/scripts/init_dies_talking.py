"""init() ends the process as a library in C does that finds no licence: a line on descriptor 2, and out."""
import os


def init():
    os.write(2, b"libfast: no licence found\n")
    os._exit(1)


def run(mini_batch):
    return mini_batch
