//! What is shown of a job that a service has: with what only the service can add.

use std::time::Duration;

use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::clock::{duration, rfc3339, wall_us};
use fanfold_shared::fleet::WorkerState;
use fanfold_shared::layout::JobDir;
use fanfold_shared::state::JobState;
use fanfold_shared::text::counted;
use serde_json::{Value, json};

use super::store::{Intent, Job};
use super::{Service, supervise};
use crate::report::{Coordinator, STATUS_VERSION, Status, resume};
use crate::view::{Explained, StatusView, Waiting, explain};

impl Service {
    /// The job's `status.json`, if there is one.
    pub(super) fn status_file(&self, job: &Job) -> Option<Status> {
        Status::read(&JobDir::new(&job.dir).status_json()).ok()
    }

    /// The status of a job: its file, corrected by what the service knows better.
    pub fn status(&self, job: &Job) -> StatusView {
        let file = self.status_file(job);
        let updated = file.as_ref().map_or(job.submitted_us, |status| status.updated);
        let mut status = file.unwrap_or_else(|| begin(job));
        let runs = self.is_running(&job.id);
        // A thread writes the file about once a second; what the store says is as new, and is all there is of a job without one.
        let file_is_newer = runs && job.wanted == Intent::Run && !job.state.is_final() && job.state != JobState::Queued;
        if !file_is_newer || status.state.is_final() != job.state.is_final() {
            status.state = job.state;
            status.cause = job.cause.clone();
        }
        if job.wanted == Intent::Canceled && !job.state.is_final() {
            status.state = JobState::CancelRequested;
        }
        status.ended = match status.state.is_final() || status.state == JobState::Paused {
            true => status.ended.or(job.ended_us).or(Some(updated)),
            false => None,
        };
        // Whoever ran it before: it is the service's.
        status.go_on = (!status.state.is_final()).then(|| resume(&job.id));
        let age = wall_us().saturating_sub(updated) as f64 / 1e6;
        // Its thread says so last, and may be in the list for a moment after that.
        let stands_still = job.wanted == Intent::Paused && job.state == JobState::Paused;
        let rests = status.state == JobState::Paused && (stands_still || !runs);
        let coordinator = match status.state.is_final() || rests {
            true => Coordinator::Gone,
            false => Coordinator::Alive,
        };
        StatusView { status, coordinator, age: if runs { age } else { 0.0 } }
    }

    /// Why a job waits or is slow.
    pub fn explain(&self, job: &Job) -> Explained {
        let queued = match job.state {
            _ if self.is_running(&job.id) => job.cause.clone(),
            JobState::Queued if self.is_full() => Some(format!(
                "{} run already, which is all that may (`--max-jobs`)",
                counted(self.max_jobs() as u64, "job")
            )),
            _ => None,
        };
        let condition = self.broker().condition();
        let since = |since: std::time::Instant| duration(since.elapsed().as_secs_f64());
        let broker = match &condition {
            Condition::Away { since: away, why } if away.elapsed() > Duration::from_secs(1) => {
                Some(format!("away for {}: {why}", since(*away)))
            }
            Condition::Blocked { since: blocked, why } => Some(format!("blocked for {}: {why}", since(*blocked))),
            _ => None,
        };
        let workers = self.workers().ok().map(|workers| {
            let pool: Vec<_> = workers.into_iter().filter(|worker| worker.pool == job.pool).collect();
            let free = pool.iter().filter(|worker| worker.state == WorkerState::Idle).count();
            (pool.len(), free)
        });
        let waiting =
            Waiting { queued, broker, pool: Some((job.pool.clone(), workers)), limit: self.limit_of(&job.id) };
        explain(&self.status(job), &waiting)
    }

    /// Why the broker takes nothing, if it does not.
    pub fn broker_trouble(&self) -> Option<String> {
        supervise::why_not(&self.broker().condition())
    }
}

/// The status of a job that has not begun.
fn begin(job: &Job) -> Status {
    let submitted = rfc3339(job.submitted_us);
    let dir = JobDir::new(&job.dir);
    let counts = [
        "items",
        "items_succeeded",
        "items_failed",
        "mini_batches",
        "mini_batches_scheduled",
        "mini_batches_succeeded",
        "mini_batches_failed",
        "mini_batches_short",
        "mini_batches_remaining",
        "surplus_results",
        "attempts",
        "attempts_failed",
        "duplicates",
    ];
    let mut counts: serde_json::Map<String, Value> = counts.into_iter().map(|count| (count.into(), 0.into())).collect();
    counts.insert("run_seconds".into(), 0.0.into());
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
    let value = json!({
        "version": STATUS_VERSION,
        "job_id": job.id,
        "name": job.name,
        "job_dir": job.dir,
        "job_file": dir.job_yaml(),
        "state": job.state,
        "cause": job.cause,
        "blocked": null,
        "host": host,
        "pid": std::process::id(),
        "created": submitted,
        "started": submitted,
        "updated": submitted,
        "ended": null,
        "counts": counts,
        "items_per_second": 0.0,
        "mini_batches_per_second": 0.0,
        "eta_seconds": null,
        "output": { "dir": dir.default_output(), "file": null, "bytes": 0, "rows": 0 },
        "thresholds_set": false,
        "nodes": 0,
        "processes": [],
        "distinct_errors": 0,
        "errors": [],
    });
    serde_json::from_value(value).expect("it has every field")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fanfold_shared::ids::JobId;

    use super::*;
    use crate::report::fixtures::THEN;

    #[test]
    fn a_job_that_has_not_begun_has_a_status_as_well() {
        let job = Job {
            seq: 1,
            id: JobId("score-1a2b3c4d".into()),
            dir: PathBuf::from("/shared/fanfold-jobs/score-1a2b3c4d"),
            name: "score".into(),
            pool: "default".into(),
            priority: 4,
            node_count: None,
            wanted: Intent::Run,
            retry: None,
            state: JobState::Queued,
            cause: None,
            submitted_us: THEN,
            ended_us: None,
        };
        let status = begin(&job);
        assert_eq!((status.state, status.created, status.counts.mini_batches), (JobState::Queued, THEN, 0));
    }
}
