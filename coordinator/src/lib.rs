//! A job, from its data to its output file: submit, split, publish, aggregate, report; and the service that does this for many jobs.
//!
//! It stands before and behind the nodes of the flow: tasks leave here, results come back. Always true: what the ledger
//! says is in the output file is in it, once and whole; everything shown is computed from the ledger. Start reading at
//! [`run`], then [`aggregate`]; of the service, at [`service`].

pub mod aggregate;
pub mod api;
pub mod commands;
pub mod datasets;
pub mod ledger;
pub mod prepare;
pub mod registry;
pub mod report;
pub mod run;
pub mod service;
pub mod signals;
pub mod terminal;
pub mod view;
