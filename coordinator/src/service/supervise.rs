//! Starts jobs in order, passes on what is wanted of them, shares the workers out, and writes down how they end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{Broker, Condition, Outgoing, Properties, Unroutable};
use fanfold_shared::fleet::{Command, Control, WorkerId, WorkerState, WorkerStatus, names, wire};
use fanfold_shared::ids::JobId;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Failure, Result};
use fanfold_shared::state::JobState;

use super::events::event;
use super::share::{Contender, limits};
use super::store::{Intent, Job};
use super::{Running, Service, ServiceError, locked, say};
use crate::ledger::JobLock;
use crate::report::{Comeback, Status};
use crate::run::{FleetJob, FleetRun, Orders, Purpose, RetryScript, run_on_fleet};

/// Between two decisions about shares.
const SHARE: Duration = Duration::from_secs(1);
/// How long a free worker may need to take a ticket, before a job without nodes counts as starving.
const STARVES: Duration = Duration::from_secs(2);
/// Before a job whose coordinator failed is taken up again; doubled each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the broker may take to take an order to a worker.
const ORDER: Duration = Duration::from_secs(10);

/// What a job's thread has seen of it.
#[derive(Clone, Debug, Default)]
struct Seen {
    state: Option<JobState>,
    cause: Option<String>,
}

/// What follows when [`run_on_fleet`] came back.
#[derive(Debug, PartialEq, Eq)]
enum After {
    /// The job is in this state, for this cause.
    Is(JobState, Option<String>),
    /// Its coordinator failed, the job did not: once more, later.
    Again(String),
}

impl Service {
    pub(super) fn supervise(&self) {
        let mut shared = Instant::now();
        while !self.is_stopping() {
            // First: whoever ends after this is still known below, and whoever ended before is not in the list.
            self.reap();
            match self.inner.store.unfinished() {
                Ok(jobs) => {
                    self.start_jobs(&jobs);
                    self.pass_on(&jobs);
                    if shared.elapsed() >= SHARE {
                        shared = Instant::now();
                        self.share_out(&jobs);
                    }
                }
                Err(error) => say(&Failure::from(error).one_line()),
            }
            self.wait();
        }
    }

    fn reap(&self) {
        locked(&self.inner.running).retain(|_, running| !running.thread.is_finished());
    }

    /// Starts what should run and does not, in order, as many as may run at once.
    fn start_jobs(&self, jobs: &[Job]) {
        let mut running = locked(&self.inner.running);
        for job in jobs {
            let known = running.contains_key(&job.id);
            match job.wanted {
                Intent::Paused if !known && job.state != JobState::Paused => {
                    self.is_now(job, JobState::Paused, Some("paused"), false);
                }
                Intent::Run if !known && running.len() < self.inner.config.max_jobs => {
                    self.start_job(job, &mut running)
                }
                // It is taken up to be ended as a canceled job should: with its state in the ledger, and nothing left at the broker.
                Intent::Canceled if !known => self.start_job(job, &mut running),
                Intent::Run if !known && job.state == JobState::Paused => {
                    self.is_now(job, JobState::Queued, None, false)
                }
                _ => {}
            }
        }
    }

    fn start_job(&self, job: &Job, running: &mut BTreeMap<JobId, Running>) {
        let orders = Orders::new();
        let canceled = job.wanted == Intent::Canceled;
        if canceled {
            orders.cancel();
        }
        let (service, mine, ordered) = (self.clone(), job.clone(), orders.clone());
        let thread = thread::Builder::new().name(format!("job {}", job.id)).spawn(move || {
            service.run_job(&mine, &ordered);
            service.wake();
        });
        match thread {
            Ok(thread) => {
                let entry = Running { orders, thread, without_nodes: None, limit: None, canceled, paused: false };
                running.insert(job.id.clone(), entry);
            }
            Err(error) => say(&format!("job {} waits: no thread can be started for it: {error}", job.id)),
        }
    }

