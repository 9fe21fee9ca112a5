//! The job that a verb is about: its directory, or its id at a service.

use std::time::Duration;

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};
use fanfold_shared::state::JobState;

use super::client::Client;
use crate::report::Coordinator;
use crate::view::StatusView;

/// Between two looks at a job that is followed.
pub const LOOK: Duration = Duration::from_millis(500);

/// See the module documentation.
pub enum Target {
    /// A job directory.
    Dir(JobDir),
    /// A job of a service: its id, or the beginning of it.
    Service(Client, String),
}

impl Target {
    /// The job's status.
    ///
    /// # Errors
    /// It can't be read, or the service does not give it.
    pub fn status(&self) -> Result<StatusView> {
        match self {
            Target::Dir(dir) => Ok(StatusView::of(dir).during("read", dir.status_json())?),
            Target::Service(client, job) => client.status(job),
        }
    }
}

/// Whether nothing of the job will change by itself: it is over, or nobody works on it, whatever its last state says. One that is Queued waits
/// for its service, which holds nothing of it yet.
pub fn is_at_rest(view: &StatusView) -> bool {
    let state = view.status.state;
    state.is_final() || view.coordinator == Coordinator::Gone && state != JobState::Queued
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use JobState as S;

    use super::*;
    use crate::report::{Pace, Status, fixtures::*};

    #[test]
    fn a_job_rests_when_it_is_over_or_its_coordinator_is_gone() {
        let rests = |state, coordinator| {
            let mut snapshot = running();
            snapshot.state = state;
            let status = Status::new(&facts(Path::new("/j")), &snapshot, &Pace::default());
            is_at_rest(&StatusView { status, coordinator, age: 0.0 })
        };
        assert!(!rests(S::Queued, Coordinator::Gone));
        for state in [S::Preparing, S::Running, S::Finalizing, S::CancelRequested, S::Paused] {
            assert!(rests(state, Coordinator::Gone), "{state}");
            assert!(!rests(state, Coordinator::Alive), "{state}");
            assert!(!rests(state, Coordinator::Unknown), "{state}");
        }
        for state in [S::Completed, S::Failed, S::Canceled] {
            assert!(rests(state, Coordinator::Gone) && rests(state, Coordinator::Alive), "{state}");
        }
    }
}
