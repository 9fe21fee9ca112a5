//! One job, from its data to its output file.

pub mod aggregate;
pub mod ledger;
