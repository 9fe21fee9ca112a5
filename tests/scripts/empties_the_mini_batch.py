"""run() takes everything out of the list that it was given."""


def run(mini_batch):
    rows = list(mini_batch)
    mini_batch.clear()
    return rows
