"""init() deletes one of the input files, as another program may while the job runs."""
import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--folder", required=True)
options, _ = parser.parse_known_args()


def init():
    try:
        os.remove(os.path.join(options.folder, "item-003"))
    except FileNotFoundError:
        pass


def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch if os.path.exists(path)]
