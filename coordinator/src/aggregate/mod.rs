//! Decides what is settled, and appends it to the output file: each mini-batch exactly once.
//!
//! Results may repeat, overlap, come late and in any order. The ledger alone decides whether a mini-batch is in, hence the order
//! of a commit: write at the committed length, sync, one transaction, and only then may the caller acknowledge. At the start
//! the file is cut back to the length that the ledger proves. One thread owns an [`Aggregate`]; nothing else opens
//! ledger or file for writing.
//!
//! Start at [`Aggregate::open`]; then [`Aggregate::commit`] for every group of messages, [`Aggregate::finish`] at the end.
//! `docs/design/ledger.md` says what may die between two steps.

mod bisect;
mod commit;
mod error;
mod finish;
mod message;
mod ordered;
mod output;
mod plan;
mod recovery;
mod retry;
mod rewrite;
mod table;
mod timing;
mod uploads;
mod verify;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::interval::IntervalSet;
use fanfold_shared::layout::JobDir;
use fanfold_shared::split::Split;
use fanfold_shared::state::JobState;

use bisect::Tried;

pub use bisect::Tries;
pub use commit::{Committed, Part, Retry};
pub use error::{CommitError, OpenError};
pub use rewrite::{Pass, Progress, Step, Written};
pub use timing::commit_seconds;
pub use verify::{VerifyReport, verify};

use crate::ledger::{JobLock, JobStatus, Ledger, LedgerError, LedgerReader, Suspect, Totals};
use output::OutputFile;

/// The length of the output file of a Completed job, bytes: what was committed, unless that became a Parquet file.
///
/// # Errors
/// The ledger can't be read.
pub fn output_len(reader: &LedgerReader, totals: &Totals) -> Result<u64, LedgerError> {
    let result = recovery::file_result(reader, recovery::RESULT)?;
    Ok(result.map_or(totals.committed_len, |result| result.len))
}

/// Where the rows of an output file lie until it is complete.
pub fn partial_path(target: &std::path::Path) -> PathBuf {
    OutputFile::partial_path(target)
}

/// What [`Aggregate::open`] needs to know.
#[derive(Debug)]
pub struct AggregateConfig {
    /// The job directory.
    pub job: JobDir,
    /// The right to write to it; given back when the [`Aggregate`] is dropped.
    pub lock: JobLock,
    /// The job's id.
    pub job_id: JobId,
    /// A hash of all that makes it another job if it changes.
    pub fingerprint: String,
    /// The split.
    pub split: Split,
    /// The output file under its final name, absolute; None for `summary_only`: rows are then only counted.
    pub output: Option<PathBuf>,
    /// Whether the output becomes one Parquet file: rows are then streams of Arrow's.
    pub table: bool,
    /// Whether its rows come in the order of the input: it is written anew at the end.
    pub ordered: bool,
    /// Whether the header line of a DataFrame is written once, first.
    pub header: bool,
    /// How often what is tried.
    pub tries: Tries,
}

/// What the ledger and the file said at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the job stands; Preparing for a new one.
    pub status: JobStatus,
    /// Unsettled mini-batches that were held by a node when it died: each must run alone.
    pub suspects: Vec<Suspect>,
    /// The lowest number that no recorded process of a node has had. A process that was started but never reported before
    /// a crash is not recorded: its log file is then the only trace of it.
    pub next_process: BTreeMap<NodeId, ProcessNumber>,
    /// Bytes cut off the end of the output file: written, but never proven.
    pub cut: u64,
    /// The network file system that the output file lies on, if it does: other machines may touch it, and its syncs are as
    /// good as its server.
    pub output_file_system: Option<&'static str>,
}

/// The one owner of a job's ledger and output file. See the module documentation.
#[derive(Debug)]
pub struct Aggregate {
    ledger: Ledger,
    output: Output,
    job: JobDir,
    split: Split,
    /// Of the split; counting them anew costs a walk over the inputs.
    mini_batches: u64,
    header: bool,
    /// That line, once it is in the output.
    header_line: Option<Vec<u8>>,
    /// Of output that becomes a Parquet file, its columns so far.
    table: Option<table::Columns>,
    /// Its rows come in the order of the input.
    ordered: bool,
    /// That file, when it is whole and has not got its name yet.
    written: Option<Written>,
    tries: Tries,
    settled: IntervalSet,
    totals: Totals,
    state: JobState,
    /// Each unsettled mini-batch that was tried.
    tried: HashMap<u64, Tried>,
    /// Node deaths of each unsettled mini-batch under suspicion.
    suspects: BTreeMap<u64, u32>,
    /// After an error that leaves open what is on disk, only a new start may write.
    stopped: bool,
}

