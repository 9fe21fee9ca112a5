//! One job, from its data to its output file.

pub mod ledger;
