"""run() returns two rows for each item."""


def run(mini_batch):
    return [f"{item} {half}" for item in mini_batch for half in ("left", "right")]
