//! What a node writes into the job's log tree.
//!
//! Promise: **a log never stops work.** Nothing here returns an I/O error or waits for anything but the write itself. What a
//! full or broken disk refuses is dropped and counted, and the count is noted in the file as soon as a write succeeds
//! again. Every file has a cap, and says so where it was cut.
//!
//! [`LogFile`] is the ground: append, buffer, cap, count what is lost. On it stand [`ProcessLog`] (one line per mini-batch),
//! [`UserErrorLog`] (tracebacks of the script) and [`SysErrorLog`] (errors of ours). [`cap_file`] and [`tail_lines`] deal with
//! files that the children write by themselves.

mod captured;
mod errors;
mod file;
mod process;

pub use captured::{cap_file, tail_lines};
pub use errors::{Stage, SysErrorLog, UserErrorLog};
pub use file::{FILE_CAP, Level, LogFile};
pub use process::{MiniBatchLine, ProcessLog};
