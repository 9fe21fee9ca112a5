"""run() writes garbage straight to descriptors 1 and 2, as libraries in C do."""
import os


def run(mini_batch):
    for descriptor in (1, 2):
        os.write(descriptor, b"\x00\x00\x00\x09Dgarbage\xff\n" * 1000)
    return mini_batch
