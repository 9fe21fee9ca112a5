//! The backend of a fleet: one job's tasks and results on RabbitMQ, its hand-overs counted in Redis.

mod parcel;
mod spool;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use self::spool::Spool;
use super::rabbitmq::{
    Broker, BrokerError, Consumer, Depth, ExchangeKind, Outgoing, Publisher, Queue, QueueKind, Received, Topology,
    Unroutable,
};
use super::redis::Store;
use super::{Backend, Closed, Delivery, Gather, OnSafe, Settle, Settled};
use crate::fleet::{names, wire};
use crate::ids::JobId;
use crate::layout::JobDir;
use crate::message::{FromNode, Task};

/// A task of more mini-batches is none of ours.
const MOST_MINI_BATCHES: u64 = 1 << 20;
/// The job's queues outlive their users for so long.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// The results queue refuses more, and publishers try again.
const RESULTS_BYTES: u64 = 64 << 20;
/// Messages of a program that are published and not confirmed.
const UNCONFIRMED_BYTES: usize = 32 << 20;
/// Result messages that the coordinator takes ahead; each has 256 KiB of rows at most.
const RESULTS_AHEAD: u16 = 64;
/// Before a node says how many it wants.
const TASKS_AHEAD: u16 = 16;
/// A result costs broker, worker and coordinator a millisecond of processor time together, however little is in it. More rows would travel
/// as a file.
const GATHER: Gather = Gather { time: Duration::from_millis(100), bytes: 256 << 10 };
/// The broker's answers to questions.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a waiting publisher looks whether the flow has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What every program of a fleet declares: the exchanges, and the queue of what nobody can read.
pub fn basics() -> Topology {
    let dead = QueueKind::Quorum { expires: None, max_bytes: None, max_length: Some(10_000), message_ttl: Some(WEEK) };
    Topology {
        exchanges: [
            (names::TASKS, ExchangeKind::Direct),
            (names::RESULTS, ExchangeKind::Direct),
            (names::CONTROL, ExchangeKind::Direct),
            (names::NODES, ExchangeKind::Direct),
            (names::EVENTS, ExchangeKind::Topic),
            (names::DEAD, ExchangeKind::Fanout),
        ]
        .map(|(name, kind)| (name.to_string(), kind))
        .into(),
        queues: vec![Queue { name: names::DEAD.to_string(), kind: dead }],
        bindings: vec![(names::DEAD.to_string(), names::DEAD.to_string(), String::new())],
    }
}

/// One job's queues, as its coordinator or one of its nodes uses them. Channels are opened when they are first used.
pub struct Fleet {
    broker: Broker,
    store: Store,
    job: JobId,
    spool: Arc<Spool>,
    /// It is the job's coordinator: what is left in the queues after the end is its.
    coordinates: bool,
    tasks_out: OnceLock<Publisher>,
    tasks_in: OnceLock<Consumer>,
    results_out: OnceLock<Publisher>,
    results_in: OnceLock<Consumer>,
    prefetch: AtomicU16,
    counted: Arc<Counted>,
    rejected: AtomicU64,
    closed: AtomicBool,
}

/// The tasks in hand whose hand-over Redis was told of.
#[derive(Default)]
struct Counted(Mutex<HashMap<Task, Count>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    /// It counts these hand-overs: a task may be in hand in several copies.
    Stands(u32),
    /// It was forgotten, and what Redis counts now is of a later message.
    Forgotten,
}

impl Counted {
    fn lock(&self) -> MutexGuard<'_, HashMap<Task, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redis counts one more.
    fn counts(&self, task: Task) {
        let mut all = self.lock();
        let count = match all.get(&task) {
            Some(Count::Stands(copies)) => Count::Stands(copies + 1),
            Some(Count::Forgotten) | None => Count::Stands(1),
        };
        all.insert(task, count);
    }

    fn forgotten(&self, task: Task) {
        self.lock().insert(task, Count::Forgotten);
    }

