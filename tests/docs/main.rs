//! The documentation says what is so: pages that are made are those that the program makes.

mod job_file;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A page of the documentation.
fn page(name: &str) -> PathBuf {
    root().join("docs").join(name)
}