    /// Passes on what is wanted of the jobs that run.
    fn pass_on(&self, jobs: &[Job]) {
        let mut running = locked(&self.inner.running);
        for job in jobs {
            let Some(at_work) = running.get_mut(&job.id) else { continue };
            match job.wanted {
                Intent::Canceled if !at_work.canceled => {
                    at_work.canceled = true;
                    at_work.orders.cancel();
                    self.is_now(job, JobState::CancelRequested, None, false);
                }
                Intent::Paused if !at_work.paused && !at_work.canceled => {
                    at_work.paused = true;
                    at_work.orders.pause();
                }
                _ => {}
            }
        }
    }

    /// The job came into a state.
    fn is_now(&self, job: &Job, state: JobState, cause: Option<&str>, begun: bool) {
        let status = self.status_file(job);
        let told = event(&job.id, &job.name, state, cause, status.as_ref());
        if let Err(error) = self.inner.store.state(&job.id, state, cause, begun, Some(&told)) {
            say(&format!(
                "job {} is {state}, which could not be recorded: {}",
                job.id,
                Failure::from(error).one_line()
            ));
        }
        let cause = cause.map(|cause| format!(": {}", cause.lines().next().unwrap_or_default())).unwrap_or_default();
        say(&format!("job {} is {state}{cause}", job.id));
    }

    /// The life of a job's thread: runs it until it has come to rest.
    fn run_job(&self, job: &Job, orders: &Orders) {
        let mut again = AGAIN.0;
        loop {
            let after = match self.held_by_another(job) {
                Some(holder) => After::Again(format!("its directory is in use by {holder}")),
                None => self.run_once(job, orders),
            };
            match after {
                After::Is(state, cause) => {
                    self.at_rest(job, state, cause.as_deref());
                    return;
                }
                After::Again(cause) if orders.is_canceled() => {
                    say(&format!("job {}: {cause}", job.id));
                    self.at_rest(job, JobState::Canceled, Some("canceled"));
                    return;
                }
                After::Again(cause) => {
                    self.is_now(
                        job,
                        JobState::Queued,
                        Some(&format!("taken up again in {} s: {cause}", again.as_secs())),
                        false,
                    );
                    let until = Instant::now() + again;
                    while Instant::now() < until && orders.count() == 0 && !self.is_stopping() {
                        thread::sleep(Duration::from_millis(50));
                    }
                    if orders.count() > 0 && !orders.is_canceled() {
                        self.at_rest(job, JobState::Paused, Some("paused"));
                        return;
                    }
                    again = (again * 2).min(AGAIN.1);
                }
            }
            if self.is_stopping() {
                return;
            }
        }
    }

    /// Somebody runs the job from its directory.
    fn held_by_another(&self, job: &Job) -> Option<String> {
        JobLock::holder(&JobDir::new(&job.dir)).ok().flatten()
    }

    fn run_once(&self, job: &Job, orders: &Orders) -> After {
        // A retry that began and was interrupted goes on as what it is: a job.
        let retry = self.inner.store.job(&job.id).ok().flatten().and_then(|job| job.retry);
        let purpose = match &retry {
            Some(retry) => Purpose::RetryFailed(retry.script.map_or(RetryScript::Own, RetryScript::Taken)),
            None => Purpose::Run,
        };
        let dir = JobDir::new(&job.dir);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (service, mine, sees) = (self.clone(), job.clone(), seen.clone());
        let on_state = move |state: JobState, cause: Option<&str>| {
            let mut seen = locked(&sees);
            if seen.state == Some(state) {
                return;
            }
            *seen = Seen { state: Some(state), cause: cause.map(str::to_string) };
            // How it came to rest is said when all its reports are written.
            if !state.is_final() && state != JobState::Paused {
                service.is_now(&mine, state, cause, state == JobState::Running);
            }
        };
        let run = FleetRun {
            job: FleetJob::Dir(dir.clone(), retry.unwrap_or_default().set),
            purpose,
            orders: orders.clone(),
            on_state: Arc::new(on_state),
            comeback: Comeback::Service,
            quiet: true,
        };
        let link = &self.inner.link;
        // A bug that shows in one job must not take the others with it.
        let outcome = catch_unwind(AssertUnwindSafe(|| run_on_fleet(link, run)));
        let seen = locked(&seen).clone();
        if let Ok(Err(failure)) = &outcome
            && seen.state.is_some_and(JobState::is_final)
        {
            // The job is what it is; whoever reads the log learns what came afterwards.
            say(&format!("job {}: {}", job.id, failure.one_line()));
        }
        after(outcome.ok(), &seen, Status::read(&dir.status_json()).ok().as_ref(), orders)
    }

