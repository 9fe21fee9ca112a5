//! Why the service does not do what it was asked.

use std::path::PathBuf;

use fanfold_shared::fleet::Outside;
use fanfold_shared::ids::JobId;
use fanfold_shared::report::{ExitCode, Report};
use fanfold_shared::state::JobState;

/// See the module documentation.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No id begins with it.
    #[error("there is no job `{wanted}`")]
    NoSuchJob {
        /// What was looked for.
        wanted: String,
        /// Ids that look like it, else the newest.
        nearest: Vec<String>,
    },
    /// Several ids begin with it.
    #[error("`{wanted}` is the beginning of {} job ids", ids.len())]
    Ambiguous {
        /// What was looked for.
        wanted: String,
        /// The ids.
        ids: Vec<String>,
    },
    /// The same idempotency key, another request.
    #[error("the idempotency key `{key}` was used for another request, which became job {job}")]
    KeyReused {
        /// The key.
        key: String,
        /// The job of the earlier request.
        job: JobId,
    },
    /// A key that can't be one.
    #[error("an idempotency key has 1 to {MOST_KEY} visible characters, not {0}")]
    BadKey(usize),
    /// A path that other machines can't see.
    #[error(transparent)]
    Outside(#[from] Outside),
    /// A link leads out of the shared directory.
    #[error("`{}` leads out of the shared directory, to `{}`", path.display(), to.display())]
    LeadsOut {
        /// What was asked for.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// The job is not in a state for it.
    #[error("job {job} is {state}: there is nothing to {verb}")]
    NotNow {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobState,
        /// `pause`, `resume`, `cancel`, `retry`.
        verb: &'static str,
    },
    /// No such log.
    #[error("job {job} has no log `{path}`")]
    NoSuchLog {
        /// The job.
        job: JobId,
        /// What was asked for.
        path: String,
    },
    /// No worker has said that it is this one.
    #[error("there is no worker `{wanted}`")]
    NoSuchWorker {
        /// What was looked for.
        wanted: String,
        /// Workers there are.
        workers: Vec<String>,
    },
    /// Redis is away, so workers are unknown.
    #[error("the workers are not known at the moment: Redis does not answer")]
    WorkersUnknown,
    /// The broker is away, so no order reaches a worker.
    #[error("the broker does not take messages at the moment{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NoBroker {
        /// What is known of it.
        why: Option<String>,
    },
}

/// Characters of an idempotency key.
pub const MOST_KEY: usize = 255;

impl Report for ServiceError {
    fn exit_code(&self) -> ExitCode {
        match self {
            ServiceError::WorkersUnknown | ServiceError::NoBroker { .. } => ExitCode::Unreachable,
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ServiceError::NoSuchJob { nearest, .. } if nearest.is_empty() => {
                "the service has no jobs yet; `fanfold submit JOB.yaml` makes one".into()
            }
            ServiceError::NoSuchJob { nearest, .. } => {
                format!("there is `{}`; `fanfold ls` shows all", nearest.join("`, `"))
            }
            ServiceError::Ambiguous { ids, .. } => format!("it may be `{}`", ids[..ids.len().min(10)].join("`, `")),
            ServiceError::KeyReused { .. } => {
                "ask with a new key for a new job, or ask the same as before to hear of that one".into()
            }
            ServiceError::BadKey(_) => "a UUID is a good one".into(),
            ServiceError::Outside(Outside { root, .. }) => {
                format!("workers see nothing but the shared directory: put the files under `{}`", root.display())
            }
            ServiceError::LeadsOut { .. } => "put the file itself under the shared directory".into(),
            ServiceError::NotNow { state: JobState::Failed | JobState::Completed, verb: "resume", job } => {
                format!("`fanfold retry --failed {job}` tries again what is out of tries")
            }
            ServiceError::NotNow { verb: "retry", job, .. } => format!("`fanfold status {job}` shows how far it is"),
            ServiceError::NotNow { job, .. } => format!("`fanfold status {job}` shows how it ended"),
            ServiceError::NoSuchLog { job, .. } => {
                format!("`fanfold logs {job}` lists them; a log appears with its first line")
            }
            ServiceError::NoSuchWorker { workers, .. } if workers.is_empty() => {
                "no worker is there: start `fanfold-worker`".into()
            }
            ServiceError::NoSuchWorker { workers, .. } => {
                format!("there is `{}`; `fanfold nodes` shows all", workers.join("`, `"))
            }
            ServiceError::WorkersUnknown => "try again once Redis answers; jobs are not affected".into(),
            ServiceError::NoBroker { .. } => "try again once the broker answers; jobs are not affected".into(),
        })
    }
}
