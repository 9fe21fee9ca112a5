#!/bin/sh
# Fuzzes the splitters of tables: `fuzz/run.sh [SECONDS] [TARGET...]`, ten minutes for each target unless it says otherwise.
# What breaks one is left in target/fuzz/broken, to be run again with `target/fuzz/…/release/TARGET FILE`.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
targets=${*:-csv jsonl packed parquet}

host=$(rustc -vV | sed -n 's/^host: //p')
# Coverage for libFuzzer; all of it is in stable compilers. With --target, build scripts are left alone.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir target/fuzz

# A footer may say that it has two billion elements of no length, which the parquet crate counts through in two seconds: hence the timeout.
for target in $targets; do
    mkdir -p "target/fuzz/corpus/$target" target/fuzz/broken
    "target/fuzz/$host/release/$target" "target/fuzz/corpus/$target" "fuzz/seeds/$target" -max_total_time="$seconds" -max_len=4096 \
        -rss_limit_mb=2048 -timeout=60 -print_final_stats=1 -artifact_prefix="target/fuzz/broken/$target-"
done
echo "fuzzed for $seconds s each: $targets"
