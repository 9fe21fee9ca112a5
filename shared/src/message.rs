//! What coordinator and node say to each other: plain types, no logic.
//!
//! Embedded they move as values; on a fleet they are MessagePack with [`VERSION`] in front.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, ProcessNumber};

/// The version of these messages. A change that an older program can't read counts it up.
pub const VERSION: u32 = 2;

/// Work for a node: a run of consecutive mini-batches. It names a job's intervals, never code or paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Task {
    /// The mini-batches, by id.
    pub mini_batches: Range<u64>,
    /// Which attempt this is, counted from 1, for every mini-batch of the task.
    pub attempt: u32,
    /// The mini-batch is suspected of killing its host: nothing else may run on the node meanwhile.
    pub alone: bool,
    /// The items that are meant, where that is not all of the one mini-batch (`docs/design/bisect.md`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Range<u64>>,
}

/// Anything a node tells the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FromNode {
    /// Who speaks.
    pub node: NodeId,
    /// What is said.
    pub body: NodeMessage,
}

/// See [`FromNode`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// Outcomes of mini-batches, with their rows.
    Results(Results),
    /// Something happened on the node.
    Event(NodeEvent),
}

/// Outcomes of mini-batches that one process ran, in the order in which it ran them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The process that ran them.
    pub process: ProcessNumber,
    /// One for each mini-batch.
    pub outcomes: Vec<Outcome>,
    /// The rows of all outcomes, one after the other; each row ends in a newline.
    #[serde(with = "serde_bytes")]
    pub rows: Vec<u8>,
    /// The header line of a DataFrame, with its newline, where the job wants one and the process has returned one.
    pub header: Option<Vec<u8>>,
}

/// What became of one attempt of one mini-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The mini-batch's id.
    pub mini_batch: u64,
    /// The item ordinals it covers: what settles.
    pub items: Range<u64>,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// When `run()` was called, microseconds since the epoch.
    pub started_us: u64,
    /// Everything around and including `run()`, microseconds.
    pub elapsed_us: u64,
    /// `run()` alone, microseconds.
    pub run_us: u64,
    /// CPU time of the process for it, microseconds.
    pub cpu_us: u64,
    /// How it ended.
    pub end: OutcomeEnd,
}

/// See [`Outcome::end`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OutcomeEnd {
    /// `run()` returned something acceptable.
    Returned {
        /// The number of elements it returned.
        returned: u64,
        /// The length of its rows in [`Results::rows`], bytes.
        rows_len: u64,
        /// The rows lie in this file of the job's spool instead, and `rows_len` is the file's length.
        spooled: Option<PathBuf>,
        /// Items that were not given to `run()` because they can't be read; they count as failed.
        unreadable: Vec<ItemError>,
    },
    /// The attempt failed.
    Failed(Box<AttemptError>),
}

/// An item that failed by itself (kind `input`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// The item's ordinal.
    pub item: u64,
    /// Why, for the user.
    pub message: String,
}

/// Why an attempt failed, or an `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The class of the failure.
    pub kind: ErrorKind,
    /// One line for the user: `ValueError: bad pixel`, `killed by SIGSEGV (signal 11) in run()`.
    pub message: String,
    /// The Python traceback; empty where there is none.
    pub traceback: String,
    /// The last lines of the process's stderr; empty where they say nothing more.
    pub stderr: String,
    /// It is known to be the same for any part of the mini-batch: halving is of no use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_all: bool,
}

