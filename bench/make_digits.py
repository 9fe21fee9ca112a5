"""scikit-learn's digits as PNG files, again and again up to COUNT, and a model of them. Usage: make_digits.py FOLDER COUNT"""
import os
import pickle
import sys

from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

folder, count = sys.argv[1], int(sys.argv[2])
os.makedirs(os.path.join(folder, "png"), exist_ok=True)
digits = load_digits()
for i in range(count):
    pixels = (digits.images[i % len(digits.images)] * 15).clip(0, 255).astype("uint8")
    Image.fromarray(pixels).save(os.path.join(folder, "png", f"{i:06d}.png"))
model = LogisticRegression(max_iter=2000).fit(digits.data, digits.target)
with open(os.path.join(folder, "model.pickle"), "wb") as file:
    pickle.dump(model, file)
