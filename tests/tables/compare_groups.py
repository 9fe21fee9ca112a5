"""Compares the frames that the host makes of gathered rows with the groups that pandas makes of the whole files.

    compare_groups.py CASES.jsonl HOST

Prints how many groups were equal; ends with 1 and says where one is not.
"""

import json
import sys

import pandas
import pyarrow.parquet

cases, host = sys.argv[1:]
sys.path.insert(0, host)
from _fanfold.tables import Tables  # noqa: E402


def csv(path, options, **more):
    header = 0 if options["header"] else None
    index = {} if header is None else {"index_col": False}
    return pandas.read_csv(path, sep=options["sep"], header=header, dtype=str, low_memory=False, **index, **more)


def text_of(value):
    return value if value is None or isinstance(value, str) else str(value)


def whole(case, path):
    """All of a file, and for each row the texts of the keys."""
    keys, options = case["keys"], case["options"]
    if case["kind"] == "parquet":
        table = pyarrow.parquet.read_table(path)
        texts = [[text_of(value) for value in table.column(key).to_pylist()] for key in keys]
        return pandas.read_parquet(path), list(zip(*texts))
    if case["kind"] == "jsonl":
        # A number, as it stands there.
        as_is = {"parse_int": str, "parse_float": str}
        lines = [json.loads(line, **as_is) for line in open(path, encoding="utf-8", newline="\n") if line.strip()]
        word = {True: "true", False: "false"}
        texts = [tuple(word[line[key]] if isinstance(line.get(key), bool) else line.get(key) for key in keys) for line in lines]
        # Types are made of the rows of a group: of the lines themselves.
        kept = [line for line in open(path, encoding="utf-8", newline="\n") if line.strip()]
        return kept, texts
    texts = csv(path, options, keep_default_na=False, na_filter=False)
    # A field that a short row has not.
    texts = texts.fillna("")
    names = keys if options["header"] else [int(key) for key in keys]
    return csv(path, options), list(texts[names].itertuples(index=False, name=None))


def expected_groups(case):
    """For each combination of values its rows of each file that has any."""
    groups = {}
    for path in case["files"]:
        frame, texts = whole(case, path)
        order = pandas.DataFrame({"key": pandas.Series(texts, dtype=object)}).groupby("key", sort=False).indices
        for key, rows in order.items():
            if isinstance(frame, list):
                part = [frame[row] for row in rows]
            elif case["kind"] == "parquet":
                # Numbers of which some are missing are floats: where none is, they are not.
                part = pyarrow.parquet.read_table(path).take(list(rows)).to_pandas()
                part.index = frame.iloc[rows].index
            else:
                part = frame.iloc[rows]
            groups.setdefault(key, []).append((path, part, list(rows)))
    return groups


def together(case, parts):
    """One frame of the rows of a group."""
    if case["kind"] == "jsonl":
        import io

        lines = [line.strip() for _, part, _ in parts for line in part]
        return pandas.read_json(io.StringIO("\n".join(lines)), lines=True)
    frames = [part for _, part, _ in parts]
    if len(frames) == 1:
        frame = frames[0]
        if case["kind"] != "parquet" or frame.index.name is None:
            frame = frame.reset_index(drop=True)
        return frame
    return pandas.concat(frames, ignore_index=True)


def plain(frame):
    """Categories are those of the row groups that were read: compared are the values."""
    kinds = {name: object for name, kind in frame.dtypes.items() if name == "kind"}
    return frame.astype(kinds)


def main():
    equal = 0
    for line in open(cases, encoding="utf-8"):
        case = json.loads(line)
        expected = expected_groups(case)
        found = {tuple(group["key"]): group for group in case["groups"]}
        if len(found) != len(case["groups"]) or found.keys() != expected.keys():
            sys.exit("{}: other combinations:\n{}\n{}".format(case["files"], sorted(map(str, found)), sorted(map(str, expected))))
        tables = Tables(case["options"])
        for key, parts in expected.items():
            group = found[key]
            frame = tables.load(group["segments"])
            origins = [[path, row] for path, _, rows in parts for row in rows]
            try:
                assert group["origins"] == origins, (group["origins"], origins)
                # An index that is a range by itself is one of numbers in a part of it.
                pandas.testing.assert_frame_equal(plain(frame), plain(together(case, parts)), check_index_type=False)
            except AssertionError as error:
                text = "{} {}\n{}\nfound:\n{}\nexpected:\n{}"
                sys.exit(text.format(case["files"], key, error, frame, together(case, parts)))
            equal += 1
    print(equal)


main()
