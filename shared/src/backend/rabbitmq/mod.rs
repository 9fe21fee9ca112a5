//! RabbitMQ, and the only place that names its client library: one supervisor keeps two connections (one publishes, one consumes), and
//! whatever was declared, consumed and not yet confirmed is so again after every reconnection.
//!
//! Everything here is a blocking call; the supervisor's thread has the runtime.

use std::time::{Duration, Instant};

use super::{Closed, OnSafe};
use crate::fleet::config::{ServerUrl, TlsFiles};

/// The connections of one program. Clones share them; the last one dropped closes them.
#[derive(Clone)]
pub struct Broker {}

/// How to connect.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where.
    pub url: ServerUrl,
    /// For `amqps`.
    pub tls: TlsFiles,
    /// What RabbitMQ's management page calls the connections.
    pub name: String,
}

/// Why the broker can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It does not answer, or closes the connection.
    #[error("cannot {doing} at {url}: {why}")]
    Unreachable {
        /// What was tried: `connect to the broker`.
        doing: &'static str,
        /// Where, without credentials.
        url: String,
        /// The library's reason.
        why: String,
    },
    /// It refuses our user or password, the virtual host, or an operation.
    #[error("the broker at {url} refuses: {why}")]
    Refused {
        /// Where, without credentials.
        url: String,
        /// The broker's words.
        why: String,
    },
    /// A certificate file can't be read, or is none.
    #[error("cannot use `{}` for TLS: {why}", path.display())]
    Tls {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// [`Broker::close`] was called.
    #[error(transparent)]
    Closed(#[from] Closed),
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

/// Exchanges, queues and bindings, in the order in which they are declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Name and kind.
    pub exchanges: Vec<(String, ExchangeKind)>,
    /// What to declare.
    pub queues: Vec<Queue>,
    /// Queue, exchange, routing key.
    pub bindings: Vec<(String, String, String)>,
}

/// See [`Topology`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By equal routing key.
    Direct,
    /// To every queue bound.
    Fanout,
    /// By pattern.
    Topic,
}

/// A queue. Arguments that only some versions of the server know are chosen by its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: QueueKind,
}

/// See [`Queue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Quorum, no delivery limit, rejected messages go to `fanfold.dead`; gone when unused for `expires`.
    Quorum {
        /// None: stays for ever.
        expires: Option<Duration>,
        /// Beyond so many bytes publishes are refused, and tried again by the publisher.
        max_bytes: Option<u64>,
        /// Messages beyond so many: the oldest are dropped.
        max_length: Option<u32>,
        /// Messages older than this are dropped.
        message_ttl: Option<Duration>,
    },
    /// Classic, durable, with priorities 0 to 10.
    Priority,
    /// This connection's alone, gone with it.
    Exclusive,
}

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange; empty: the default one, and the routing key is the queue's name.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// What it says.
    pub body: Vec<u8>,
    /// Its headers.
    pub properties: Properties,
}

/// Of a message, as published or as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// `application/json`, `application/msgpack`.
    pub content_type: Option<String>,
    /// Who asks chooses it.
    pub message_id: Option<String>,
    /// Comes back in the answer.
    pub correlation_id: Option<String>,
    /// The queue for the answer.
    pub reply_to: Option<String>,
    /// 0 to 10.
    pub priority: Option<u8>,
    /// The message is dropped after so long in a queue.
    pub expiration: Option<Duration>,
    /// Not kept through a restart of the broker.
    pub transient: bool,
}

/// What became of a published message that nobody was bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// It is published again, with back-off, until somebody is or the publisher closes.
    TryAgain,
    /// It is dropped and counts as safe: an event that nobody listens to.
    Drop,
}

/// Publishes with confirms, many messages under way, bounded.
pub struct Publisher {}

/// Receives from one queue.
pub struct Consumer {}

/// A message as received. Settled once; dropped, it is requeued.
pub struct Received {
    /// What it says.
    pub body: Vec<u8>,
    /// Its headers.
    pub properties: Properties,
    /// The broker delivered it before.
    pub redelivered: bool,
}

/// What is in a queue by the broker's own word at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages ready to be delivered.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

