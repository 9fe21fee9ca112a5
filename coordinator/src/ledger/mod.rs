//! The ledger: what is settled, and the proof of it (`docs/design/ledger.md`).
//!
//! One SQLite database for each job. [`Ledger`] is its only writer and exists only while the job directory's lock is
//! held; [`LedgerReader`] may be opened by anybody at any time. What a transaction recorded stays, whatever dies; what
//! none recorded did not happen. Nothing here touches the output file: that order is `aggregate`'s.

mod connection;
mod error;
mod error_groups;
mod location;
mod lock;
mod lookup;
mod model;
pub(crate) mod packed;
mod reader;
mod record;
mod schema;
mod scripts;
mod uploads;
mod writer;

pub use error::LedgerError;
pub use location::network_file_system;
pub use lock::JobLock;
pub(crate) use lock::{who, whole_file};
pub(crate) use model::FailedAttempt;
pub use model::*;
pub use reader::{FailureFilter, LedgerReader};
pub(crate) use record::{Fate, GroupRecord, NewFailure, NewGroup, ProcessChange, Reopened};
pub(crate) use scripts::Switch;
pub use scripts::{NewScript, ScriptRow, script_of};
pub use uploads::{There, UploadRow};
pub(crate) use writer::now_us;
pub use writer::{Identity, Ledger};
