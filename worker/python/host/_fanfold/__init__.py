"""The Python host of fanfold: runs one entry script, mini-batch after mini-batch, for a worker.

Standard library only, Python 3.7 and later. Start at ``main``; ``loop`` is the hot path; ``wire`` alone knows the frames.

What is always true:
- Nothing that the script prints, closes, forks or replaces reaches the frames.
- Everything that the host needs is imported before the script's folder is importable, so no file beside a script can
  stand in for a module of ours.
- A mini-batch is answered once: with ``D``, ``P`` or ``F``, in the order of arrival.
"""
