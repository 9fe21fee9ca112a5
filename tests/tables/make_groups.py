"""Writes random Parquet files with columns that can be keys: make_groups.py FOLDER."""

import datetime
import os
import random
import sys

import pandas
import pyarrow as pa
import pyarrow.parquet as pq

root = sys.argv[1]
for case in range(40):
    random.seed(case)
    pick = random.choice
    os.mkdir(os.path.join(root, "parquet{}".format(case)))
    for number in range(random.randint(1, 3)):
        rows = random.randint(1, 60)
        frame = pandas.DataFrame({"id": [1000 * number + row for row in range(rows)]})
        if case % 4 == 1:
            frame.index = pandas.Index([f"row {row}" for row in range(rows)], name="label")
        if case % 4 == 2:
            frame.index = pandas.RangeIndex(5, 5 + 3 * rows, 3, name="step")
        table = pa.Table.from_pandas(frame)
        columns = {
            "text": pa.array([pick(["a", "", "é", None, "a\0b", "NA"]) for _ in range(rows)]),
            "number": pa.array([pick([1, -1, 10, None]) for _ in range(rows)], pa.int64()),
            "byte": pa.array([pick([0, 200, 255]) for _ in range(rows)], pa.uint8()),
            "big": pa.array([pick([2**64 - 1, 0]) for _ in range(rows)], pa.uint64()),
            "ok": pa.array([pick([True, False, None]) for _ in range(rows)]),
            "day": pa.array([pick([datetime.date(1969, 12, 31), datetime.date(2026, 2, 28), None]) for _ in range(rows)]),
            "kind": pa.array([pick(["x", "y"]) for _ in range(rows)]).dictionary_encode(),
            "list": pa.array([[row] for row in range(rows)]),
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        options = {"compression": pick(["snappy", "zstd", "gzip", "lz4", "brotli", "none"]), "use_dictionary": pick([True, False])}
        options["data_page_version"] = pick(["1.0", "2.0"])
        path = os.path.join(root, "parquet{}".format(case), "{}.parquet".format(number))
        pq.write_table(table, path, row_group_size=random.randint(1, 40), **options)