/// The part of the mini-batch `whole` that is next; None: all of it.
fn next_part(tried: &Tried, whole: &Range<u64>, settled: &impl bisect::Settled, tries: Tries) -> Option<Range<u64>> {
    tried.next(whole, settled, tries).filter(|part| part != whole)
}

/// Where rows go.
#[derive(Debug)]
enum Output {
    /// Nowhere: `summary_only`.
    None,
    /// To the end of this file.
    Partial(OutputFile),
    /// The file has its final name; nothing is added any more.
    Finished,
}

impl Aggregate {
    /// The items that are settled: committed, or failed for good.
    pub fn settled(&self) -> &IntervalSet {
        &self.settled
    }

    /// The job in figures.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The state last recorded.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// The split of the job.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Whether every mini-batch is settled, and there will be no more.
    pub fn all_settled(&self) -> bool {
        self.split.is_complete() && self.totals.mini_batches_remaining() == 0
    }

    /// The split has grown.
    pub fn grown(&mut self) {
        (self.mini_batches, self.totals.mini_batches) = (self.split.mini_batches(), self.split.mini_batches());
        self.totals.items = self.split.items();
    }

    /// The split has grown until it was complete, which is recorded.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: try again when there is room.
    pub fn complete_split(&mut self) -> Result<(), CommitError> {
        self.usable()?;
        self.grown();
        let split = self.split.clone().with_items();
        let recorded = self.ledger.complete_split(&split);
        self.recorded(recorded)?;
        self.split = split;
        Ok(())
    }

    /// The last attempt of an unsettled mini-batch that was answered; 0 if none was.
    pub fn spent(&self, mini_batch: u64) -> u32 {
        self.tried.get(&mini_batch).map(|tried| tried.attempt).unwrap_or_default()
    }

    /// All of [`Aggregate::spent`].
    pub fn all_spent(&self) -> BTreeMap<u64, u32> {
        self.tried.iter().map(|(&mini_batch, tried)| (mini_batch, tried.attempt)).collect()
    }

    /// What is to be tried next of an unsettled mini-batch; None: all of it.
    pub fn next_part(&self, mini_batch: u64) -> Option<Range<u64>> {
        next_part(self.tried.get(&mini_batch)?, &self.split.mini_batch(mini_batch).1, &self.settled, self.tries)
    }

    /// All of [`Aggregate::next_part`].
    pub fn next_parts(&self) -> BTreeMap<u64, Range<u64>> {
        self.tried.keys().filter_map(|&mini_batch| Some((mini_batch, self.next_part(mini_batch)?))).collect()
    }

    /// What is to be published for an unsettled mini-batch now.
    pub fn next_attempt(&self, mini_batch: u64) -> Retry {
        Retry { mini_batch, attempt: self.spent(mini_batch) + 1, part: self.next_part(mini_batch) }
    }

    /// The unsettled mini-batches under suspicion, ascending.
    pub fn suspects(&self) -> impl Iterator<Item = Suspect> + '_ {
        self.suspects.iter().map(|(&mini_batch, &host_deaths)| Suspect { mini_batch, host_deaths })
    }

    /// For reading what was recorded (reports, errors) without a second connection.
    pub fn ledger(&self) -> &LedgerReader {
        self.ledger.reader()
    }

    /// Records that the job is in `state`, and why. Completed is what [`Aggregate::finish`] records.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: try again when there is room. [`CommitError::Unsettled`]: Completed was asked for too early.
    pub fn set_state(&mut self, state: JobState, cause: Option<&str>) -> Result<(), CommitError> {
        self.usable()?;
        if state == JobState::Completed && !self.all_settled() {
            return Err(CommitError::Unsettled { remaining: self.totals.mini_batches_remaining() });
        }
        let recorded = self.ledger.set_state(state, cause);
        self.recorded(recorded)?;
        self.state = state;
        Ok(())
    }

    fn usable(&self) -> Result<(), CommitError> {
        if self.stopped { Err(CommitError::Stopped) } else { Ok(()) }
    }

    /// Sorts the outcome of a transaction: lack of space changed nothing; anything else leaves open what is in the ledger.
    fn recorded<T>(&mut self, outcome: Result<T, LedgerError>) -> Result<T, CommitError> {
        outcome.map_err(|error| match error {
            LedgerError::Full { path, source } => CommitError::DiskFull { path, source },
            error => {
                self.stopped = true;
                CommitError::Ledger(error)
            }
        })
    }
}
