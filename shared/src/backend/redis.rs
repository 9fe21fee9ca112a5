//! Redis, and the only place that names its client library: counters and words for people, every key with a time to live. Nothing here ever
//! fails for its caller, and nothing waits long: Redis away is `None`, once more every second.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::fleet::WorkerStatus;
use crate::fleet::config::{ServerUrl, TlsFiles};
use crate::ids::JobId;

/// See the module documentation. Clones share its connections.
#[derive(Clone)]
pub struct Store {}

/// How to connect.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: ServerUrl,
    /// For `rediss`.
    pub tls: TlsFiles,
    /// What `CLIENT LIST` shows.
    pub name: String,
}

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer.
    #[error("cannot connect to Redis at {url}: {why}")]
    Unreachable {
        /// Where, without credentials.
        url: String,
        /// Why.
        why: String,
    },
    /// It refuses our user, password or command.
    #[error("Redis at {url} refuses: {why}")]
    Refused {
        /// Where, without credentials.
        url: String,
        /// Its words.
        why: String,
    },
    /// A certificate file can't be read, or is none.
    #[error("cannot use `{}` for TLS: {why}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A task message, as the counters know it: mini-batches and attempt.
pub type TaskKey = (Range<u64>, u32);

#[expect(unused_variables, reason = "interfaces first")]
impl Store {
    /// Starts to connect.
    ///
    /// # Errors
    /// A certificate file can't be used, or no thread can be started.
    pub fn start(config: StoreConfig) -> Result<Store, StoreError> {
        unimplemented!()
    }

    /// Asks whether it answers, within `limit`.
    ///
    /// # Errors
    /// It does not.
    pub fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Since when it has not answered, and why, if it does not.
    pub fn away(&self) -> Option<(std::time::Instant, String)> {
        unimplemented!()
    }

    /// Counts a hand-over of each task in one round trip; each count includes this one. None: Redis is away.
    pub fn count(&self, job: &JobId, tasks: &[TaskKey]) -> Option<Vec<u32>> {
        unimplemented!()
    }

    /// Counts back what was given back in order. Does not wait.
    pub fn uncount(&self, job: &JobId, task: TaskKey) {
        unimplemented!()
    }

    /// The task is done with. Does not wait.
    pub fn forget(&self, job: &JobId, task: TaskKey) {
        unimplemented!()
    }

    /// The job is over: nothing of it stays.
    pub fn forget_job(&self, job: &JobId) {
        unimplemented!()
    }

    /// Says what a worker does, for 30 s. Does not wait.
    pub fn beat(&self, status: &WorkerStatus) {
        unimplemented!()
    }

    /// The worker has left. Waits a moment.
    pub fn worker_left(&self, worker: &crate::fleet::WorkerId) {
        unimplemented!()
    }

    /// The workers that said something in the last 30 s. None: Redis is away.
    pub fn workers(&self) -> Option<Vec<WorkerStatus>> {
        unimplemented!()
    }
}