    /// What Redis was told of a copy that is settled now.
    fn take(&self, task: &Task) -> Option<Count> {
        let mut all = self.lock();
        let count = all.remove(task);
        if let Some(Count::Stands(copies @ 2..)) = count {
            all.insert(task.clone(), Count::Stands(copies - 1));
        }
        count
    }
}

impl Fleet {
    /// For the coordinator: declares the job's queues.
    ///
    /// # Errors
    /// The broker refuses, or does not answer within `limit`.
    pub fn coordinate(
        broker: &Broker,
        store: &Store,
        job: &JobId,
        dir: &JobDir,
        limit: Duration,
    ) -> Result<Fleet, BrokerError> {
        let queue = |name: String, max_bytes| Queue {
            name,
            kind: QueueKind::Quorum { expires: Some(WEEK), max_bytes, max_length: None, message_ttl: None },
        };
        let (tasks, results) = (names::tasks_queue(job), names::results_queue(job));
        let queues = Topology {
            exchanges: Vec::new(),
            queues: vec![queue(tasks.clone(), None), queue(results.clone(), Some(RESULTS_BYTES))],
            bindings: vec![
                (tasks, names::TASKS.to_string(), job.0.clone()),
                (results, names::RESULTS.to_string(), job.0.clone()),
            ],
        };
        let started = Instant::now();
        broker.declare(basics(), limit)?;
        broker.declare(queues, limit.saturating_sub(started.elapsed()))?;
        Ok(Fleet::new(broker, store, job, dir, true))
    }

    /// For a node: uses what is there.
    pub fn take_part(broker: &Broker, store: &Store, job: &JobId, dir: &JobDir) -> Fleet {
        Fleet::new(broker, store, job, dir, false)
    }

    fn new(broker: &Broker, store: &Store, job: &JobId, dir: &JobDir, coordinates: bool) -> Fleet {
        Fleet {
            broker: broker.clone(),
            store: store.clone(),
            job: job.clone(),
            spool: Arc::new(Spool::new(dir.spool())),
            coordinates,
            tasks_out: OnceLock::new(),
            tasks_in: OnceLock::new(),
            results_out: OnceLock::new(),
            results_in: OnceLock::new(),
            prefetch: AtomicU16::new(TASKS_AHEAD),
            counted: Arc::default(),
            rejected: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Lets the broker send so many tasks ahead. 0: none any more.
    pub fn set_prefetch(&self, tasks: u16) {
        self.prefetch.store(tasks, Ordering::SeqCst);
        if let Some(consumer) = self.tasks_in.get() {
            consumer.set_prefetch(tasks);
        }
    }

    /// Since when the job's queues have been missing, by the broker's word. For a node.
    pub fn missing_since(&self) -> Option<Instant> {
        let consumes = self.tasks_in.get().and_then(Consumer::missing_since);
        consumes.or_else(|| self.results_out.get().and_then(Publisher::unroutable_since))
    }

    /// Messages that nobody can read and that went to the dead letters.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Tasks that wait in the queue by the broker's word; None: the queue is gone (and declared again).
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn waiting_tasks(&self) -> Result<Option<u32>, BrokerError> {
        Ok(self.broker.depth(&names::tasks_queue(&self.job), ANSWER)?.map(|depth| depth.ready))
    }

    /// Takes back the tasks that nobody has received yet.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn purge_tasks(&self) -> Result<u32, BrokerError> {
        self.broker.purge(&names::tasks_queue(&self.job), ANSWER)
    }

    /// The job is over: deletes queues, counters and what is left in the spool.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn clean_up(&self) -> Result<(), BrokerError> {
        let deleted = Fleet::forget(&self.broker, &self.store, &self.job);
        self.spool.clear();
        deleted
    }

