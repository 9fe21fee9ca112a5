"""The process leaves by itself for one item, with the code that --code says: 0 is a failure, too."""
import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--code", type=int, required=True)
options, _ = parser.parse_known_args()


def run(mini_batch):
    if "item-003" in mini_batch:
        os._exit(options.code)
    return mini_batch
