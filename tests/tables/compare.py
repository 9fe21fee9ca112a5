"""Compares the frames that the host makes of the slices of tables with what pandas reads of the whole files.

    compare.py CASES.jsonl HOST

Prints how many tables were equal; ends with 1 and says where one is not.
"""

import json
import sys

import pandas

cases, host = sys.argv[1:]
sys.path.insert(0, host)
from _fanfold.tables import Tables, Unreadable  # noqa: E402


def whole(case):
    options = case["options"]
    if case["kind"] == "parquet":
        return pandas.read_parquet(case["path"])
    if case["kind"] == "jsonl":
        return pandas.read_json(case["path"], lines=True)
    header = 0 if options["header"] else None
    return pandas.read_csv(case["path"], sep=options["sep"], header=header, dtype=options["dtype"] or None, low_memory=False)


def main():
    equal, wrong = 0, []
    for line in open(cases, encoding="utf-8"):
        case = json.loads(line)
        try:
            expected = whole(case)
        except Exception as error:
            # Then nothing can be said of its slices, but that they end in a frame or in a message.
            expected = error
        tables = Tables(case["options"])
        frames, refused = [], None
        for piece in case["slices"]:
            item = " ".join(map(str, piece)) + "\n" + case["path"]
            try:
                frames.append(tables.load([item]))
            except Unreadable as error:
                refused = str(error)
        if isinstance(expected, Exception):
            continue
        if refused:
            wrong.append("{}: {}\nwhole:\n{}".format(case["path"], refused, expected))
            continue
        keeps_index = not isinstance(expected.index, pandas.RangeIndex) or expected.index.name is not None
        found = pandas.concat(frames, ignore_index=not keeps_index)
        try:
            pandas.testing.assert_frame_equal(found, expected, check_dtype=case["kind"] != "jsonl")
            equal += 1
        except AssertionError as error:
            wrong.append("{} {}\n{}\nfound:\n{}\nwhole:\n{}".format(case["path"], case["slices"], error, found, expected))
    for text in wrong[:4]:
        print(text)
        print(open(text.split(":")[0].split(" ")[0], "rb").read()[:300])
    if wrong:
        sys.exit("{} of the tables differ".format(len(wrong)))
    print(equal)


main()
