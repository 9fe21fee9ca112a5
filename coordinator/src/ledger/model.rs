//! What the ledger tells its readers: plain values.

use std::ops::Range;

use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::ErrorKind;
use fanfold_shared::state::JobState;

/// Where the job stands, and since when. All times are microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// The state.
    pub state: JobState,
    /// Its stated cause, if it has one.
    pub cause: Option<String>,
    /// When it came into that state.
    pub since_us: u64,
    /// When the ledger was made.
    pub created_us: u64,
    /// When it was first Running.
    pub started_us: Option<u64>,
    /// When it came into its final state, if it is in one.
    pub ended_us: Option<u64>,
    /// How often a coordinator opened the job for writing, the first time included.
    pub starts: u64,
}

/// The job in figures: one row of the ledger, changed in the same transaction as what it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of the output file that are proven.
    pub committed_len: u64,
    /// Items of the job.
    pub items: u64,
    /// Items whose result is in.
    pub items_succeeded: u64,
    /// Items settled without a result: short returns, unreadable ones, and all of a mini-batch out of tries.
    pub items_failed: u64,
    /// Mini-batches of the job.
    pub mini_batches: u64,
    /// Mini-batches whose `run()` returned and whose rows are in, short ones included; of those that were bisected the ones of which a part did.
    pub mini_batches_succeeded: u64,
    /// Mini-batches out of tries.
    pub mini_batches_failed: u64,
    /// Of the succeeded ones, those that returned fewer results than items, and those with a part out of tries.
    pub mini_batches_short: u64,
    /// Elements returned by `run()` beyond one per item.
    pub surplus_results: u64,
    /// Attempts that ended, well or badly, and were taken.
    pub attempts: u64,
    /// Of those, the failed ones.
    pub attempts_failed: u64,
    /// Results dropped because what they cover was settled already.
    pub duplicates: u64,
    /// Seconds, times a million, spent in `run()`.
    pub run_us: u64,
    /// Elements returned by `run()`.
    pub returned: u64,
}

impl Totals {
    /// Mini-batches that are settled, whatever their fate.
    pub fn mini_batches_settled(&self) -> u64 {
        self.mini_batches_succeeded + self.mini_batches_failed
    }

    /// Mini-batches not yet settled.
    pub fn mini_batches_remaining(&self) -> u64 {
        self.mini_batches - self.mini_batches_settled()
    }

    /// Items that are settled, whatever their fate.
    pub fn items_settled(&self) -> u64 {
        self.items_succeeded + self.items_failed
    }
}

/// Failures of one distinct error that carry its traceback; later ones carry only its id.
pub const FULL_TRACEBACKS: u64 = 100;

/// One failed attempt, short return or unreadable item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// In the order of commits.
    pub id: i64,
    /// The mini-batch; None: none was concerned, a process could not start.
    pub mini_batch: Option<u64>,
    /// The items concerned: one for an unreadable item, none where no mini-batch is, else all that were tried of the mini-batch.
    pub items: Range<u64>,
    /// How many of them failed (a short return fails only some, and nobody knows which).
    pub failed_items: u64,
    /// Counted from 1; 0 where there is no mini-batch.
    pub attempt: u32,
    /// Whether it stands: it settled something, or a process could not start. Not merely an attempt that was tried again.
    pub settled: bool,
    /// The class.
    pub kind: ErrorKind,
    /// One line for the user.
    pub message: String,
    /// The distinct error this is an instance of; see [`ErrorGroup`].
    pub group: i64,
    /// Which instance of it, counted from 1.
    pub instance: u64,
    /// The traceback of the distinct error, for its first [`FULL_TRACEBACKS`] instances; None for later ones.
    pub traceback: Option<String>,
    /// The last lines of the process's stderr.
    pub stderr: String,
    /// Where.
    pub node: NodeId,
    /// In which process.
    pub process: Option<ProcessNumber>,
    /// When, microseconds since the epoch.
    pub time_us: u64,
}

/// An attempt that failed and was, or will be, followed by another one of its mini-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedAttempt {
    /// Its mini-batch.
    pub mini_batch: u64,
    /// What was tried of it.
    pub items: Range<u64>,
    /// Counted from 1.
    pub attempt: u32,
}

/// A distinct error: same kind and same traceback, the exception's text left aside (`KeyError: 'a'` and `KeyError: 'b'`
/// raised at the same place are one). Where there is no traceback the message stands for it; short returns are one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorGroup {
    /// Stable within the job.
    pub id: i64,
    /// The class.
    pub kind: ErrorKind,
    /// The message of its first instance.
    pub message: String,
    /// The traceback of its first instance; empty where there is none.
    pub traceback: String,
    /// Instances, attempts that were tried again included.
    pub count: u64,
}

/// A process that was started for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    /// On which node.
    pub node: NodeId,
    /// Its number.
    pub process: ProcessNumber,
    /// Its process id; 0 if nobody said.
    pub pid: u32,
    /// Its `CUDA_VISIBLE_DEVICES`, if it has one.
    pub device: Option<String>,
    /// Microseconds since the epoch; 0 if nobody said.
    pub started_us: u64,
    /// How long import and `init()` took, if they succeeded, microseconds.
    pub init_us: Option<u64>,
    /// Microseconds since the epoch, if it ended.
    pub ended_us: Option<u64>,
    /// How it ended, for the user.
    pub how: Option<String>,
}

/// One settled mini-batch, or part of one, from its packed record (or, out of tries, from its last failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiniBatchRow {
    /// Its id.
    pub mini_batch: u64,
    /// The items that were settled.
    pub items: Range<u64>,
    /// The attempt that settled them.
    pub attempt: u32,
    /// On which node.
    pub node: NodeId,
    /// In which process; None if it never ran in one.
    pub process: Option<ProcessNumber>,
    /// When it was taken up, microseconds since the epoch.
    pub started_us: u64,
    /// Microseconds around and including `run()`.
    pub elapsed_us: u64,
    /// Microseconds of `run()`.
    pub run_us: u64,
    /// Microseconds of CPU time.
    pub cpu_us: u64,
    /// Elements that `run()` returned.
    pub returned: u64,
    /// Items that failed.
    pub failed_items: u64,
    /// How many of them could not be read and were never given to `run()`.
    pub unreadable: u64,
    /// Bytes of rows.
    pub rows_len: u64,
    /// The class and text of what failed it, if it is out of tries.
    pub error: Option<(ErrorKind, String)>,
}

/// One commit: what one transaction proved about the output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// In the order of commits, from 1 without gaps.
    pub id: i64,
    /// Where its bytes begin in the output file.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
    /// Their CRC-32.
    pub crc32: u32,
    /// How many of them, at the start, are the header line.
    pub header_len: u64,
    /// Mini-batches, and parts of them, whose rows they are.
    pub mini_batches: u64,
}

/// A mini-batch that was held by a node that died, and may have killed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The mini-batch.
    pub mini_batch: u64,
    /// Nodes that died while they held it.
    pub host_deaths: u32,
}
