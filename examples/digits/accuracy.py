"""Compares predictions with labels: python3 accuracy.py PREDICTIONS LABELS. Standard library only.

Prints the accuracy. Exits with 1 unless every labelled image is predicted exactly once, and nothing else is.
"""
import collections
import csv
import sys


def read(path):
    """The (name, digit) pairs of a file."""
    with open(path, newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def problems(rows, labels):
    """What is wrong with the rows, as lines for the user; empty if nothing is."""
    found = [f"not `name,digit`: {row}" for row in rows if len(row) != 2]
    times = collections.Counter(row[0] for row in rows if len(row) == 2)
    found += [f"missing: {name}" for name in labels if not times[name]]
    found += [f"{count} times: {name}" for name, count in times.items() if count > 1]
    found += [f"not an image of the input: {name}" for name in times if name not in labels]
    return found


def main(predictions, labels):
    rows, labels = read(predictions), dict(read(labels)[1:])
    found = problems(rows, labels)
    for line in found[:10]:
        print(line, file=sys.stderr)
    if found:
        sys.exit(f"{predictions}: {len(found)} problems")
    right = sum(labels[name] == digit for name, digit in rows)
    print(f"{len(rows)} images, each predicted once; {right} right: accuracy {right / len(rows):.1%}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