#[expect(unused_variables, reason = "interfaces first")]
impl Broker {
    /// Starts to connect, and to reconnect whenever that is needed.
    ///
    /// # Errors
    /// A certificate file can't be used, or no thread can be started. An absent broker is none: see [`Broker::wait`].
    pub fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        unimplemented!()
    }

    /// Waits until it is connected, `limit` at most.
    ///
    /// # Errors
    /// Why it is not; at once where trying again is no use (wrong password).
    pub fn wait(&self, limit: Duration) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// What the connections are like now.
    pub fn condition(&self) -> Condition {
        unimplemented!()
    }

    /// Declares, now and after every reconnection, until [`Broker::delete_queues`] or [`Broker::forget`].
    ///
    /// # Errors
    /// The broker refuses, or is away for longer than `limit`.
    pub fn declare(&self, topology: Topology, limit: Duration) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// No longer declares these queues after a reconnection, and deletes them.
    ///
    /// # Errors
    /// As [`Broker::declare`]. A queue that is not there is none.
    pub fn delete_queues(&self, names: &[String], limit: Duration) -> Result<(), BrokerError> {
        unimplemented!()
    }

    /// Removes what is ready to be delivered; returns how many.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    pub fn purge(&self, queue: &str, limit: Duration) -> Result<u32, BrokerError> {
        unimplemented!()
    }

    /// What is in a queue. None: there is no such queue.
    ///
    /// # Errors
    /// As [`Broker::declare`].
    pub fn depth(&self, queue: &str, limit: Duration) -> Result<Option<Depth>, BrokerError> {
        unimplemented!()
    }

    /// A channel that publishes. At most `most_bytes` are unconfirmed; beyond, [`Publisher::publish`] waits.
    pub fn publisher(&self, unroutable: Unroutable, most_bytes: usize) -> Publisher {
        unimplemented!()
    }

    /// A channel that consumes `queue`, again after every reconnection and cancellation, until it is dropped.
    pub fn consumer(&self, queue: &str, prefetch: u16) -> Consumer {
        unimplemented!()
    }

    /// Ends everything: waiting calls return [`Closed`]. What was not confirmed is not safe.
    pub fn close(&self) {
        unimplemented!()
    }
}

#[expect(unused_variables, reason = "interfaces first")]
impl Publisher {
    /// Publishes messages, in order as long as the connection lives; `safe` is called when all are confirmed.
    ///
    /// # Errors
    /// The broker or this publisher is closed.
    pub fn publish(&self, messages: Vec<Outgoing>, safe: OnSafe) -> Result<(), Closed> {
        unimplemented!()
    }

    /// Publishes messages and waits until they are confirmed, `limit` at most. False: they may be there or not.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish_and_wait(&self, messages: Vec<Outgoing>, limit: Duration) -> Result<bool, Closed> {
        unimplemented!()
    }

    /// Since when messages have been coming back because nobody is bound for them, if they do.
    pub fn unroutable_since(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Waits no longer, takes nothing more.
    pub fn close(&self) {
        unimplemented!()
    }
}

#[expect(unused_variables, reason = "interfaces first")]
impl Consumer {
    /// Takes up to `max` messages, waiting at most `wait` for the first.
    ///
    /// # Errors
    /// The broker or this consumer is closed, and nothing is left.
    pub fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Closed> {
        unimplemented!()
    }

    /// Since when the broker has said that there is no such queue, if it says so.
    pub fn missing_since(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Lets the broker send so many unsettled messages ahead (its consumer is replaced by another one).
    pub fn set_prefetch(&self, prefetch: u16) {
        unimplemented!()
    }

    /// No more is delivered; what was delivered can still be received and settled.
    pub fn cancel(&self) {
        unimplemented!()
    }

    /// Wakes who waits; what is not settled goes back.
    pub fn close(&self) {
        unimplemented!()
    }
}

impl Received {
    /// It is done with.
    pub fn ack(self) {
        unimplemented!()
    }

    /// Somebody else should have it.
    pub fn requeue(self) {
        unimplemented!()
    }

    /// Nobody can use it: to the dead letters.
    pub fn reject(self) {
        unimplemented!()
    }
}
