"""run() puts None in the place of sys.stdout and something useless in the place of sys.stderr."""
import sys


class Useless:
    def write(self, text):
        raise OSError("nothing can be written here")


def run(mini_batch):
    sys.stdout = sys.__stdout__ = None
    sys.stderr = sys.__stderr__ = Useless()
    return mini_batch
