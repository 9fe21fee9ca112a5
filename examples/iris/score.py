"""Names iris flowers by their measurements: the species whose mean is nearest. A table goes in, a table comes out."""

import argparse

import pandas

MEASURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def init():
    global means
    parser = argparse.ArgumentParser()
    parser.add_argument("--training", required=True)
    arguments, _ = parser.parse_known_args()  # a job has more arguments than these
    means = pandas.read_csv(arguments.training).groupby("species")[MEASURES].mean()


def run(mini_batch):
    distances = pandas.DataFrame({name: ((mini_batch[MEASURES] - mean) ** 2).sum(axis=1) for name, mean in means.iterrows()})
    return mini_batch[["flower"]].assign(species=distances.idxmin(axis=1))
