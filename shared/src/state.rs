//! The states of a job (spec section 5).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// Submitted, not begun.
    Queued,
    /// Snapshot, item list, environment.
    Preparing,
    /// Mini-batches are run.
    Running,
    /// Stopped on request, or interrupted; continues where it was.
    Paused,
    /// Everything is settled; reports, rename.
    Finalizing,
    /// Cancellation was asked for and is under way.
    CancelRequested,
    /// Every mini-batch is settled and the output is under its final name.
    Completed,
    /// Stopped for a stated cause.
    Failed,
    /// Stopped for good on request.
    Canceled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [JobState; 9] = [
        JobState::Queued,
        JobState::Preparing,
        JobState::Running,
        JobState::Paused,
        JobState::Finalizing,
        JobState::CancelRequested,
        JobState::Completed,
        JobState::Failed,
        JobState::Canceled,
    ];

    /// The word that users see.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "Queued",
            JobState::Preparing => "Preparing",
            JobState::Running => "Running",
            JobState::Paused => "Paused",
            JobState::Finalizing => "Finalizing",
            JobState::CancelRequested => "CancelRequested",
            JobState::Completed => "Completed",
            JobState::Failed => "Failed",
            JobState::Canceled => "Canceled",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<JobState> {
        JobState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing follows but an explicit retry.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Completed | JobState::Failed | JobState::Canceled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
