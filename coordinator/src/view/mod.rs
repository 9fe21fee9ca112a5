//! What is shown of a job, in one form for the command line and the API: its status ([`StatusView`]), its result, and why it waits
//! ([`explain`]). What stands in its directory is enough for it; a service adds what only it knows.

mod at_work;
mod explain;
mod result;

use fanfold_shared::clock::wall_us;
use fanfold_shared::layout::JobDir;
use serde_json::Value;

use crate::report::{Coordinator, Status, coordinator_of};

pub use explain::{Explained, Reason, Waiting, explain};
pub use result::{Missing, NoResult};

/// A job's status, and what only a reader can know.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusView {
    /// The file, or what stands in for it.
    pub status: Status,
    /// Whether somebody works on it.
    pub coordinator: Coordinator,
    /// Of the figures, seconds.
    pub age: f64,
}

impl StatusView {
    /// The status of the job in `dir`.
    ///
    /// # Errors
    /// It has none that can be read.
    pub fn of(dir: &JobDir) -> std::io::Result<StatusView> {
        // Before the status: what a coordinator that is gone said last is then in it.
        let coordinator = coordinator_of(dir);
        let status = Status::read(&dir.status_json())?;
        let age = wall_us().saturating_sub(status.updated) as f64 / 1e6;
        Ok(StatusView { status, coordinator, age })
    }

    /// What `fanfold status --json` and `GET /v1/jobs/{id}` say.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(&self.status).expect("strings and numbers");
        value["coordinator"] = self.coordinator.name().into();
        value["age_seconds"] = ((self.age * 10.0).round() / 10.0).into();
        value
    }

    /// Reads [`StatusView::to_json`].
    ///
    /// # Errors
    /// It is something else.
    pub fn from_json(value: Value) -> serde_json::Result<StatusView> {
        let coordinator = Coordinator::from_name(value["coordinator"].as_str().unwrap_or_default());
        let age = value["age_seconds"].as_f64().unwrap_or_default();
        Ok(StatusView { status: serde_json::from_value(value)?, coordinator, age })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Pace, Snapshot, fixtures::*};

    pub(super) fn view(change: impl FnOnce(&mut Snapshot)) -> StatusView {
        let mut snapshot = running();
        change(&mut snapshot);
        let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.1, eta_seconds: Some(13.0) };
        let mut status = Status::new(&facts(Path::new("/jobs/score-1a2b3c4d")), &snapshot, &pace);
        status.timing.last_commit_us = Some(wall_us());
        StatusView { status, coordinator: Coordinator::Alive, age: 0.5 }
    }

    #[test]
    fn a_status_goes_through_json_and_back() {
        let view = view(|_| ());
        assert_eq!(StatusView::from_json(view.to_json()).unwrap(), view);
        assert_eq!(view.to_json()["coordinator"], "alive");
    }
}