/// The classes of failures: closed (spec section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The script raised.
    Exception,
    /// `run()` returned something that is not a list of results.
    BadReturn,
    /// `run()` returned fewer results than items.
    ShortReturn,
    /// `run()` did not return in time.
    Timeout,
    /// Loading, handing over or serialising did not end in time.
    OverheadTimeout,
    /// The process exited by itself.
    Exit,
    /// The process was killed by a signal.
    Signal,
    /// Out of memory, on the host or on the device.
    Oom,
    /// The script can't be imported, has no `run`, or `init()` failed.
    Init,
    /// An item can't be read.
    Input,
    /// The node died.
    NodeLost,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 11] = [
        ErrorKind::Exception,
        ErrorKind::BadReturn,
        ErrorKind::ShortReturn,
        ErrorKind::Timeout,
        ErrorKind::OverheadTimeout,
        ErrorKind::Exit,
        ErrorKind::Signal,
        ErrorKind::Oom,
        ErrorKind::Init,
        ErrorKind::Input,
        ErrorKind::NodeLost,
    ];

    /// The name users see: `bad_return`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Exception => "exception",
            ErrorKind::BadReturn => "bad_return",
            ErrorKind::ShortReturn => "short_return",
            ErrorKind::Timeout => "timeout",
            ErrorKind::OverheadTimeout => "overhead_timeout",
            ErrorKind::Exit => "exit",
            ErrorKind::Signal => "signal",
            ErrorKind::Oom => "oom",
            ErrorKind::Init => "init",
            ErrorKind::Input => "input",
            ErrorKind::NodeLost => "node_lost",
        }
    }

    /// What a user may do about it, beyond what a message or a traceback says; None where that says all.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            ErrorKind::Exception | ErrorKind::BadReturn | ErrorKind::Init => None,
            ErrorKind::ShortReturn => Some(
                "intended if run() leaves bad items out; which ones only the script knows: put a key into each row",
            ),
            ErrorKind::Timeout => Some(
                "raise run_invocation_timeout or lower mini_batch_size; if it hangs, the stack in its stderr says where",
            ),
            ErrorKind::OverheadTimeout => {
                Some("slow storage, or a `__str__` that computes; raise task_overhead_timeout if it must be")
            }
            ErrorKind::Exit => {
                Some("a process that ends by itself has failed, whatever its code: its stderr may say why it did")
            }
            ErrorKind::Signal => Some(
                "SIGSEGV, SIGABRT and SIGBUS come from C code, the stack in its stderr says from where; SIGKILL comes from \
                 outside, mostly for want of memory",
            ),
            ErrorKind::Oom => Some("lower mini_batch_size or process_count_per_node"),
            ErrorKind::Input => Some(
                "restore the file, or say how it is to be read, and run a new job with the items that failed; where access is denied, mend the credentials of the machine that \
                 says so, then `fanfold retry --failed`",
            ),
            ErrorKind::NodeLost => Some("an item that takes its machine down: see the machine's log of that time"),
        }
    }

    /// The kind called `name`.
    pub fn from_name(name: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The worker, as [`crate::fleet::WorkerId`].
    pub worker: String,
    /// Its host name.
    pub host: String,
    /// How many processes it runs; 0: it has not joined yet.
    pub processes: u32,
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// The interpreter starts.
    #[default]
    Starting,
    /// The script is imported.
    Importing,
    /// `init()`.
    Init,
    /// Nothing: it has no mini-batch.
    Idle,
    /// It reads the input of a mini-batch, or makes rows of what `run()` returned.
    Loading,
    /// `run()`.
    Running,
    /// The disk has no room for its rows.
    Blocked,
    /// `shutdown()`.
    Ending,
}

