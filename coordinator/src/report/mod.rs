//! What a job tells the outside while it runs and when it is over: `status.json`, `errors.jsonl` and the coordinator's part of
//! the log tree.
//!
//! Promise: everything here is a projection of the ledger's values ([`Snapshot`]), made anew rather than counted beside it;
//! and **a report never stops work**: what a full disk refuses is left out and made up for at the next opportunity.
//! (Only the writers of the final reports return their I/O errors, for the caller to mention.)
//!
//! Start at [`Reporter`], which drives the rest: a [`Snapshot`] a second → [`Pacer`] → [`StatusFile`], [`Overview`] and the
//! terminal; failures as they are committed → [`ErrorsJsonl`]; at the end [`write_job_result`]. Beside it stand [`MasterRole`], which
//! any thread writes to, [`JobReport`] for the time of Finalizing, and [`exit_code`].

mod alive;
mod errors_jsonl;
mod exit;
mod from_ledger;
mod job_report;
mod master;
mod overview;
mod pace;
mod readme;
mod replace;
mod reporter;
mod result;
mod snapshot;
mod status;
mod user_errors;
mod work;

pub use alive::{Coordinator, coordinator_of};
pub use errors_jsonl::{ERRORS_VERSION, ErrorLine, ErrorsJsonl, Names};
pub use exit::{Interruption, exit_code};
pub use from_ledger::write_job_report;
pub use job_report::JobReport;
pub use master::MasterRole;
pub use overview::Overview;
pub use pace::{Pace, Pacer};
pub use readme::write_readme;
pub use replace::replace_file;
pub use reporter::{ItemNames, Reporter};
pub use result::{
    OutputPlace, cost_in_words, job_result_tells, next_steps, output_in_words, shell_word, write_job_result,
};
pub use snapshot::{Comeback, JobFacts, NodeLine, ProcessState, Snapshot};
pub use status::{
    STATUS_VERSION, Status, StatusCounts, StatusError, StatusFile, StatusNode, StatusOutput, StatusProcess,
    StatusScript,
};
pub use user_errors::{ErrorSummary, Example, write_user_errors};
pub use work::{Work, WorkBooks};

pub(crate) use result::rerun;
#[cfg(test)]
pub(crate) use snapshot::fixtures;
pub(crate) use snapshot::resume;
pub(crate) use user_errors::last_lines;
#[cfg(test)]
pub(crate) use user_errors::tests::failure as failure_fixture;
