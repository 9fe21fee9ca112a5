//! What people ask of jobs and workers, by their ids or the beginnings of them.

use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::fleet::{WorkerId, WorkerStatus};
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::Result;
use fanfold_shared::state::JobState;

use super::{Intent, Job, Retry, Service, ServiceError, event, say, supervise};
use crate::run::{self, Retried, RetryScript};

/// How long the thread of a job that is over may still be at its reports.
const LAST: Duration = Duration::from_secs(2);

impl Service {
    /// The jobs, the newest first.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        let mut jobs = self.inner.store.jobs()?;
        jobs.reverse();
        Ok(jobs)
    }

    /// The job that `wanted` means: its id, or the beginning of exactly one.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, wanted: &str) -> Result<Job> {
        let jobs = self.jobs()?;
        if let Some(job) = jobs.iter().find(|job| job.id.0 == wanted) {
            return Ok(job.clone());
        }
        let begin: Vec<&Job> = jobs.iter().filter(|job| job.id.0.starts_with(wanted)).collect();
        match begin[..] {
            [job] if !wanted.is_empty() => Ok(job.clone()),
            [] => {
                let near = |job: &&Job| strsim::damerau_levenshtein(&job.id.0, wanted) <= 3;
                let mut nearest: Vec<String> = jobs.iter().filter(near).take(3).map(|job| job.id.0.clone()).collect();
                if nearest.is_empty() {
                    nearest = jobs.iter().take(3).map(|job| job.id.0.clone()).collect();
                }
                Err(ServiceError::NoSuchJob { wanted: wanted.into(), nearest }.into())
            }
            _ => {
                let ids = begin.iter().map(|job| job.id.0.clone()).collect();
                Err(ServiceError::Ambiguous { wanted: wanted.into(), ids }.into())
            }
        }
    }

    /// The job ends without a result, within seconds.
    ///
    /// # Errors
    /// It is over.
    pub fn cancel(&self, job: &Job, who: &str) -> Result<()> {
        if job.state.is_final() {
            return Err(ServiceError::NotNow { job: job.id.clone(), state: job.state, verb: "cancel" }.into());
        }
        self.want(job, Intent::Canceled, who, "cancel")
    }

    /// The job stands still until it is resumed.
    ///
    /// # Errors
    /// It is over.
    pub fn pause(&self, job: &Job, who: &str) -> Result<()> {
        if job.state.is_final() || job.wanted == Intent::Canceled {
            return Err(ServiceError::NotNow { job: job.id.clone(), state: job.state, verb: "pause" }.into());
        }
        self.want(job, Intent::Paused, who, "pause")
    }

    /// The job goes on.
    ///
    /// # Errors
    /// It is over.
    pub fn resume(&self, job: &Job, who: &str) -> Result<()> {
        if job.state.is_final() || job.wanted == Intent::Canceled {
            return Err(ServiceError::NotNow { job: job.id.clone(), state: job.state, verb: "resume" }.into());
        }
        self.want(job, Intent::Run, who, "resume")
    }

    fn want(&self, job: &Job, wanted: Intent, who: &str, what: &str) -> Result<()> {
        self.inner.store.want(&job.id, wanted, who, what)?;
        say(&format!("job {}: {what}, asked for by {who}", job.id));
        self.wake();
        Ok(())
    }

    /// What is out of tries is tried again, with a new script if it is so wanted and there is one. Returns that script's number: the copy is
    /// taken now, whenever the job begins.
    ///
    /// # Errors
    /// The job is neither Failed nor Completed, nothing of it failed, a key would make it another job, or there is no script to copy.
    pub fn retry(
        &self,
        job: &Job,
        overrides: &[String],
        script: RetryScript,
        who: &str,
    ) -> Result<Option<ScriptNumber>> {
        if !matches!(job.state, JobState::Failed | JobState::Completed) || !self.wait_for_the_end(&job.id) {
            return Err(ServiceError::NotNow { job: job.id.clone(), state: job.state, verb: "retry" }.into());
        }
        // A mistake is told now, and not when the job is taken up.
        let Retried { spec, script } =
            run::retried(&self.inner.link.shared, &JobDir::new(&job.dir), overrides, script)?;
        let script = match script {
            RetryScript::Taken(number) => Some(number),
            RetryScript::Own | RetryScript::New => None,
        };
        self.inner.store.update(&job.id, &spec.compute_target, spec.priority, spec.node_count)?;
        let queued = event(&job.id, &job.name, JobState::Queued, None, self.status_file(job).as_ref());
        let retry = Retry { set: overrides.to_vec(), script };
        self.inner.store.retry(&job.id, &retry, who, &queued)?;
        let with = script.map(|number| format!(" with copy {number} of the script")).unwrap_or_default();
        say(&format!("job {}: retry{with}, asked for by {who}", job.id));
        self.wake();
        Ok(script)
    }

    /// Waits a moment for the thread of a job that is over. False: it still works on it.
    fn wait_for_the_end(&self, id: &JobId) -> bool {
        let deadline = Instant::now() + LAST;
        loop {
            // Its thread stays in the list: the supervisor may be at work with jobs that it read before this one ended.
            if !self.is_at_work(id) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The workers that have said something lately.
    ///
    /// # Errors
    /// Redis is away.
    pub fn workers(&self) -> Result<Vec<WorkerStatus>> {
        Ok(self.redis().workers().ok_or(ServiceError::WorkersUnknown)?)
    }

    /// The worker that `wanted` means: its id, or the beginning of exactly one.
    ///
    /// # Errors
    /// There is none, or Redis is away.
    pub fn worker(&self, wanted: &str) -> Result<WorkerStatus> {
        let workers = self.workers()?;
        let alike: Vec<&WorkerStatus> =
            workers.iter().filter(|one| one.worker.0.starts_with(wanted) && !wanted.is_empty()).collect();
        match (workers.iter().find(|one| one.worker.0 == wanted), &alike[..]) {
            (Some(worker), _) | (None, &[worker]) => Ok(worker.clone()),
            _ => {
                let workers = workers.iter().map(|one| one.worker.0.clone()).take(10).collect();
                Err(ServiceError::NoSuchWorker { wanted: wanted.into(), workers }.into())
            }
        }
    }

    /// The worker takes no more nodes, leaves its job in order, and ends.
    ///
    /// # Errors
    /// The broker does not take the order.
    pub fn drain(&self, worker: &WorkerId, who: &str) -> Result<()> {
        supervise::drain(self.broker(), worker)?;
        self.inner.store.note(who, &format!("drain {worker}"))?;
        say(&format!("worker {worker}: drain, asked for by {who}"));
        Ok(())
    }
}
