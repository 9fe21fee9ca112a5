//! One job, from its data to its output file.

pub mod aggregate;
pub mod commands;
pub mod ledger;
pub mod registry;
pub mod report;
pub mod terminal;
