//! A worker of a fleet: waits for a ticket, becomes a node of that job until it is released, waits for the next one.
//!
//! ```text
//! ticket -> Joining -> (equip) -> Joined -> … -> Left -> ticket
//! ```
//!
//! It knows nothing for longer than one job: which jobs there are, what a worker is and what it should do comes through the
//! broker, and what a job is from its directory. `docs/design/fleet.md` is the whole picture. Start reading at [`worker`].

pub mod health;
mod job;
mod log;
mod member;
mod metrics;
mod place;
mod presence;
pub mod secrets;
pub mod signals;
mod ticket;
pub mod worker;

pub use worker::{Settings, run};
