//! One slot: a place for one Python process at a time, replaced when it ends.
//!
//! [`state`] decides, [`runner`] does; [`child`] starts and signals, [`protocol`] is bytes, [`page`] is what a process
//! says of itself when it can't speak any more.

pub mod child;
pub mod page;
pub mod protocol;
pub mod runner;
pub mod state;
