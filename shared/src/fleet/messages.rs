//! Plain types; no logic.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, NodeId, ScriptNumber};

/// The id of a worker: its host name and a few random characters, unique among living workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job wants one more node. Whoever takes it becomes that node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The coordinator's version of fanfold, for people; what must match is the version of the messages.
    pub fanfold: String,
    /// The job.
    pub job: JobId,
    /// Its directory, relative to the shared root.
    pub job_dir: PathBuf,
    /// The shared root as the coordinator sees it: absolute paths in the job begin with it.
    pub shared: PathBuf,
    /// Counted up by the job; a ticket that is renewed keeps it.
    pub number: u64,
    /// The script that its nodes run.
    #[serde(default, skip_serializing_if = "ScriptNumber::is_first")]
    pub script: ScriptNumber,
}

/// What the coordinator tells a node. It is repeated until it is seen to have been heard, so hearing it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The job whose node is meant; a worker that is a node of another job ignores it. Empty: the worker itself is meant, whatever it does
    /// ([`Control::to_worker`]).
    pub job: JobId,
    /// The node.
    pub node: NodeId,
    /// What to do.
    pub command: Command,
}

impl Control {
    /// A command to a worker, not to a node: `Drain` is what SIGTERM is to it.
    pub fn to_worker(command: Command) -> Control {
        Control { job: JobId(String::new()), node: NodeId(String::new()), command }
    }

    /// Whether the worker itself is meant.
    pub fn is_to_worker(&self) -> bool {
        self.job.0.is_empty()
    }
}

/// See [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The coordinator lives. A node that hears nothing for long leaves by itself.
    Alive,
    /// Say at once what you hold ([`crate::message::NodeEvent::Beat`]).
    Report,
    /// Begin nothing more, finish what runs, hand back the rest, leave.
    Drain,
    /// Kill what runs, leave.
    Kill,
    /// As `Kill`, because nothing moves: processes write to their logs where they hang.
    GiveUp,
}

/// What a worker says of itself in Redis, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its id.
    pub worker: WorkerId,
    /// Its host name.
    pub host: String,
    /// Its pool.
    pub pool: String,
    /// Its version of fanfold.
    pub version: String,
    /// What it does.
    pub state: WorkerState,
    /// Processes it runs, or would.
    pub processes: u32,
    /// Its devices, as `CUDA_VISIBLE_DEVICES` spells them.
    pub gpus: Vec<String>,
    /// When it started, microseconds since the epoch.
    pub started_us: u64,
    /// When it said this, microseconds since the epoch.
    pub beat_us: u64,
}

/// See [`WorkerStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum WorkerState {
    /// It waits for a ticket.
    Idle,
    /// It is a node of a job.
    Working {
        /// The job.
        job: JobId,
        /// The node.
        node: NodeId,
    },
    /// It takes no more tickets.
    Draining,
}

/// Another service asks for a job (queue `fanfold.jobs`, `POST /v1/jobs`). JSON or MessagePack with named fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct JobRequest {
    /// What to run.
    #[serde(flatten)]
    pub source: JobSource,
    /// `key=value` of each key of the job file that is set otherwise.
    pub set: Vec<String>,
}

/// A [`JobRequest`] as it is written: flattened enums can't refuse unknown fields, and say nothing of what is missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    job_file: Option<PathBuf>,
    #[serde(default)]
    job: Option<serde_json::Value>,
    #[serde(default)]
    base: Option<PathBuf>,
    #[serde(default)]
    set: Vec<String>,
}

impl TryFrom<Fields> for JobRequest {
    type Error = &'static str;

    fn try_from(Fields { job_file, job, base, set }: Fields) -> Result<JobRequest, &'static str> {
        let source = match (job_file, job, base) {
            (Some(job_file), None, None) => JobSource::File { job_file },
            (None, Some(job), base) if job.is_object() => JobSource::Inline { job, base },
            (None, Some(_), _) => return Err("`job` must be an object with the keys of a job file"),
            (Some(_), Some(_), _) => return Err("give either `job_file` or `job`, not both"),
            (Some(_), None, Some(_)) => {
                return Err("`base` belongs to `job`; relative paths of a job file start at its folder");
            }
            (None, None, _) => {
                return Err(
                    "either `job_file` (a path under the shared directory) or `job` (the keys of a job file) is needed",
                );
            }
        };
        Ok(JobRequest { source, set })
    }
}

/// See [`JobRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JobSource {
    /// A job file under the shared root.
    File {
        /// Relative to the shared root, or absolute as the coordinator sees it.
        job_file: PathBuf,
    },
    /// The keys of a job file.
    Inline {
        /// The keys; relative paths are relative to `base`.
        job: serde_json::Value,
        /// A directory under the shared root [default: the shared root].
        #[serde(default)]
        base: Option<PathBuf>,
    },
}

/// The answer to a [`JobRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum JobReply {
    /// It is a job now, or has been one since an earlier request with the same idempotency key.
    Accepted {
        /// The job.
        job_id: JobId,
        /// Its directory, relative to the shared root.
        job_dir: PathBuf,
        /// The key was known: this is the job of the earlier request.
        duplicate: bool,
    },
    /// It can't be one.
    Refused {
        /// What is wrong, as the command line would say it.
        error: String,
        /// How to fix it, where that is known.
        hint: Option<String>,
    },
}

/// A job came into another state (exchange `fanfold.events`, JSON).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// The version of this form: 1.
    pub version: u32,
    /// The job.
    pub job_id: JobId,
    /// Its name in the job file.
    pub name: String,
    /// The state it came into, as `fanfold status` spells it.
    pub state: String,
    /// Why, where there is a cause.
    pub cause: Option<String>,
    /// When, RFC 3339.
    pub time: String,
    /// Items in all.
    pub items: u64,
    /// Items whose result is in the output.
    pub items_succeeded: u64,
    /// Items that failed.
    pub items_failed: u64,
    /// The output file, absolute as the coordinator sees it; null for `summary_only`.
    pub output: Option<PathBuf>,
}
