"""run() returns, for one item, something that is not a list of results: --type says what."""
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--type", required=True)
options, _ = parser.parse_known_args()
RETURNED = {"none": None, "str": "item-003", "bytes": b"item-003", "dict": {"item-003": 1}, "int": 1}


def run(mini_batch):
    if "item-003" in mini_batch:
        return RETURNED[options.type]
    return mini_batch
