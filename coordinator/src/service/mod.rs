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
mod verbs;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::backend::fleet::basics;
use fanfold_shared::backend::rabbitmq::{Broker, Condition, Queue, QueueKind, Topology};
use fanfold_shared::clock::{iso, wall_us};
use fanfold_shared::fleet::{JobRequest, SharedRoot, names};
use fanfold_shared::ids::JobId;
use fanfold_shared::report::{During, Result};
use fanfold_shared::text::one_line;
use fanfold_shared::uri::Uri;

use crate::datasets::{self, DatasetStore, Outcome, Registration};
use crate::run::{FleetLink, Orders};
use crate::terminal;

pub use error::ServiceError;
pub use events::event;
pub use lock::{InUse, StateLock};
pub use store::{Intent, Job, JobStore, Retry, StoreError};
pub use submit::{Accepted, Caller};
pub use token::{Token, TokenError};

use events::Events;
use intake::Intake;

/// Between two looks at everything, when nothing happens.
const LOOK: Duration = Duration::from_millis(200);
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
    /// The datasets that jobs may name.
    pub datasets: DatasetStore,
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
        let places = submit::Places { shared: &link.shared, jobs: &config.jobs, datasets: &config.datasets };
        let accepted = submit::submit(store, &places, request, caller)?;
        drop(one_at_a_time);
        if !accepted.duplicate {
            say(&format!("job {} is accepted from {}", accepted.job.id, caller.who));
            self.wake();
        }
        Ok(accepted)
    }

    /// The datasets that jobs may name.
    pub fn datasets(&self) -> &DatasetStore {
        &self.inner.config.datasets
    }

    /// Registers a version of a dataset whose paths lie under the shared directory.
    ///
    /// # Errors
    /// A path leads out of it, or those of [`datasets::register`].
    pub fn register_dataset(&self, registration: &Registration) -> Result<Outcome> {
        let shared = self.shared();
        let inside = |path: &Path| -> Result<()> {
            if path.to_str().is_some_and(Uri::is_meant) {
                return Ok(());
            }
            submit::inside(shared, path)?;
            // Of a pattern, the folder that it begins in.
            let there = path.ancestors().find(|path| path.exists()).filter(|there| there.starts_with(shared.root()));
            Ok(there.map_or(Ok(()), |there| submit::inside(shared, there).map(drop))?)
        };
        // Before anything is looked at: nobody is told what lies elsewhere.
        for path in &registration.paths {
            inside(Path::new(path))?;
        }
        let outcome = datasets::register(self.datasets(), registration, &inside)?;
        if !outcome.known {
            say(&format!("dataset {} is registered from {}", outcome.dataset.id, registration.who));
        }
        Ok(outcome)
    }

    /// The message that asked for the job is acknowledged.
    fn acknowledged(&self, id: &JobId) {
        // At worst the same message, delivered again, is told of the same job later than it might.
        let _ = self.inner.store.answered(id);
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
    let stays = QueueKind::Quorum { expires: None, max_bytes: None, max_length: None, message_ttl: None };
    let mut topology = basics();
    topology.queues.push(Queue { name: names::JOBS.into(), kind: stays });
    topology
}
