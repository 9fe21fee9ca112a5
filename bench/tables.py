"""The parts of the benchmark that are about tables: how fast files are split, how soon a large one is begun, and what whole jobs take."""

import json
import shutil
import subprocess
import time

from fleet import venv
from peak import Peak
from spread import spread

PARTS = ["split", "table"]
PACKAGES = ["pandas", "pyarrow"]
ROW = "{},{:.6f},name {},{},2026-11-{:02d}\n"
QUOTED = '{},{:.6f},"name, {}",{},"2026-11-{:02d}"\n'
# Counts the rows, as somebody would who wants to know what there is.
CHUNKS = "import pandas, sys\nprint(sum(len(frame) for frame in pandas.read_csv(sys.argv[1], chunksize=100_000)))\n"
DATASET = "import pyarrow.dataset as ds, sys\nprint(ds.dataset(sys.argv[1], format='csv').count_rows())\n"
# The same work without anything around it: each frame is looked at once.
BARE = "import pandas, sys\nfor frame in pandas.read_csv(sys.argv[1], chunksize=250_000, low_memory=False):\n    print(len(frame))\n"
BATCHES = """import pyarrow.dataset as ds, sys
for batch in ds.dataset(sys.argv[1], format='parquet').to_batches():
    print(len(batch.to_pandas()))
"""
# The same rows as Parquet, in row groups of 64 thousand.
PARQUET = """import os, pyarrow.csv, pyarrow.parquet, sys
source, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = pyarrow.csv.ReadOptions(block_size=64 << 20)
with pyarrow.csv.open_csv(source, options) as reader:
    # As many bytes as asked for, however well they are packed.
    with pyarrow.parquet.ParquetWriter(path, reader.schema, compression='none', use_dictionary=False) as writer:
        for batch in reader:
            writer.write_batch(batch, row_group_size=1 << 16)
            if os.path.getsize(path) >= size:
                break
"""
ENTRY = """import os
import time


def run(mini_batch):
    if not os.path.exists(os.environ["BEGUN"]):
        open(os.environ["BEGUN"], "w").write(repr(time.time()))
    return mini_batch
"""


def csv(bench, name, row, size):
    """A file of about so many bytes: a block of rows, again and again."""
    path = bench.folder / f"{name}-{size >> 20}.csv"
    if not path.exists():
        block = "".join(row.format(i, i / 7, i % 977, i * 7919 % 10**6, 1 + i % 28) for i in range(250_000)).encode()
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            file.write(b"id,x,name,n,day\n")
            for _ in range(max(1, size // len(block))):
                file.write(block)
        part.rename(path)
    return path


def parquet(bench, python, size):
    """A Parquet file of about so many bytes, with the rows of the CSV file."""
    path = bench.folder / f"plain-{size >> 20}.parquet"
    if not path.exists():
        part = path.with_suffix(".part")
        # Its numbers are shorter than their digits: half as many bytes again are rows enough.
        source = csv(bench, "plain", ROW, size * 3 // 2)
        subprocess.run([str(word) for word in (python, "-c", PARQUET, source, part, size)], check=True)
        source.unlink()
        part.rename(path)
    return path


def job(bench, path, python):
    """Writes a job over the table."""
    (bench.folder / "table.py").write_text(ENTRY)
    keys = {
        "name": "table",
        "entry_script": str(bench.folder / "table.py"),
        "inputs": [str(path)],
        "input_type": path.suffix[1:],
        "mini_batch_size": "8MB",
        "process_count_per_node": 2,
        "output_action": "summary_only",
        "allow_reuse": False,
        "environment": {"python": str(python)},
        "environment_variables": {"BEGUN": str(bench.folder / "begun")},
    }
    (bench.folder / "table.yaml").write_text(json.dumps(keys))
    return bench.folder / "table.yaml"


def split(bench, size, rounds):
    """Splits beside pandas in chunks and pyarrow.dataset, all from the page cache; the rows of the table."""
    python, rows = venv(bench, "tables-venv", PACKAGES), []
    for name, row in (("plain", ROW), ("quoted", QUOTED)):
        path = csv(bench, name, row, size)
        gigabytes, times = path.stat().st_size / 1e9, {"fanfold": [], "pandas": [], "pyarrow": []}
        for _ in range(rounds):
            path.open("rb").read(1)
            plan = [bench.programs / "fanfold", "plan", job(bench, path, python)]
            times["fanfold"].append(bench.command("fanfold", plan))
            times["pyarrow"].append(bench.command("pyarrow", [python, "-c", DATASET, path]))
            times["pandas"].append(bench.command("pandas", [python, "-c", CHUNKS, path]))
        for what, seconds in times.items():
            rows.append((f"split, {name}: {what}", spread([gigabytes / s for s in seconds], "{:.2f}"), "GB/s, whole command"))
    return rows


def table(bench, size, rounds):
    """Whole jobs over large tables, each beside one process that reads all of it in chunks; when the first run() begins; the memory of
    fanfold's own process; the rows of the table."""
    python = venv(bench, "tables-venv", PACKAGES)
    rows = []
    for kind, path, peer, program in (
        ("CSV", csv(bench, "plain", ROW, size), "pandas.read_csv(chunksize=…)", BARE),
        ("Parquet", parquet(bench, python, size), "pyarrow.dataset, to_pandas()", BATCHES),
    ):
        gigabytes, begun, ours, theirs, peak = path.stat().st_size / 1e9, [], [], [], Peak()
        for _ in range(rounds):
            (bench.folder / "begun").unlink(missing_ok=True)
            shutil.rmtree(bench.folder / "job", ignore_errors=True)
            started = time.time()
            run = [bench.programs / "fanfold", "run", job(bench, path, python), "--job-dir", bench.folder / "job"]
            ours.append(bench.command("fanfold", run, peak))
            begun.append(float((bench.folder / "begun").read_text()) - started)
            theirs.append(bench.command("pandas", [python, "-c", program, path]))
        ratios = [b / a for a, b in zip(ours, theirs)]
        rows += [
            (f"{kind} of {gigabytes:.1f} GB: first run() begins after", spread(begun, "{:.2f}"), "s"),
            (f"{kind}: peak memory of fanfold, without its Python children", f"{peak.mib:.0f}", "MiB"),
            (f"{kind}: fanfold, 2 processes", spread([gigabytes / s for s in ours], "{:.2f}"), "GB/s, whole command"),
            (f"{kind}: {peer}, 1 process", spread([gigabytes / s for s in theirs], "{:.2f}"), "GB/s, whole command"),
            (f"{kind}: fanfold / {peer}", spread(ratios, "{:.2f}"), f"ratio of {rounds} pairs"),
        ]
    return rows


def measure(bench, parts, options):
    """The rows of the table for these parts."""
    size = int(options.gigabytes * (1 << 30))
    rows = split(bench, size, options.rounds) if "split" in parts else []
    return rows + (table(bench, size, options.rounds) if "table" in parts else [])
