"""Profiles the script's functions with a profiler of the standard library, where the job asks for it."""

import importlib
import os
import time

# A killed process leaves a profile at most this old.
_DUMP_SECONDS = 10


class _Off:
    def around(self, function):
        """``function`` itself."""
        return function

    def dump_now_and_then(self):
        """Nothing."""

    def dump(self):
        """Nothing."""


class _On:
    def __init__(self, module, path):
        self._profile = importlib.import_module(module).Profile()
        self._path = os.path.abspath(path)
        self._dumped = time.monotonic()

    def around(self, function):
        """``function``, profiled."""

        def profiled(*args):
            try:
                return self._profile.runcall(function, *args)
            finally:
                # The profiler in Python does not close a call by itself, and trips over it in the next one.
                if hasattr(self._profile, "simulate_cmd_complete"):
                    self._profile.simulate_cmd_complete()

        return profiled

    def dump_now_and_then(self):
        """Writes the profile so far, if the last one is old."""
        if time.monotonic() - self._dumped >= _DUMP_SECONDS:
            self.dump()

    def dump(self):
        """Writes the profile so far. A disk that is full loses it, and nothing else."""
        partial = self._path + ".partial"
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._profile.dump_stats(partial)
            os.replace(partial, self._path)
        except OSError:
            pass
        self._dumped = time.monotonic()


def profiler(module, path):
    """The profiler called ``module`` (``cProfile``, ``profile``), writing to ``path``; one that does nothing without a name."""
    return _On(module, path) if module else _Off()
