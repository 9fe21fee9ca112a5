//! Tables: every frame is what pandas makes of that part of the file, every row is there once, and what is wrong is said by file and row.
//!
//! They need pandas and pyarrow: `tests/run.sh` installs both into a virtual environment under `target`.

#[allow(dead_code, reason = "the crash tests use the rest of it")]
#[path = "../crash/seed.rs"]
mod seed;
#[path = "../support/mod.rs"]
mod support;

mod examples;
mod jobs;
mod partitions;
mod refusals;
mod splits;

use std::path::PathBuf;

/// A Python that has pandas and pyarrow.
pub fn python() -> PathBuf {
    let asked = std::env::var_os("FANFOLD_TABLES_PYTHON").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tables-venv/bin/python");
    let python = asked.unwrap_or(built);
    assert!(python.exists(), "{} is not there: `tests/run.sh` makes it, with pandas and pyarrow", python.display());
    std::path::absolute(python).unwrap()
}
