//! Tables: every frame is what pandas makes of that part of the file, every row is there once, and what is wrong is said by file and row.
//!
//! They need pandas and pyarrow: `tests/run.sh` installs both into a virtual environment under `target`.

#[path = "../support/running.rs"]
mod running;
#[allow(dead_code, reason = "the crash tests use the rest of it")]
#[path = "../crash/seed.rs"]
mod seed;
#[path = "../support/mod.rs"]
mod support;

mod bisect;
mod changed;
mod columns;
mod culprits;
mod examples;
mod full;
mod groups;
mod growing;
mod jobs;
mod keys;
mod memory;
mod mltable;
mod ordered;
mod parquet_output;
mod partitions;
mod random;
mod refusals;
mod splits;

use support::{has_pandas, python_with_pandas as python};
