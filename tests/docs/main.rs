//! The documentation says what is so: the pages that are made are those that the program makes, links lead somewhere, and what the guide
//! shows happens.

mod guide;
mod job_file;
mod links;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/told.rs"]
mod told;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A page of the documentation.
fn page(name: &str) -> PathBuf {
    root().join("docs").join(name)
}
