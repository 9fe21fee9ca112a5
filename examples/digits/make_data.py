"""Writes the held-out digits as PNG files into images/, and what they are into labels.csv.

Both are in the repository; this is how they were made. It needs the packages of requirements.txt: python make_data.py
"""
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from split import held_out

HERE = Path(__file__).resolve().parent
SIDE = 32  # pixels; the originals have 8, which is little to look at


def main():
    images = HERE / "images"
    images.mkdir(exist_ok=True)
    digits = load_digits()
    lines = ["name,digit"]
    for index, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
        if not held_out(index):
            continue
        name = f"digit-{index:04d}.png"
        grey = Image.fromarray((pixels * 15).astype("uint8"))  # 0..16 becomes 0..240, and back without loss
        grey.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(images / name, optimize=True)
        lines.append(f"{name},{digit}")
    (HERE / "labels.csv").write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} images in {images}")


if __name__ == "__main__":
    main()
