//! RabbitMQ, and the only place that names its client library: one supervisor keeps two connections (one publishes, one consumes), and
//! whatever was declared, consumed and not yet confirmed is so again after every reconnection.
//!
//! Everything here is a blocking call; the supervisor's thread has the runtime.

mod connection;
mod consumer;
mod error;
mod message;
mod publisher;
mod tls;
mod topology;
mod unsettled;
mod version;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::tcp::RustlsConnector;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use tokio::sync::{Notify, watch};

pub use self::consumer::{Consumer, Received};
pub use self::error::BrokerError;
pub use self::message::{Outgoing, Properties};
pub use self::publisher::Publisher;
pub use self::topology::{ExchangeKind, Queue, QueueKind, Topology};

use self::connection::{ANSWER, Health, Links, Role};
use self::topology::{NOT_FOUND, code};
use super::Closed;
use crate::fleet::config::{ServerUrl, TlsFiles};

/// The connections of one program. Clones share them; the last one dropped closes them.
#[derive(Clone)]
pub struct Broker {
    owner: Arc<Owner>,
}

/// Closes when it is dropped.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Owner {
    fn close(&self) {
        self.shared.closing.send_replace(true);
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What is done when a message is safe runs on that thread, and may hold the last handle.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // It waits for nobody for long.
            let _ = thread.join();
        }
    }
}

/// What the supervisor, its tasks and the handles share.
struct Shared {
    config: BrokerConfig,
    uri: AMQPUri,
    tls: Option<RustlsConnector>,
    runtime: tokio::runtime::Handle,
    closing: watch::Sender<bool>,
    links: [Links; 2],
    topology: Mutex<Vec<Topology>>,
    health: Mutex<Health>,
    changed: Condvar,
    /// Somebody found that something declared is not there.
    redeclare: Notify,
    /// Somebody was not answered, though the connection lives.
    unanswered: AtomicBool,
    /// How often each queue was missing and declared anew: its consumers start again.
    anew: watch::Sender<HashMap<String, u64>>,
}

impl Shared {
    fn links(&self, role: Role) -> Links {
        self.links[role as usize].clone()
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topology(&self) -> MutexGuard<'_, Vec<Topology>> {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the server; empty while it is not known.
    fn version(&self) -> String {
        self.health().version.clone()
    }

    fn connected(&self, role: Role) {
        self.health().connected(role);
        self.changed.notify_all();
    }

    fn lost(&self, role: Role, why: String, refused: Option<BrokerError>) {
        let refused = refused.map(|error| (self.config.url.to_string(), error.reason()));
        self.health().lost(role, why, refused);
        self.changed.notify_all();
    }

    fn blocked(&self, role: Role, why: Option<String>) {
        if role == Role::Publish {
            self.health().blocked(why);
            self.changed.notify_all();
        }
    }

    /// Something that does not end the connection went wrong.
    fn note(&self, why: String) {
        self.health().note(why);
    }

    /// Has everything declared again, soon.
    fn redeclare(&self) {
        self.redeclare.notify_one();
    }

    /// Has it looked into whether a queue of ours is dead.
    fn not_answered(&self) {
        self.unanswered.store(true, Ordering::SeqCst);
        self.redeclare();
    }

    /// Declares again when asked to, at most once a second.
    ///
    /// What is missing has been so for a second before it is declared: the broker tells the consumers of a quorum queue that it is gone only
    /// some 50 ms later, and not at all if there is a queue of that name again by then. Such a consumer takes its part of the messages
    /// of the new queue and nobody ever sees them, until its channel is closed (3.10). Consumers of ours that this may have happened to start
    /// again on another channel; those of other programs are safe by that second.
    async fn keep_declared(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        let mut links = self.links(Role::Consume);
        let work = async {
            let mut missing: Vec<String> = Vec::new();
            loop {
                self.redeclare.notified().await;
                if self.topology().is_empty() {
                    continue;
                }
                let Some(link) = connection::linked(&mut links).await else { return };
                missing.extend(topology::missing(&self, &link.connection).await);
                if self.unanswered.swap(false, Ordering::SeqCst) {
                    missing.extend(topology::remove_dead(&self, &link.connection).await);
                }
                tokio::time::sleep(PAUSE).await;
                match tokio::time::timeout(ANSWER, topology::declare_all(&self, &link.connection)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.note(error.to_string()),
                    Err(_) => {
                        self.redeclare();
                        continue;
                    }
                }
                self.anew.send_if_modified(|anew| {
                    let any = !missing.is_empty();
                    missing.drain(..).for_each(|queue| *anew.entry(queue).or_default() += 1);
                    any
                });
            }
        };
        tokio::select! {
            () = work => {}
            () = connection::is_true(&mut closing) => {}
        }
    }
}

/// For an answer to come from the supervisor's thread.
const ASK_MARGIN: Duration = Duration::from_secs(1);
/// Before something missing is declared again.
const PAUSE: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where. `?heartbeat=<s>` in it changes when a silent broker counts as gone: after twice so long [default: 10].
    pub url: ServerUrl,
    /// For `amqps`.
    pub tls: TlsFiles,
    /// What RabbitMQ's management page calls the connections.
    pub name: String,
}

