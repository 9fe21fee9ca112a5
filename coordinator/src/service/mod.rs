//! `fanfold serve`: the coordinator of many jobs, for as long as anybody wants it.
//!
//! Jobs come over HTTP ([`crate::api`]) and from the queue `fanfold.jobs` ([`intake`]), become directories and rows of the store ([`store`]),
//! and run, each on a thread of its own ([`crate::run::run_on_fleet`]); the supervisor starts them in order, shares the workers out
//! ([`share`]), and writes down how they end. Always true: a job that was accepted is in the store, and its truth is in its directory. So
//! the service may be killed at any moment: the next one takes up everything that is not over.

mod error;
mod events;
mod intake;
mod lock;
mod look;
mod share;
mod store;
mod submit;
mod supervise;
mod token;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{Broker, Condition, ExchangeKind, Queue, QueueKind, Topology};
use fanfold_shared::clock::{iso, wall_us};
use fanfold_shared::fleet::{JobRequest, SharedRoot, WorkerId, WorkerStatus, names};
use fanfold_shared::ids::JobId;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::one_line;

use crate::run::{self, FleetLink, Orders};
use crate::terminal;

pub use error::{Missing, ServiceError};
pub use events::event;
pub use lock::{InUse, StateLock};
pub use look::{Explained, Reason, StatusView, Waiting, explain};
pub use store::{Intent, Job, JobStore, StoreError};
pub use submit::{Accepted, Caller};
pub use token::{Token, TokenError};

use events::Events;
use intake::Intake;

/// Between two looks at everything, when nothing happens.
const LOOK: Duration = Duration::from_millis(200);
/// How long the thread of a job that is over may still be at its reports.
const LAST: Duration = Duration::from_secs(2);
/// Between two looks at what is only shown.
const SHOWN: Duration = Duration::from_secs(5);
/// How long the broker may take to declare a queue before it is asked again.
const DECLARE: Duration = Duration::from_secs(10);

/// What a service is told when it starts.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The store's file.
    pub store: PathBuf,
    /// Where job directories are made, under the shared directory.
    pub jobs: PathBuf,
    /// Jobs that run at once.
    pub max_jobs: usize,
}

/// A service. Clones are the same one.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    link: FleetLink,
    config: ServiceConfig,
    store: JobStore,
    /// One request becomes a job at a time: whether its key is known must stay true until it is.
    submitting: Mutex<()>,
    running: Mutex<BTreeMap<JobId, Running>>,
    /// Something changed that the supervisor should look at.
    changed: (Mutex<bool>, Condvar),
    stopping: AtomicBool,
    /// Queues and exchanges are there.
    declared: AtomicBool,
    /// Messages in the dead letters; −1: not known.
    dead_letters: AtomicI64,
}

/// A job on its thread.
struct Running {
    orders: Orders,
    thread: JoinHandle<()>,
    /// Since when it has had no node although it wants some.
    without_nodes: Option<Instant>,
    limit: Option<u32>,
    canceled: bool,
    paused: bool,
}

/// A thread that panicked holding one of these left nothing half done: each change is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest line of the log.
const MOST_LINE: usize = 4000;

/// A line on stderr, for the log of the service.
pub fn say(text: &str) {
    // Much of it was written by who sent a message: no line of it may look like another one of ours.
    terminal::tell(&format!("{} {}", iso(wall_us()), one_line(text, MOST_LINE)));
}