    /// For the coordinator: nothing is handed out any more under a name that nobody goes on with. Whoever leaves there may still say so.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn dismiss(broker: &Broker, job: &JobId) -> Result<(), BrokerError> {
        broker.delete_queues(&[names::tasks_queue(job)], ANSWER)
    }

    /// For the coordinator: deletes the queues and counters under a name. What is in the spool may be of another.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn forget(broker: &Broker, store: &Store, job: &JobId) -> Result<(), BrokerError> {
        store.forget_job(job);
        broker.delete_queues(&[names::tasks_queue(job), names::results_queue(job)], ANSWER)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn open(&self) -> Result<(), Closed> {
        if self.is_closed() { Err(Closed) } else { Ok(()) }
    }

    fn tasks_out(&self) -> &Publisher {
        self.tasks_out.get_or_init(|| self.broker.publisher(Unroutable::TryAgain, UNCONFIRMED_BYTES))
    }

    fn results_out(&self) -> &Publisher {
        self.results_out.get_or_init(|| self.broker.publisher(Unroutable::TryAgain, UNCONFIRMED_BYTES))
    }

    fn tasks_in(&self) -> &Consumer {
        let consume = || self.broker.consumer(&names::tasks_queue(&self.job), self.prefetch.load(Ordering::SeqCst));
        self.tasks_in.get_or_init(consume)
    }

    fn results_in(&self) -> &Consumer {
        self.results_in.get_or_init(|| self.broker.consumer(&names::results_queue(&self.job), RESULTS_AHEAD))
    }

    fn outgoing(&self, exchange: &str, body: Vec<u8>) -> Outgoing {
        Outgoing { exchange: exchange.to_string(), routing_key: self.job.0.clone(), body, ..Outgoing::default() }
    }

    /// Nobody can read it.
    fn reject(&self, received: Received) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        received.reject();
    }

    fn task(&self, received: Received) -> Option<Delivery<Task>> {
        let task = match wire::decode::<Task>(&received.body) {
            Ok(task) if is_plausible(&task) => task,
            _ => {
                self.reject(received);
                return None;
            }
        };
        let (store, job, counted) = (self.store.clone(), self.job.clone(), self.counted.clone());
        let redelivered = received.redelivered;
        let settle: Settle<Task> = Box::new(move |task, how| {
            let count = counted.take(&task);
            match how {
                // The counter first: if the acknowledgement is lost, whoever gets the task has nobody's death to report.
                Settled::Acked | Settled::Rejected => {
                    if count != Some(Count::Forgotten) {
                        store.forget(&job, &task);
                    }
                    if how == Settled::Acked { received.ack() } else { received.reject() }
                }
                // Counted back before anybody else can have it.
                Settled::Requeued if matches!(count, Some(Count::Stands(_))) => {
                    store.uncount_then(&job, &task, move || received.requeue());
                }
                Settled::Requeued => received.requeue(),
            }
        });
        Some(Delivery::new(task, redelivered, settle))
    }

    fn result(&self, received: Received) -> Option<(usize, Delivery<FromNode>)> {
        let unpacked = match parcel::unpack(&received.body, &self.spool) {
            Ok(unpacked) => unpacked,
            Err(_) => {
                self.reject(received);
                return None;
            }
        };
        let weight = received.body.len() + unpacked.read;
        let redelivered = received.redelivered;
        let file = unpacked.file;
        let settle: Settle<FromNode> = Box::new(move |_, how| match how {
            Settled::Acked | Settled::Rejected => {
                if how == Settled::Acked {
                    received.ack()
                } else {
                    received.reject()
                }
                if let Some(file) = file {
                    // Gone already if the message came twice.
                    let _ = std::fs::remove_file(file);
                }
            }
            Settled::Requeued => received.requeue(),
        });
        Some((weight, Delivery::new(unpacked.message, redelivered, settle)))
    }

    /// What a consumer has; after the end, what is left: for the coordinator all of the queue, for a node what it was sent.
    fn receive(&self, consumer: &Consumer, queue: &str, max: usize, wait: Duration) -> Result<Vec<Received>, Closed> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let closed = self.is_closed();
            let received = consumer.receive(max, left.min(LOOK))?;
            if !received.is_empty() || (left.is_zero() && !closed) {
                return Ok(received);
            }
            if closed && (!self.coordinates || self.is_empty(queue)) {
                // What was on its way while we asked.
                let last = consumer.receive(max, if self.coordinates { LOOK } else { Duration::ZERO })?;
                return if last.is_empty() { Err(Closed) } else { Ok(last) };
            }
            if left.is_zero() {
                return Ok(Vec::new());
            }
        }
    }

    fn is_empty(&self, queue: &str) -> bool {
        !matches!(self.broker.depth(queue, ANSWER), Ok(Some(Depth { ready: 1.., .. })))
    }
}

