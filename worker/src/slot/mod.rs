//! One slot: a place for one Python process at a time, replaced when it ends.
//!
//! [`state`] decides, [`runner`] does. [`feed`] hands work over, [`answers`] takes it back, [`outbox`] gathers what goes out, [`blame`] says who killed a
//! process, [`stack`] what it did then; [`child`] starts and signals, [`protocol`] is bytes, [`page`] is what a process says of itself even when it
//! can't speak any more.

pub mod answers;
pub mod blame;
pub mod child;
pub mod current;
pub mod feed;
mod groups;
mod keys;
pub mod outbox;
pub mod page;
pub mod protocol;
pub mod runner;
pub mod stack;
pub mod state;

pub use protocol::MOST_ATTEMPTS;
