"""run() overflows the stack of C, for one item. The stack is made small, so that Python's own limits come too late."""
import resource
import sys


def deeper(_):
    return sorted([0], key=deeper)


def run(mini_batch):
    if "item-003" in mini_batch:
        sys.setrecursionlimit(1_000_000)
        resource.setrlimit(resource.RLIMIT_STACK, (64 << 10, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        deeper(0)
    return mini_batch
