//! What is published and received, and how AMQP writes it.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::text::cut;

/// Numbers our messages, so that a returned one is recognised.
const NUMBER: &str = "n";

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

/// A name as AMQP has them, 255 bytes at most. What is longer came from a stranger and names nothing of ours: cut, it reaches nobody either.
pub(super) fn short(text: &str) -> ShortString {
    cut(text, 255).into()
}

/// As they are published, with the number of the message.
pub(super) fn written(of: &Properties, number: u64) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(NUMBER.into(), AMQPValue::LongLongInt(number as i64));
    let mut all = BasicProperties::default().with_headers(headers);
    all = all.with_delivery_mode(if of.transient { 1 } else { 2 });
    if let Some(text) = &of.content_type {
        all = all.with_content_type(short(text));
    }
    if let Some(text) = &of.message_id {
        all = all.with_message_id(short(text));
    }
    if let Some(text) = &of.correlation_id {
        all = all.with_correlation_id(short(text));
    }
    if let Some(text) = &of.reply_to {
        all = all.with_reply_to(short(text));
    }
    if let Some(priority) = of.priority {
        all = all.with_priority(priority);
    }
    if let Some(expiration) = of.expiration {
        all = all.with_expiration(expiration.as_millis().to_string().into());
    }
    all
}

/// The number that [`written`] gave it.
pub(super) fn number(properties: &BasicProperties) -> Option<u64> {
    match properties.headers().as_ref()?.inner().get(NUMBER)? {
        AMQPValue::LongLongInt(number) => Some(*number as u64),
        _ => None,
    }
}

/// As they were received.
pub(super) fn read(of: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    Properties {
        content_type: text(of.content_type()),
        message_id: text(of.message_id()),
        correlation_id: text(of.correlation_id()),
        reply_to: text(of.reply_to()),
        priority: *of.priority(),
        expiration: of.expiration().as_ref().and_then(|ms| ms.as_str().parse().ok()).map(Duration::from_millis),
        transient: *of.delivery_mode() == Some(1),
    }
}