impl Activity {
    /// The name users see: `running`.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Starting => "starting",
            Activity::Importing => "importing",
            Activity::Init => "init",
            Activity::Idle => "idle",
            Activity::Loading => "loading",
            Activity::Running => "running",
            Activity::Blocked => "blocked",
            Activity::Ending => "ending",
        }
    }
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// Its number.
    pub process: ProcessNumber,
    /// Its process id.
    pub pid: u32,
    /// So long ago it was started, microseconds.
    pub age_us: u64,
    /// What it does.
    pub activity: Activity,
    /// For so long, microseconds.
    pub for_us: u64,
    /// With which mini-batch.
    pub mini_batch: Option<u64>,
    /// In all it could have computed for so long and had no processor, microseconds; 0 where the system does not say.
    pub delayed_us: u64,
}

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeEvent {
    /// A worker took a ticket and prepares to be this node: environment, devices, working directory.
    Joining {
        /// The worker, as [`crate::fleet::WorkerId`].
        worker: String,
        /// Its host name.
        host: String,
        /// The ticket's number.
        ticket: u64,
        /// The worker's version of fanfold.
        version: String,
    },
    /// A worker took a ticket and can't be a node of this job: another version, no such directory under its shared root.
    Refused {
        /// The worker.
        worker: String,
        /// Its host name.
        host: String,
        /// The ticket's number.
        ticket: u64,
        /// Why, for the user.
        why: String,
    },
    /// What prepares a node failed.
    CannotJoin {
        /// Why, for the user, with a hint where there is one.
        why: String,
        /// It would fail anywhere (the environment can't be built): the job fails with this cause.
        anywhere: bool,
    },
    /// The node is alive, and this is all that it holds: delivered to it and not yet safely answered, ascending.
    Beat {
        /// Who it is, for a coordinator that knows nothing of it any more. None: it does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Identity>,
        /// Runs of mini-batches.
        held: Vec<Range<u64>>,
        /// What its processes do, for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        doing: Vec<Doing>,
    },
    /// A task came that was handed over before to somebody who neither answered it nor gave it back. The node did not run it
    /// and is done with the message; the coordinator decides how it goes on.
    HandedBack {
        /// The task as it came.
        task: Task,
        /// Hand-overs, this one included; at least 2.
        hand_overs: u32,
    },
    /// The node is about to run a task with nothing beside it. Sent, and safe, before a process sees it: if the node is never heard
    /// of again, this is the evidence.
    RunsAlone {
        /// The task.
        task: Task,
    },
    /// The node acknowledged these on acceptance, as they take longer than the broker waits: the coordinator's lease on them is
    /// the node's heartbeat.
    Leased {
        /// The tasks.
        tasks: Vec<Task>,
    },
    /// The node is ready to start processes.
    Joined {
        /// Its host name.
        host: String,
        /// How many processes it will run.
        processes: u32,
        /// The devices it hands out, as they appear in `CUDA_VISIBLE_DEVICES`.
        devices: Vec<String>,
    },
    /// A process was started.
    ProcessStarted {
        /// Its number.
        process: ProcessNumber,
        /// Its process id.
        pid: u32,
        /// Its value of `CUDA_VISIBLE_DEVICES`, if it has one.
        device: Option<String>,
    },
    /// A process loaded the script and `init()` returned.
    InitDone {
        /// Which process.
        process: ProcessNumber,
        /// How long import and `init()` took, microseconds.
        elapsed_us: u64,
    },
    /// A process failed before its first mini-batch.
    InitFailed {
        /// Which process.
        process: ProcessNumber,
        /// Why.
        error: Box<AttemptError>,
        /// Failures of the node without a success between them.
        consecutive: u32,
    },
    /// A process ended.
    ProcessEnded {
        /// Which process.
        process: ProcessNumber,
        /// How, for the user: `exited with code 0`, `killed by SIGKILL (signal 9)`.
        how: String,
    },
    /// The node starts no more processes: `init` failed too often there.
    GaveUp {
        /// The last failure.
        error: Box<AttemptError>,
    },
    /// The node can't do its work for a reason that is not the script's.
    Broken {
        /// Why, for the user.
        message: String,
    },
    /// Files of the input came to the node: it moves, even where no mini-batch is settled for long.
    Downloading {
        /// Bytes since this was said last.
        bytes: u64,
    },
    /// Something of the node waits for the world (room on the disk) and goes on by itself.
    HeldUp {
        /// Which slot.
        slot: u32,
        /// What it waits for, for the user; None: it does not wait any longer.
        why: Option<String>,
    },
    /// The node ended: nothing of it runs any more.
    Left,
}
