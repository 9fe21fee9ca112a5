"""Compares the sales of each day with the mean of its store: a mini-batch is all rows of all files of a store."""


def run(mini_batch, mini_batch_context):
    mean = mini_batch.amount.mean()
    # `store` and `month` stand in the paths of the files, and are columns as well.
    return mini_batch[["store", "month", "day"]].assign(
        amount=mini_batch.amount, of_mean=(mini_batch.amount / mean).round(3)
    )
