"""Reads handwritten digits: an entry script as ParallelRunStep takes it, without a line for fanfold."""
import os

import numpy as np
from azureml_user.parallel_run import EntryScript
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from split import held_out

model = None


def init():
    """Once in each process: fits the model on the digits that are not among the images."""
    global model
    digits = load_digits()
    known = [index for index in range(len(digits.target)) if not held_out(index)]
    model = SVC(gamma=0.001).fit(digits.data[known], digits.target[known])
    EntryScript().logger.info("model fitted on %d digits", len(known))


def run(mini_batch):
    """One line for each image: its name and the digit that it shows."""
    digits = model.predict([pixels(path) for path in mini_batch])
    EntryScript().logger.info("predicted %d images", len(mini_batch))
    return [f"{os.path.basename(path)},{digit}" for path, digit in zip(mini_batch, digits)]


def pixels(path):
    """The 64 grey values that the model knows, 0 to 16."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((8, 8), Image.Resampling.NEAREST), dtype=float).ravel() / 15
