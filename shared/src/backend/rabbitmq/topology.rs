//! What the program declared, and declares again on every connection: nothing is believed to be there.

use std::time::Duration;

use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind};

use tokio::time::timeout;

use super::connection::ANSWER;
use super::{Shared, version};
use crate::fleet::names;

/// A queue that gives no answer for so long, after somebody waited in vain for [`ANSWER`], has nobody who could give one.
const PROBE: Duration = Duration::from_secs(10);
/// The broker tries to reach the queue's members before it removes it by force.
const DELETE: Duration = Duration::from_secs(60);

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

/// Declares everything that was declared so far.
pub(super) async fn declare_all(shared: &Shared, connection: &Connection) -> lapin::Result<()> {
    let all = shared.topology().clone();
    let version = shared.version();
    let mut first = Ok(());
    for topology in &all {
        let done = declare(connection, topology, &version).await;
        if !connection.status().connected() {
            return done;
        }
        first = first.and(done);
    }
    first
}

/// Those of the queues declared so far that are not there.
pub(super) async fn missing(shared: &Shared, connection: &Connection) -> Vec<String> {
    let all = shared.topology().clone();
    let mut missing = Vec::new();
    for queue in all.iter().flat_map(|topology| &topology.queues) {
        let asking = async {
            // Of its own: that there is none closes it.
            let channel = connection.create_channel().await?;
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            channel.queue_declare(queue.name.as_str().into(), options, FieldTable::default()).await?;
            channel.close(200, "OK".into()).await
        };
        if let Ok(Err(error)) = timeout(ANSWER, asking).await
            && code(&error) == Some(NOT_FOUND)
        {
            missing.push(queue.name.clone());
        }
    }
    missing
}

/// Removes those of a job's queues declared so far that are there and answer nothing; returns their names.
///
/// A broker that is killed within a second or so of a quorum queue's declaration comes back with a queue that has lost its log and never elects a
/// leader (measured with 3.10: it has forgotten under which name its log was written). Nothing in it can be saved, and whoever uses it waits
/// for ever. What a job had there is made again from its ledger; queues that outlive jobs hold what can't be, and are left alone.
pub(super) async fn remove_dead(shared: &Shared, connection: &Connection) -> Vec<String> {
    let all = shared.topology().clone();
    let of_jobs = |queue: &&Queue| matches!(queue.kind, QueueKind::Quorum { expires: Some(_), .. });
    let mut removed = Vec::new();
    for queue in all.iter().flat_map(|topology| &topology.queues).filter(of_jobs) {
        let ask = || async {
            let channel = connection.create_channel().await?;
            channel.basic_get(queue.name.as_str().into(), BasicGetOptions::default()).await?;
            // What came goes back with the channel.
            channel.close(200, "OK".into()).await
        };
        // Twice: where this program was stopped meanwhile, the first time says nothing about the queue.
        if timeout(PROBE, ask()).await.is_ok() || timeout(PROBE, ask()).await.is_ok() {
            continue;
        }
        let deleting = async {
            let channel = connection.create_channel().await?;
            channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await?;
            channel.close(200, "OK".into()).await
        };
        if let Ok(Ok(())) = timeout(DELETE, deleting).await {
            shared.note(format!("the queue {} answered nothing and was made anew", queue.name));
            removed.push(queue.name.clone());
        }
    }
    removed
}

/// Declares, on a channel of its own: a refusal closes it.
pub(super) async fn declare(connection: &Connection, topology: &Topology, version: &str) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    for (name, kind) in &topology.exchanges {
        let kind = match kind {
            ExchangeKind::Direct => lapin::ExchangeKind::Direct,
            ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
            ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        };
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default()).await?;
    }
    for queue in &topology.queues {
        declare_queue(&channel, queue, version).await?;
    }
    for (queue, exchange, key) in &topology.bindings {
        channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    let _ = channel.close(200, "OK".into()).await;
    Ok(())
}

async fn declare_queue(channel: &Channel, queue: &Queue, version: &str) -> lapin::Result<()> {
    let exclusive = queue.kind == QueueKind::Exclusive;
    let options = QueueDeclareOptions { durable: !exclusive, exclusive, ..Default::default() };
    let mut arguments = arguments(queue);
    // RabbitMQ 4 drops a message that was redelivered 20 times unless it is told not to. Older ones have no such limit by default, and take
    // this as one that the first redelivery passes.
    if matches!(queue.kind, QueueKind::Quorum { .. }) && version::is_at_least(version, 4) {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    channel.queue_declare(queue.name.as_str().into(), options, arguments).await?;
    Ok(())
}

fn arguments(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |key: &str, value: AMQPValue| {
        table.insert(key.into(), value);
    };
    let text = |value: &str| AMQPValue::LongString(value.into());
    let number = |value: u64| AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX));
    match &queue.kind {
        QueueKind::Quorum { expires, max_bytes, max_length, message_ttl } => {
            put("x-queue-type", text("quorum"));
            if queue.name != names::DEAD {
                put("x-dead-letter-exchange", text(names::DEAD));
            }
            if let Some(expires) = expires {
                put("x-expires", number(expires.as_millis() as u64));
            }
            if let Some(bytes) = max_bytes {
                put("x-max-length-bytes", number(*bytes));
                put("x-overflow", text("reject-publish"));
            }
            if let Some(length) = max_length {
                put("x-max-length", number(u64::from(*length)));
            }
            if let Some(ttl) = message_ttl {
                put("x-message-ttl", number(ttl.as_millis() as u64));
            }
        }
        QueueKind::Priority => {
            put("x-max-priority", number(10));
        }
        QueueKind::Exclusive => {}
    }
    table
}

pub(super) const NOT_FOUND: u16 = 404;

/// The broker's code for a refusal.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
