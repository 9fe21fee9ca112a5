//! The job: what the job file means once it is validated. `parse.rs` reads and checks the file.

mod spec;

pub use spec::*;
