//! Registered datasets: names for data, whose versions never change.
//!
//! A version is a small record of paths, of their kind, and of what was there when it was registered ([`store`]). It says where
//! data lies and does not hold it: data that changed since is told of ([`notes`]), and not refused. A job file names a version,
//! and the job holds what that meant when it was submitted; it needs no record afterwards.

mod error;
pub mod notes;
pub mod objects;
mod register;
mod store;

pub use error::DatasetError;
pub use register::{Outcome, Registration, register};
pub use store::{DatasetStore, Listed, from_json, to_json};
