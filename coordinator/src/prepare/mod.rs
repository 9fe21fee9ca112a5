//! What a job needs before its first mini-batch: the list of its items and the snapshot of its script.
//!
//! Both lie in the job directory, are complete or not there, and never change once complete: what dies in the middle is
//! begun anew by the next start. [`listing`] goes from the inputs of the job file to the durable list
//! ([`fanfold_shared::items`]), [`snapshot`] copies the script's tree. A node makes its own working copy of the snapshot
//! (`fanfold_worker::workdir`).

mod cloud;
mod contents;
#[cfg(all(test, feature = "failpoints"))]
mod crash_tests;
mod empty;
mod error;
#[cfg(fuzzing)]
pub mod fuzz;
mod glob;
mod groups;
mod kind;
mod known;
mod lines;
pub mod listing;
mod names;
mod notes;
pub mod pandas;
mod partitions;
pub mod snapshot;
mod sort;
mod source;
pub mod splitter;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

pub use contents::contents;
pub use error::{Cancel, ListError};
pub use kind::is_of_kind;
pub use snapshot::SnapshotError;
