"""As score.py, over rows of tables: returns their frame, as text its keys alone."""
import os

import score
from score import init  # noqa: F401

PARQUET = os.environ["CRASH_OUTPUT"].endswith(".parquet")


def run(mini_batch):
    does, n = score.told(list(mini_batch.key))
    if does == "short":
        mini_batch = mini_batch.iloc[:-n]
    if not PARQUET:
        return mini_batch[["key"]]
    # A column that has no value in most mini-batches, and columns in another order in every second one.
    mini_batch = mini_batch.assign(ballast="x" * n if does == "large" else None)
    return mini_batch if mini_batch.number.iloc[0] % 2 else mini_batch[list(reversed(mini_batch.columns))]
