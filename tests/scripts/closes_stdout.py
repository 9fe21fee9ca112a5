"""run() closes sys.stdout, sys.stderr and the descriptors under them."""
import os
import sys


def run(mini_batch):
    sys.stdout.close()
    sys.stderr.close()
    for descriptor in (0, 1, 2):
        try:
            os.close(descriptor)
        except OSError:
            pass
    return mini_batch