fn is_plausible(task: &Task) -> bool {
    let range = &task.mini_batches;
    range.start < range.end && range.end - range.start <= MOST_MINI_BATCHES && task.attempt > 0
}

impl Backend for Fleet {
    fn publish_tasks(&self, tasks: Vec<Task>) -> Result<(), Closed> {
        self.open()?;
        let messages = tasks.iter().map(|task| self.outgoing(names::TASKS, wire::encode(task))).collect();
        let (sent, safe) = mpsc::sync_channel(1);
        self.tasks_out().publish(
            messages,
            Box::new(move || {
                // Who waited may have given up.
                let _ = sent.send(());
            }),
        )?;
        loop {
            match safe.recv_timeout(LOOK) {
                Ok(()) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => self.open()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Closed),
            }
        }
    }

    fn receive_tasks(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<Task>>, Closed> {
        let received = self.receive(self.tasks_in(), &names::tasks_queue(&self.job), max, wait)?;
        Ok(received.into_iter().filter_map(|received| self.task(received)).collect())
    }

    fn publish_results(&self, messages: Vec<FromNode>, safe: OnSafe) -> Result<(), Closed> {
        self.open()?;
        let mut all = Vec::new();
        for message in messages {
            let bodies = parcel::pack(message, &self.spool, &|| self.is_closed())?;
            all.extend(bodies.into_iter().map(|body| self.outgoing(names::RESULTS, body)));
        }
        self.results_out().publish(all, safe)
    }

    fn receive_results(&self, max_bytes: usize, wait: Duration) -> Result<Vec<Delivery<FromNode>>, Closed> {
        let queue = names::results_queue(&self.job);
        let consumer = self.results_in();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut received = self.receive(consumer, &queue, 1, wait)?;
        while let Some(next) = received.pop() {
            if let Some((weight, delivery)) = self.result(next) {
                bytes += weight;
                taken.push(delivery);
            }
            if bytes >= max_bytes {
                break;
            }
            // Closed or not, what is there is there.
            received = consumer.receive(1, Duration::ZERO).unwrap_or_default();
        }
        Ok(taken)
    }

    fn count_hand_overs(&self, tasks: &[Delivery<Task>]) -> Result<Vec<u32>, Closed> {
        self.open()?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<Task> = tasks.iter().map(|task| (**task).clone()).collect();
        match self.store.count(&self.job, &all) {
            Some(counts) => {
                all.into_iter().for_each(|task| self.counted.counts(task));
                Ok(counts)
            }
            // Redis is away: that it was delivered before is all that is known.
            None => Ok(tasks.iter().map(|task| if task.redelivered { 2 } else { 1 }).collect()),
        }
    }

    fn forget_hand_overs(&self, task: &Delivery<Task>) {
        self.store.forget_now(&self.job, task);
        self.counted.forgotten((**task).clone());
    }

    fn hold(&self, tasks: u16) {
        self.set_prefetch(tasks);
    }

    fn gather(&self) -> Gather {
        GATHER
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.spool.wake();
        for publisher in [self.tasks_out.get(), self.results_out.get()].into_iter().flatten() {
            publisher.close();
        }
        if !self.coordinates
            && let Some(consumer) = self.tasks_in.get()
        {
            consumer.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
