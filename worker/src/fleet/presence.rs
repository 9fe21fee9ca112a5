//! What a worker says of itself while it lives: to Redis for people, to its log, to whoever asks for its health.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::{Broker, Condition};
use fanfold_shared::backend::redis::Store;
use fanfold_shared::clock;
use fanfold_shared::fleet::{WorkerState, WorkerStatus};

use super::log::say;
use crate::node::Counters;

/// Between two beats.
const BEAT: Duration = Duration::from_secs(5);
/// Between two looks at the connections.
const LOOK: Duration = Duration::from_millis(200);
/// A connection that was away for so long is worth a word.
const BRIEF: Duration = Duration::from_secs(1);
/// A main loop that turned no more recently hangs.
const TURN: Duration = Duration::from_secs(20);

/// See the module documentation.
pub struct Presence {
    /// The connections to RabbitMQ.
    pub broker: Broker,
    /// Redis.
    pub store: Store,
    /// What the nodes did.
    pub counters: Arc<Counters>,
    health: PathBuf,
    status: Mutex<WorkerStatus>,
    began: Instant,
    /// When the main loop turned last, milliseconds after `began`.
    turned: AtomicU64,
    over: AtomicBool,
}

/// The thread that beats; dropped, the worker has left.
pub struct Beating {
    presence: Arc<Presence>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Presence {
    /// What `status` says, until it is set otherwise; well as long as `health` is touched.
    pub fn new(broker: Broker, store: Store, status: WorkerStatus, health: PathBuf) -> Presence {
        Presence {
            broker,
            store,
            counters: Arc::default(),
            health,
            status: Mutex::new(status),
            began: Instant::now(),
            turned: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Says from now on what the worker does, and with what.
    pub fn set(&self, state: WorkerState, with: Option<(u32, Vec<String>)>) {
        let mut status = self.lock();
        status.state = state;
        if let Some((processes, gpus)) = with {
            (status.processes, status.gpus) = (processes, gpus);
        }
        status.beat_us = clock::wall_us();
        self.store.beat(&status);
    }

    /// What the worker says of itself.
    pub fn status(&self) -> WorkerStatus {
        self.lock().clone()
    }

    /// The main loop turns.
    pub fn turn(&self) {
        self.turned.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the main loop turns and the broker answers.
    pub fn is_well(&self) -> bool {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(turned) < TURN && !matches!(self.broker.condition(), Condition::Away { .. })
    }

    /// Starts the thread that beats.
    ///
    /// # Errors
    /// The system has none.
    pub fn begin(self: Arc<Presence>) -> std::io::Result<Beating> {
        let presence = self.clone();
        let thread = thread::Builder::new().name("presence".into()).spawn(move || presence.live())?;
        Ok(Beating { presence: self, thread: Some(thread) })
    }

    fn live(&self) {
        let mut watch = Watch::default();
        let mut beaten: Option<Instant> = None;
        while !self.over.load(Ordering::SeqCst) {
            watch.look(self);
            if beaten.is_none_or(|beaten| beaten.elapsed() >= BEAT) {
                beaten = Some(Instant::now());
                self.beat();
            }
            thread::sleep(LOOK);
        }
    }

    fn beat(&self) {
        let mut status = self.lock();
        status.beat_us = clock::wall_us();
        self.store.beat(&status);
        if self.is_well() {
            // A full disk makes it look unwell, which it is.
            let _ = fs::write(&self.health, []);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WorkerStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.presence.over.store(true, Ordering::SeqCst);
        // A panic was printed where it happened.
        let _ = self.thread.take().map(thread::JoinHandle::join);
        let worker = self.presence.status().worker;
        self.presence.store.worker_left(&worker);
    }
}

/// Says what changes about the connections, once.
#[derive(Default)]
struct Watch {
    broker: Option<&'static str>,
    redis_away: bool,
}

impl Watch {
    fn look(&mut self, presence: &Presence) {
        let (word, text) = match presence.broker.condition() {
            // A moment is nothing to speak of.
            Condition::Away { since, .. } if since.elapsed() < BRIEF => return,
            Condition::Connected { version } => ("connected", format!("connected to RabbitMQ {version}")),
            Condition::Away { why, .. } => {
                ("away", format!("no connection to the broker, trying again for ever: {why}"))
            }
            Condition::Blocked { why, .. } => ("blocked", format!("the broker takes no results at the moment: {why}")),
        };
        if self.broker.replace(word) != Some(word) {
            say(&text);
        }
        match (presence.store.away(), self.redis_away) {
            (Some((_, why)), false) => {
                say(&format!("Redis does not answer, which costs nothing but certainty about deaths: {why}"))
            }
            (None, true) => say("Redis answers again"),
            _ => (),
        }
        self.redis_away = presence.store.away().is_some();
    }
}