    /// The job has come to rest: by itself, as somebody asked in its directory, or as the service told it.
    fn at_rest(&self, job: &Job, state: JobState, cause: Option<&str>) {
        let wanted = self.inner.store.job(&job.id).ok().flatten().map_or(job.wanted, |job| job.wanted);
        let told = locked(&self.inner.running).get(&job.id).is_some_and(|running| running.paused);
        // Told by the service, it may have been told to go on since.
        if state == JobState::Paused && wanted == Intent::Run && !told {
            // It can't be run as things are and would only come to rest again, or somebody wants it to stand still.
            if let Err(error) = self.inner.store.want(&job.id, Intent::Paused, "service", "pause") {
                say(&Failure::from(error).one_line());
            }
        }
        self.is_now(job, state, cause, state.is_final());
    }

    /// Decides about limits, and tells the jobs.
    fn share_out(&self, jobs: &[Job]) {
        let workers = self.redis().workers();
        let mut pools: BTreeMap<&str, Vec<Contender>> = BTreeMap::new();
        let mut running = locked(&self.inner.running);
        let mut before = BTreeMap::new();
        for job in jobs {
            let Some(at_work) = running.get_mut(&job.id) else { continue };
            let Some(status) =
                self.status_file(job).filter(|_| job.state == JobState::Running && job.wanted == Intent::Run)
            else {
                at_work.without_nodes = None;
                continue;
            };
            let nodes = status.nodes.max(nodes_of(&job.id, workers.as_deref()));
            match nodes {
                0 => drop(at_work.without_nodes.get_or_insert_with(Instant::now)),
                _ => at_work.without_nodes = None,
            }
            let starves = at_work.without_nodes.is_some_and(|since| since.elapsed() >= STARVES);
            before.extend(at_work.limit.map(|limit| (job.id.clone(), limit)));
            let left = match status.splitting {
                Some(_) => u32::MAX,
                None => u32::try_from(status.counts.mini_batches_remaining).unwrap_or(u32::MAX),
            };
            let contender = Contender {
                id: job.id.clone(),
                priority: job.priority,
                order: job.seq,
                nodes,
                most: job.node_count.unwrap_or(u32::MAX).min(left.max(1)),
                starves,
            };
            pools.entry(&job.pool).or_default().push(contender);
        }
        for (pool, contenders) in pools {
            let at_work: u32 = contenders.iter().map(|contender| contender.nodes).sum();
            let idle =
                workers.iter().flatten().filter(|worker| worker.pool == pool && worker.state == WorkerState::Idle);
            let limits = limits(at_work + idle.count() as u32, &contenders, &before);
            for contender in &contenders {
                let Some(at_work) = running.get_mut(&contender.id) else { continue };
                let limit = limits.get(&contender.id).copied();
                if at_work.limit != limit {
                    at_work.limit = limit;
                    at_work.orders.limit_nodes(limit);
                    match limit {
                        Some(limit) if limit < contender.nodes => {
                            say(&format!(
                                "job {} keeps {limit} of its {} nodes: others wait for some",
                                contender.id, contender.nodes
                            ));
                        }
                        _ => {}
                    }
                }
            }
        }
        // Whoever no longer competes has no limit.
        let competing: Vec<&JobId> =
            jobs.iter().filter(|job| job.state == JobState::Running).map(|job| &job.id).collect();
        for (id, at_work) in running.iter_mut() {
            if at_work.limit.is_some() && !competing.contains(&id) {
                at_work.limit = None;
                at_work.orders.limit_nodes(None);
            }
        }
    }