impl Service {
    /// Opens the store and clears away what a service that died left half made. Nothing runs yet.
    ///
    /// # Errors
    /// The store can't be opened.
    pub fn open(config: ServiceConfig, link: FleetLink) -> Result<Service> {
        let store = JobStore::open(&config.store)?;
        for (id, dir) in store.abandoned()? {
            // Nobody was told of it, and nothing ran.
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Err::<(), _>(error).during("remove", &dir).expect_err("an error").into());
                }
                _ => store.withdraw(&id)?,
            }
        }
        let inner = Inner {
            link,
            config,
            store,
            submitting: Mutex::default(),
            running: Mutex::default(),
            changed: Default::default(),
            stopping: AtomicBool::new(false),
            declared: AtomicBool::new(false),
            dead_letters: AtomicI64::new(-1),
        };
        Ok(Service { inner: Arc::new(inner) })
    }

    /// Starts the threads that do everything. They live until [`Service::stop`].
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(&self) -> Result<Threads> {
        let mut threads = Vec::new();
        let mut start = |name: &str, work: fn(&Service)| -> Result<()> {
            let service = self.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || work(&service));
            threads.push(thread.during("start a thread of", "this process")?);
            Ok(())
        };
        start("supervisor", Service::supervise)?;
        start("intake", Service::take_in)?;
        start("events", Service::tell_events)?;
        start("looks", Service::look_around)?;
        Ok(Threads { threads: threads.into() })
    }

    /// Ends the service's own threads. Jobs are left as they are: their nodes go on, and the next service goes on with them.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        *locked(&self.inner.changed.0) = true;
        self.inner.changed.1.notify_all();
    }

    /// Waits until something changes, a moment at most.
    fn wait(&self) {
        let (changed, condvar) = &self.inner.changed;
        let guard = locked(changed);
        let (mut guard, _) =
            condvar.wait_timeout_while(guard, LOOK, |changed| !*changed).unwrap_or_else(PoisonError::into_inner);
        *guard = false;
    }

    /// Waits so long, or until the service stops.
    pub(crate) fn pause_for(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.is_stopping() && Instant::now() < deadline {
            thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    /// The directory that the fleet shares.
    pub fn shared(&self) -> &SharedRoot {
        &self.inner.link.shared
    }

    /// The connections to RabbitMQ.
    pub fn broker(&self) -> &Broker {
        &self.inner.link.broker
    }

    /// Redis.
    pub fn redis(&self) -> &fanfold_shared::backend::redis::Store {
        &self.inner.link.store
    }

    /// Messages that nobody could read, if the broker has said how many.
    pub fn dead_letters(&self) -> Option<i64> {
        Some(self.inner.dead_letters.load(Ordering::Relaxed)).filter(|count| *count >= 0)
    }

    /// Makes a job of a request, or finds the one that it became earlier.
    ///
    /// # Errors
    /// What is wrong with the request, or what keeps the service from doing it now.
    pub fn submit(&self, request: &JobRequest, caller: &Caller) -> Result<Accepted> {
        let one_at_a_time = locked(&self.inner.submitting);
        let Inner { store, link, config, .. } = &*self.inner;
        let accepted = submit::submit(store, &link.shared, &config.jobs, request, caller)?;
        drop(one_at_a_time);
        if !accepted.duplicate {
            say(&format!("job {} is accepted from {}", accepted.job.id, caller.who));
            self.wake();
        }
        Ok(accepted)
    }

    /// The message that asked for the job is acknowledged.
    fn acknowledged(&self, id: &JobId) {
        // At worst the same message, delivered again, is told of the same job later than it might.
        let _ = self.inner.store.answered(id);
    }

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

    /// What is out of tries is tried again.
    ///
    /// # Errors
    /// The job is neither Failed nor Completed, nothing of it failed, or a key would make it another job.
    pub fn retry(&self, job: &Job, overrides: &[String], who: &str) -> Result<()> {
        if !matches!(job.state, JobState::Failed | JobState::Completed) || !self.wait_for_the_end(&job.id) {
            return Err(ServiceError::NotNow { job: job.id.clone(), state: job.state, verb: "retry" }.into());
        }
        // A mistake is told now, and not when the job is taken up.
        let spec = run::retried(&self.inner.link.shared, &JobDir::new(&job.dir), overrides)?;
        self.inner.store.update(&job.id, &spec.compute_target, spec.priority, spec.node_count)?;
        let queued = event(&job.id, &job.name, JobState::Queued, None, self.status_file(job).as_ref());
        self.inner.store.retry(&job.id, overrides, who, &queued)?;
        say(&format!("job {}: retry, asked for by {who}", job.id));
        self.wake();
        Ok(())
    }

    /// Waits a moment for the thread of a job that is over. False: it still works on it.
    fn wait_for_the_end(&self, id: &JobId) -> bool {
        let deadline = Instant::now() + LAST;
        loop {
            self.reap();
            if !self.is_running(id) {
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

    fn take_in(&self) {
        self.declare();
        let intake = Intake::new(self.broker());
        while !self.is_stopping() {
            if intake.take(self).is_err() {
                return;
            }
        }
    }

    /// Sees to it that what the service needs is there.
    fn declare(&self) {
        while !self.is_stopping() {
            match self.broker().declare(topology(), DECLARE) {
                Ok(()) => return self.inner.declared.store(true, Ordering::SeqCst),
                Err(error) => {
                    say(&format!("the queue {} is not there yet: {error}", names::JOBS));
                    self.pause_for(Duration::from_secs(1));
                }
            }
        }
    }

    fn tell_events(&self) {
        while !self.is_stopping() && !self.inner.declared.load(Ordering::SeqCst) {
            self.pause_for(LOOK);
        }
        let events = Events::new(self.broker());
        while !self.is_stopping() {
            if !events.publish(&self.inner.store) {
                self.pause_for(LOOK);
            }
        }
    }

    /// Keeps what is only shown.
    fn look_around(&self) {
        while !self.is_stopping() {
            if matches!(self.broker().condition(), Condition::Connected { .. })
                && let Ok(depth) = self.broker().depth(names::DEAD, Duration::from_secs(5))
            {
                let count = depth.map_or(0, |depth| i64::from(depth.ready));
                self.inner.dead_letters.store(count, Ordering::Relaxed);
            }
            self.pause_for(SHOWN);
        }
    }
}

/// The threads of a service.
pub struct Threads {
    threads: VecDeque<JoinHandle<()>>,
}

impl Threads {
    /// Waits for them, `limit` at most: those of jobs end with the program.
    pub fn join(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline && !self.threads.is_empty() {
            self.threads.retain(|thread| !thread.is_finished());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What the service itself consumes and publishes to.
fn topology() -> Topology {
    let stays = |max_length, message_ttl| QueueKind::Quorum { expires: None, max_bytes: None, max_length, message_ttl };
    Topology {
        exchanges: vec![(names::EVENTS.into(), ExchangeKind::Topic), (names::DEAD.into(), ExchangeKind::Fanout)],
        queues: vec![
            Queue { name: names::DEAD.into(), kind: stays(Some(10_000), Some(Duration::from_secs(7 * 24 * 3600))) },
            Queue { name: names::JOBS.into(), kind: stays(None, None) },
        ],
        bindings: vec![(names::DEAD.into(), names::DEAD.into(), String::new())],
    }
}