/// What the connections are like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Never connected, or not any more.
    Away {
        /// Since when.
        since: Instant,
        /// The last reason.
        why: String,
    },
    /// Connected, but the broker takes nothing from publishers (an alarm).
    Blocked {
        /// Since when.
        since: Instant,
        /// The broker's reason.
        why: String,
    },
    /// All is well.
    Connected {
        /// The server's version: `3.10.8`.
        version: String,
    },
}

/// What became of a published message that nobody was bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// It is published again, with back-off, until somebody is or the publisher closes.
    TryAgain,
    /// It is dropped and counts as safe: an event that nobody listens to.
    Drop,
}

/// What is in a queue by the broker's own word at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages ready to be delivered.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

impl Broker {
    /// Starts to connect, and to reconnect whenever that is needed.
    ///
    /// # Errors
    /// A certificate file can't be used, or no thread can be started. An absent broker is none: see [`Broker::wait`].
    pub fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        let no_thread = |error: std::io::Error| BrokerError::Unreachable {
            doing: "start what connects to the broker",
            url: config.url.to_string(),
            why: error.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let (publish, publish_links) = watch::channel(None);
        let (consume, consume_links) = watch::channel(None);
        let shared = Arc::new(Shared {
            uri: connection::uri(&config)?,
            tls: tls::connector(&config)?,
            config: config.clone(),
            runtime: runtime.handle().clone(),
            closing: watch::Sender::new(false),
            links: [publish_links, consume_links],
            topology: Mutex::default(),
            health: Mutex::new(Health::new()),
            changed: Condvar::new(),
            redeclare: Notify::new(),
            unanswered: AtomicBool::new(false),
            anew: watch::Sender::default(),
        });
        let supervised = shared.clone();
        let supervise = move || {
            runtime.block_on(async {
                tokio::join!(
                    connection::keep(supervised.clone(), Role::Publish, publish),
                    connection::keep(supervised.clone(), Role::Consume, consume),
                    supervised.clone().keep_declared(),
                );
            });
            // A thread of the library's panics, aloud, when what it waits for is cancelled: what is left of it waits for the end of the
            // program instead.
            std::mem::forget(runtime);
        };
        let thread = std::thread::Builder::new().name("broker".into()).spawn(supervise).map_err(no_thread)?;
        Ok(Broker { owner: Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Waits until it is connected, `limit` at most.
    ///
    /// # Errors
    /// Why it is not; at once where trying again is no use (wrong password).
    pub fn wait(&self, limit: Duration) -> Result<(), BrokerError> {
        let deadline = Instant::now() + limit;
        let mut health = self.shared().health();
        loop {
            if *self.shared().closing.borrow() {
                return Err(Closed.into());
            }
            if let Some((url, why)) = health.refused.clone() {
                return Err(BrokerError::Refused { url, why });
            }
            let why = match health.condition() {
                Condition::Away { why, .. } => why,
                _ => return Ok(()),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let url = self.shared().config.url.to_string();
                return Err(BrokerError::Unreachable { doing: "connect to the broker", url, why });
            }
            health = self.shared().changed.wait_timeout(health, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Where it is, without credentials when it is shown.
    pub fn url(&self) -> &ServerUrl {
        &self.shared().config.url
    }

    /// What the connections are like now.
    pub fn condition(&self) -> Condition {
        self.shared().health().condition()
    }

    /// Declares, now and after every reconnection, until [`Broker::delete_queues`] or [`Broker::forget`].
    ///
    /// # Errors
    /// The broker refuses, or is away for longer than `limit`.
    pub fn declare(&self, topology: Topology, limit: Duration) -> Result<(), BrokerError> {
        let (declared, shared) = (topology.clone(), self.shared().clone());
        self.ask("declare queues", limit, move |connection| {
            let (declared, version) = (declared.clone(), shared.version());
            async move { topology::declare(&connection, &declared, &version).await }
        })?;
        let mut all = self.shared().topology();
        if !all.contains(&topology) {
            all.push(topology);
        }
        Ok(())
    }

    /// No longer declares these queues after a reconnection.
    pub fn forget(&self, names: &[String]) {
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut all = self.shared().topology();
        for topology in all.iter_mut() {
            topology.queues.retain(|queue| !names.contains(queue.name.as_str()));
            topology.bindings.retain(|(queue, ..)| !names.contains(queue.as_str()));
        }
        all.retain(|topology| *topology != Topology::default());
    }

    /// No longer declares these queues after a reconnection, and deletes them.
    ///
    /// # Errors
    /// As [`Broker::declare`]. A queue that is not there is none.
    pub fn delete_queues(&self, names: &[String], limit: Duration) -> Result<(), BrokerError> {
        self.forget(names);
        let names = names.to_vec();
        self.ask("delete queues", limit, move |connection| {
            let names = names.clone();
            async move {
                let channel = connection.create_channel().await?;
                for name in &names {
                    // RabbitMQ deletes what is not there without a word.
                    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
                }
                channel.close(200, "OK".into()).await
            }
        })
    }

    /// Removes what is ready to be delivered; returns how many.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    pub fn purge(&self, queue: &str, limit: Duration) -> Result<u32, BrokerError> {
        let queue = queue.to_string();
        self.ask("empty a queue", limit, move |connection| {
            let queue = queue.clone();
            async move {
                let channel = connection.create_channel().await?;
                let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
                let _ = channel.close(200, "OK".into()).await;
                Ok(purged)
            }
        })
    }

    /// Removes up to `most` messages of which `is_ours` says so; all others are in their places afterwards. Returns how many it removed.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    pub fn withdraw(
        &self,
        queue: &str,
        most: usize,
        is_ours: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
        limit: Duration,
    ) -> Result<usize, BrokerError> {
        let (queue, is_ours) = (queue.to_string(), Arc::new(is_ours));
        self.ask("take messages back", limit, move |connection| {
            let (queue, is_ours) = (queue.clone(), is_ours.clone());
            async move {
                let channel = connection.create_channel().await?;
                let mut removed = 0;
                while removed < most {
                    let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
                    let Some(message) = got else { break };
                    if is_ours(&message.delivery.data) {
                        channel.basic_ack(message.delivery.delivery_tag, BasicAckOptions::default()).await?;
                        removed += 1;
                    }
                }
                // With the channel go back those that were only looked at.
                channel.close(200, "OK".into()).await?;
                Ok(removed)
            }
        })
    }

    /// What is in a queue. None: there is no such queue.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    pub fn depth(&self, queue: &str, limit: Duration) -> Result<Option<Depth>, BrokerError> {
        let name = queue.to_string();
        let depth = self.ask("look into a queue", limit, move |connection| {
            let name = name.clone();
            async move {
                let channel = connection.create_channel().await?;
                let options = QueueDeclareOptions { passive: true, ..Default::default() };
                match channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await {
                    Ok(queue) => {
                        let _ = channel.close(200, "OK".into()).await;
                        Ok(Some(Depth { ready: queue.message_count(), consumers: queue.consumer_count() }))
                    }
                    Err(error) if code(&error) == Some(NOT_FOUND) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        })?;
        if depth.is_none() {
            // If it is one of ours.
            self.shared().redeclare();
        }
        Ok(depth)
    }

    /// Does something on the consuming connection and waits for its result; does it again where a connection ends meanwhile.
    fn ask<T, F, R>(&self, doing: &'static str, limit: Duration, question: F) -> Result<T, BrokerError>
    where
        T: Send + 'static,
        F: Fn(Arc<lapin::Connection>) -> R + Send + Sync + 'static,
        R: Future<Output = lapin::Result<T>> + Send,
    {
        let shared = self.shared().clone();
        let deadline = Instant::now() + limit;
        let (answer, answered) = mpsc::sync_channel(1);
        let asking = async move {
            let mut links = shared.links(Role::Consume);
            loop {
                let Some(link) = connection::linked(&mut links).await else { return Err(BrokerError::Closed(Closed)) };
                match question(link.connection.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        let explained = shared.explain(doing, &error);
                        if matches!(explained, BrokerError::Refused { .. }) && link.connection.status().connected() {
                            return Err(explained);
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.shared().runtime.spawn(async move {
            if let Ok(result) = tokio::time::timeout(left, asking).await {
                let _ = answer.send(result);
            }
        });
        // The task keeps the limit; but one that was started when all was closed never runs.
        answered.recv_timeout(limit + ASK_MARGIN).unwrap_or_else(|_| {
            if *self.shared().closing.borrow() {
                return Err(Closed.into());
            }
            let why = match self.condition() {
                Condition::Away { why, .. } => why,
                _ => format!("no answer within {:.0} s", limit.as_secs_f64()),
            };
            Err(BrokerError::Unreachable { doing, url: self.shared().config.url.to_string(), why })
        })
    }

    /// A channel that publishes. At most `most_bytes` are unconfirmed; beyond, [`Publisher::publish`] waits.
    pub fn publisher(&self, unroutable: Unroutable, most_bytes: usize) -> Publisher {
        Publisher::start(self.shared(), unroutable, most_bytes)
    }

    /// A channel that consumes `queue`, again after every reconnection and cancellation, until it is dropped.
    pub fn consumer(&self, queue: &str, prefetch: u16) -> Consumer {
        Consumer::start(self.shared(), queue, prefetch)
    }

    /// Ends everything: waiting calls return [`Closed`]. What was not confirmed is not safe.
    pub fn close(&self) {
        self.owner.close();
    }
}

#[cfg(test)]
mod tests;
