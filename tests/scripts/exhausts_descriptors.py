"""run() opens files until the system refuses, for one item, and keeps them all."""
import os
import resource

kept = []


def run(mini_batch):
    if "item-003" in mini_batch:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        while True:
            kept.append(open(os.devnull))
    return mini_batch