    /// The limit that the job has, for those who ask why it is slow.
    pub(super) fn limit_of(&self, id: &JobId) -> Option<u32> {
        locked(&self.inner.running).get(id).and_then(|running| running.limit)
    }

    /// Whether the job has a thread.
    pub(super) fn is_running(&self, id: &JobId) -> bool {
        locked(&self.inner.running).contains_key(id)
    }

    /// Whether the job's thread still does something.
    pub(super) fn is_at_work(&self, id: &JobId) -> bool {
        locked(&self.inner.running).get(id).is_some_and(|running| !running.thread.is_finished())
    }

    /// Whether as many jobs run as may.
    pub(super) fn is_full(&self) -> bool {
        locked(&self.inner.running).len() >= self.inner.config.max_jobs
    }

    /// The most jobs that run at once.
    pub(super) fn max_jobs(&self) -> usize {
        self.inner.config.max_jobs
    }
}

/// What the end of a run means for the job. None: it panicked.
fn after(outcome: Option<Result<ExitCode>>, seen: &Seen, status: Option<&Status>, orders: &Orders) -> After {
    // What it said last stands, whatever came afterwards.
    if let Some(state) = seen.state.filter(|state| state.is_final()) {
        return After::Is(state, seen.cause.clone());
    }
    let state = seen.state.or(status.map(|status| status.state));
    let cause = seen.cause.clone().or_else(|| status.and_then(|status| status.cause.clone()));
    match (outcome, state) {
        (Some(Ok(_)), Some(state)) if state.is_final() => After::Is(state, cause),
        (Some(Ok(_)), _) if orders.is_canceled() => After::Is(JobState::Canceled, Some("canceled".into())),
        (Some(Ok(_)), Some(JobState::Paused)) => After::Is(JobState::Paused, cause),
        // Its output is whole, and could not be uploaded: whoever mends that need not tell us.
        (Some(Ok(ExitCode::Failed)), Some(JobState::Finalizing)) if cause.is_some() && orders.count() == 0 => {
            After::Again(cause.unwrap_or_default())
        }
        (Some(Ok(_)), _) if orders.count() > 0 => After::Is(JobState::Paused, Some("paused".into())),
        (Some(Ok(exit)), _) => After::Again(format!("it came to no end (exit code {})", exit as u8)),
        // Its inputs, its script, its environment: no second try finds another answer.
        (Some(Err(failure)), _) if failure.exit_code() == ExitCode::Usage => {
            let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            let why = format!("{}{hint}", failure.one_line());
            match status.map(|status| status.state).filter(|state| state.is_final()) {
                // The job is what it was.
                Some(state) => After::Is(state, Some(format!("the retry was refused: {why}"))),
                None => After::Is(JobState::Failed, Some(why)),
            }
        }
        (Some(Err(failure)), _) => After::Again(failure.one_line()),
        (None, _) => After::Again("a bug of fanfold's; the log of the service has more".into()),
    }
}

/// Workers that are nodes of the job, or about to be, by their own word.
fn nodes_of(id: &JobId, workers: Option<&[WorkerStatus]>) -> u32 {
    let of_job = |worker: &&WorkerStatus| matches!(&worker.state, WorkerState::Working { job, .. } if job == id);
    workers.unwrap_or_default().iter().filter(of_job).count() as u32
}

