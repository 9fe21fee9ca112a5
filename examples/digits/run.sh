#!/usr/bin/env bash
# Builds fanfold, reads 360 handwritten digits with it and prints how many it read right.
# Needs Rust and Python 3.9 or later; works from any directory, and each time in a new job directory.
# What follows the command goes to `fanfold run`: examples/digits/run.sh --set mini_batch_size=5
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

command -v cargo >/dev/null || { echo "error: cargo is not on PATH; install Rust (https://rustup.rs)" >&2; exit 2; }
command -v python3 >/dev/null || { echo "error: python3 is not on PATH" >&2; exit 2; }
python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' || {
    echo "error: this needs Python 3.9 or later with venv (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    exit 2
}

job_dir=$root/fanfold-jobs/digits-$(date -u +%Y%m%d-%H%M%S)-$$
cd "$root" # so that cargo takes the toolchain that this repository names
cargo run --release --locked --package fanfold -- run "$here/job.yaml" --job-dir "$job_dir" "$@"
python3 "$here/accuracy.py" "$job_dir/output/predictions.csv" "$here/labels.csv"