/// Tells a worker to take no more nodes and to leave.
pub(super) fn drain(broker: &Broker, worker: &WorkerId) -> Result<(), ServiceError> {
    let publisher = broker.publisher(Unroutable::Drop, 1 << 16);
    let message = Outgoing {
        exchange: names::CONTROL.into(),
        routing_key: worker.0.clone(),
        body: wire::encode(&Control::to_worker(Command::Drain)),
        properties: Properties { transient: true, ..Properties::default() },
    };
    match publisher.publish_and_wait(vec![message], ORDER) {
        Ok(true) => Ok(()),
        _ => Err(ServiceError::NoBroker { why: why_not(&broker.condition()) }),
    }
}

/// Why the broker takes nothing, if it says.
pub(super) fn why_not(condition: &Condition) -> Option<String> {
    match condition {
        Condition::Away { why, .. } | Condition::Blocked { why, .. } => Some(why.clone()),
        Condition::Connected { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::report::{During, IoError};

    fn seen(state: JobState, cause: Option<&str>) -> Seen {
        Seen { state: Some(state), cause: cause.map(str::to_string) }
    }

    #[test]
    fn what_the_end_of_a_run_means() {
        let free = Orders::new();
        let (paused, canceled) = (Orders::new(), Orders::new());
        paused.pause();
        canceled.cancel();
        let is = |state, cause: Option<&str>| After::Is(state, cause.map(str::to_string));
        let ok = |exit| Some(Ok(exit));
        let completed = seen(JobState::Completed, None);
        assert_eq!(after(ok(ExitCode::Completed), &completed, None, &free), is(JobState::Completed, None));
        // It was done before the order came.
        assert_eq!(after(ok(ExitCode::Completed), &completed, None, &canceled), is(JobState::Completed, None));
        let running = seen(JobState::Running, None);
        assert_eq!(after(ok(ExitCode::Canceled), &running, None, &canceled), is(JobState::Canceled, Some("canceled")));
        assert_eq!(after(ok(ExitCode::Completed), &running, None, &paused), is(JobState::Paused, Some("paused")));
        let stopped = seen(JobState::Paused, Some("no GPU"));
        assert_eq!(after(ok(ExitCode::Usage), &stopped, None, &free), is(JobState::Paused, Some("no GPU")));
        assert!(matches!(after(None, &running, None, &free), After::Again(_)));
        let whole = seen(JobState::Finalizing, Some("the output can't be uploaded"));
        let again = After::Again("the output can't be uploaded".into());
        assert_eq!(after(ok(ExitCode::Failed), &whole, None, &free), again, "until somebody has mended it");
        assert_eq!(after(ok(ExitCode::Completed), &whole, None, &paused), is(JobState::Paused, Some("paused")));

        let error = |kind: std::io::ErrorKind| -> Option<Result<ExitCode>> {
            let error: Result<(), IoError> = Err(std::io::Error::from(kind)).during("read", "/shared/in");
            Some(Err(error.unwrap_err().into()))
        };
        let refused = after(error(std::io::ErrorKind::PermissionDenied), &Seen::default(), None, &free);
        assert!(
            matches!(refused, After::Is(JobState::Failed, Some(cause)) if cause.contains("/shared/in") && cause.contains("hint:"))
        );
        let mut failed = crate::report::fixtures::running();
        failed.state = JobState::Failed;
        let facts = crate::report::fixtures::facts(std::path::Path::new("/jobs/score-1a2b3c4d"));
        let failed = Status::new(&facts, &failed, &crate::report::Pace::default());
        let retry = after(error(std::io::ErrorKind::PermissionDenied), &Seen::default(), Some(&failed), &free);
        assert!(
            matches!(&retry, After::Is(JobState::Failed, Some(cause)) if cause.starts_with("the retry was refused: cannot read `/shared/in`")),
            "{retry:?}"
        );
        let over = after(error(std::io::ErrorKind::TimedOut), &completed, None, &free);
        assert_eq!(over, is(JobState::Completed, None), "it was over before it was taken up");
        assert_eq!(after(None, &completed, None, &free), is(JobState::Completed, None));
        assert!(matches!(after(error(std::io::ErrorKind::TimedOut), &Seen::default(), None, &free), After::Again(_)));
    }
}
