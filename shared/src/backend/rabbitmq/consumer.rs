//! Consumes one queue, again whenever its consumer ended for whatever reason, and settles what was received with the channel that
//! delivered it: a delivery of an earlier channel is the broker's again, and settling it is nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Shared;
use super::connection::{ANSWER, Link, Role, is_true, linked};
use super::message::{self, Properties};
use super::publisher::gone;
use super::topology::{NOT_FOUND, code};
use super::unsettled::{Fate, Unsettled};
use crate::backend::{Closed, Settled};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Receives from one queue.
pub struct Consumer {
    inbox: Arc<Inbox>,
}

/// A message as received. Settled once; dropped, it is requeued.
pub struct Received {
    /// What it says.
    pub body: Vec<u8>,
    /// Its headers.
    pub properties: Properties,
    /// The broker delivered it before.
    pub redelivered: bool,
    handle: Handle,
}

/// Settles one delivery.
struct Handle {
    epoch: u64,
    tag: u64,
    settles: mpsc::UnboundedSender<Settle>,
    settled: bool,
}

struct Settle {
    epoch: u64,
    tag: u64,
    how: Settled,
}

impl Handle {
    fn settle(&mut self, how: Settled) {
        if !std::mem::replace(&mut self.settled, true) {
            // The consumer is gone: the message went back with its channel.
            let _ = self.settles.send(Settle { epoch: self.epoch, tag: self.tag, how });
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.settle(Settled::Requeued);
    }
}

impl Received {
    /// It is done with.
    pub fn ack(mut self) {
        self.handle.settle(Settled::Acked);
    }

    /// Somebody else should have it.
    pub fn requeue(mut self) {
        self.handle.settle(Settled::Requeued);
    }

    /// Nobody can use it: to the dead letters.
    pub fn reject(mut self) {
        self.handle.settle(Settled::Rejected);
    }
}

/// What receivers and the consuming task share.
struct Inbox {
    state: Mutex<State>,
    came: Condvar,
    wanted: watch::Sender<Wanted>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Received>,
    /// Nothing more will come.
    ended: bool,
    missing_since: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    prefetch: u16,
    cancelled: bool,
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.came.notify_all();
    }
}

impl Consumer {
    pub(super) fn start(shared: &Arc<Shared>, queue: &str, prefetch: u16) -> Consumer {
        let wanted = watch::Sender::new(Wanted { prefetch, cancelled: false, closed: false });
        let inbox = Arc::new(Inbox { state: Mutex::default(), came: Condvar::new(), wanted });
        let (settles, settled) = mpsc::unbounded_channel();
        let task = Task {
            shared: shared.clone(),
            inbox: inbox.clone(),
            queue: queue.to_string(),
            settles,
            settled,
            unsettled: Unsettled::default(),
            epoch: 0,
            tags: 0,
        };
        shared.runtime.spawn(task.run());
        Consumer { inbox }
    }

    /// Takes up to `max` messages, waiting at most `wait` for the first.
    ///
    /// # Errors
    /// The broker or this consumer is closed, and nothing is left.
    pub fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Closed> {
        let deadline = Instant::now() + wait;
        let mut state = self.inbox.lock();
        while state.messages.is_empty() && !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            state = self.inbox.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.messages.is_empty() {
            return Err(Closed);
        }
        let count = max.min(state.messages.len());
        Ok(state.messages.drain(..count).collect())
    }

    /// Since when the broker has said that there is no such queue, if it says so.
    pub fn missing_since(&self) -> Option<Instant> {
        self.inbox.lock().missing_since
    }

    /// Lets the broker send so many unsettled messages ahead (its consumer is replaced by another one). 0: none.
    pub fn set_prefetch(&self, prefetch: u16) {
        self.inbox.wanted.send_if_modified(|wanted| std::mem::replace(&mut wanted.prefetch, prefetch) != prefetch);
    }

    /// No more is delivered; what was delivered can still be received and settled.
    pub fn cancel(&self) {
        self.inbox.wanted.send_modify(|wanted| wanted.cancelled = true);
    }

    /// Wakes who waits; what is not settled goes back.
    pub fn close(&self) {
        self.inbox.wanted.send_modify(|wanted| wanted.closed = true);
        let left = {
            let mut state = self.inbox.lock();
            state.ended = true;
            std::mem::take(&mut state.messages)
        };
        drop(left);
        self.inbox.came.notify_all();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a channel is used no longer.
enum Ended {
    Link,
    /// The broker ended it: try again after a pause.
    Channel,
    Missing,
    Closed,
}

struct Task {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    queue: String,
    settles: mpsc::UnboundedSender<Settle>,
    settled: mpsc::UnboundedReceiver<Settle>,
    unsettled: Unsettled,
    /// Of the channel, not of the connection.
    epoch: u64,
    tags: u64,
}

impl Task {
    async fn run(mut self) {
        let mut links = self.shared.links(Role::Consume);
        let mut closing = self.shared.closing.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let link = tokio::select! {
                biased;
                () = self.closed() => None,
                () = is_true(&mut closing) => None,
                link = linked(&mut links) => link,
            };
            let Some(link) = link else { break };
            let started = Instant::now();
            let ended = self.serve(&link).await;
            self.forget_deliveries();
            if started.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            match ended {
                Ended::Closed => break,
                Ended::Link | Ended::Channel => {}
                Ended::Missing => {
                    self.inbox.lock().missing_since.get_or_insert_with(Instant::now);
                    self.shared.redeclare();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closed() => {}
                () = is_true(&mut closing) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.inbox.end();
    }

    async fn closed(&self) {
        let _ = self.inbox.wanted.subscribe().wait_for(|wanted| wanted.closed).await;
    }

    /// What the last channel delivered and nobody has received is the broker's again.
    fn forget_deliveries(&mut self) {
        self.epoch += 1;
        self.unsettled = Unsettled::default();
        let stale = std::mem::take(&mut self.inbox.lock().messages);
        drop(stale);
    }

    async fn serve(&mut self, link: &Link) -> Ended {
        let mut wanted = self.inbox.wanted.subscribe();
        let mut closing = self.shared.closing.subscribe();
        let mut links = self.shared.links(Role::Consume);
        let mut anew = self.shared.anew.subscribe();
        let seen = times(&anew.borrow(), &self.queue);
        let Ok(Ok(channel)) = timeout(ANSWER, link.connection.create_channel()).await else { return Ended::Link };
        let mut now = *wanted.borrow_and_update();
        if now.closed {
            // Meanwhile: nothing would say so once more.
            let _ = timeout(ANSWER, channel.close(200, "OK".into())).await;
            return Ended::Closed;
        }
        if now.cancelled {
            self.inbox.end();
        }
        let mut stream = match self.consume(&channel, now, None).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        loop {
            tokio::select! {
                biased;
                () = is_true(&mut closing) => {
                    let _ = self.settle(&channel, None).await;
                    return Ended::Closed;
                }
                settle = self.settled.recv() => {
                    if self.settle(&channel, settle).await.is_err() {
                        return Ended::Channel;
                    }
                }
                _ = wanted.changed() => {
                    let then = *wanted.borrow_and_update();
                    if then.closed {
                        let _ = self.settle(&channel, None).await;
                        let _ = timeout(ANSWER, channel.close(200, "OK".into())).await;
                        return Ended::Closed;
                    }
                    stream = match self.consume(&channel, then, stream).await {
                        Ok(stream) => stream,
                        Err(ended) => return ended,
                    };
                    if then.cancelled && !now.cancelled {
                        // What was delivered is in the inbox; nothing follows it.
                        self.inbox.end();
                    }
                    now = then;
                }
                delivery = next(&mut stream) => {
                    let whole = match delivery {
                        Some(Ok(delivery)) => self.deliver(delivery, stream.as_mut()),
                        Some(Err(_)) | None => false,
                    };
                    // A stream that just ends is a consumer that the broker cancelled: the queue is gone.
                    if !whole {
                        return Ended::Channel;
                    }
                }
                gone = gone(&mut links, link.epoch) => if gone { return Ended::Link },
                // Another queue of the same name than the one that we consume.
                () = more(&mut anew, &self.queue, seen) => {
                    let _ = timeout(ANSWER, channel.close(200, "OK".into())).await;
                    return Ended::Channel;
                }
            }
        }
    }

    /// Replaces the consumer: the new one first, so that the queue never looks unused.
    async fn consume(
        &mut self,
        channel: &Channel,
        wanted: Wanted,
        old: Option<lapin::Consumer>,
    ) -> Result<Option<lapin::Consumer>, Ended> {
        let mut new = None;
        if wanted.prefetch > 0 && !wanted.cancelled {
            self.tags += 1;
            let tag = format!("{}-{}", self.epoch, self.tags);
            let consume = async {
                channel.basic_qos(wanted.prefetch, BasicQosOptions::default()).await?;
                let queue = self.queue.as_str().into();
                let options = BasicConsumeOptions::default();
                channel.basic_consume(queue, tag.as_str().into(), options, FieldTable::default()).await
            };
            match timeout(ANSWER, consume).await {
                Ok(Ok(consumer)) => new = Some(consumer),
                Ok(Err(error)) if code(&error) == Some(NOT_FOUND) => return Err(Ended::Missing),
                Ok(Err(error)) => {
                    self.shared.note(error.to_string());
                    return Err(Ended::Channel);
                }
                Err(_) => {
                    self.shared.not_answered();
                    return Err(Ended::Channel);
                }
            }
            self.inbox.lock().missing_since = None;
        }
        if let Some(mut old) = old {
            let cancel = channel.basic_cancel(old.tag(), BasicCancelOptions::default());
            match timeout(ANSWER, cancel).await {
                Ok(Ok(())) => {}
                _ => return Err(Ended::Channel),
            }
            // What the broker sent before it heard is ours.
            while let Some(delivery) = old.next().await {
                match delivery {
                    Ok(delivery) => {
                        self.deliver(delivery, None);
                    }
                    Err(_) => return Err(Ended::Channel),
                }
            }
        }
        Ok(new)
    }

    /// Puts a delivery, and what came with it, into the inbox. False: the stream ended meanwhile.
    fn deliver(&mut self, first: Delivery, more: Option<&mut lapin::Consumer>) -> bool {
        let mut came = vec![self.received(first)];
        let mut whole = true;
        if let Some(consumer) = more {
            while let Some(next) = consumer.next().now_or_never() {
                match next {
                    Some(Ok(delivery)) => came.push(self.received(delivery)),
                    Some(Err(_)) | None => {
                        whole = false;
                        break;
                    }
                }
            }
        }
        let mut state = self.inbox.lock();
        if state.ended {
            // Dropped outside of the lock: it goes back.
            drop(state);
            return whole;
        }
        state.messages.extend(came);
        drop(state);
        self.inbox.came.notify_all();
        whole
    }

    fn received(&mut self, delivery: Delivery) -> Received {
        self.unsettled.delivered(delivery.delivery_tag);
        Received {
            body: delivery.data,
            properties: message::read(&delivery.properties),
            redelivered: delivery.redelivered,
            handle: Handle {
                epoch: self.epoch,
                tag: delivery.delivery_tag,
                settles: self.settles.clone(),
                settled: false,
            },
        }
    }

    /// Tells the broker all that was settled meanwhile.
    async fn settle(&mut self, channel: &Channel, first: Option<Settle>) -> lapin::Result<()> {
        let mut acked = Vec::new();
        let mut back = Vec::new();
        let mut next = first.or_else(|| self.settled.try_recv().ok());
        while let Some(settle) = next {
            if settle.epoch == self.epoch
                && let Some(fate) = self.unsettled.get(settle.tag)
                && *fate == Fate::Open
            {
                match settle.how {
                    Settled::Acked => {
                        *fate = Fate::Acked;
                        acked.push(settle.tag);
                    }
                    how => {
                        *fate = Fate::Done;
                        back.push((settle.tag, how));
                    }
                }
            }
            next = self.settled.try_recv().ok();
        }
        let say = async {
            for (tag, how) in back {
                match how {
                    Settled::Rejected => channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await?,
                    _ => channel.basic_nack(tag, BasicNackOptions { requeue: true, multiple: false }).await?,
                }
            }
            for (tag, multiple) in self.unsettled.acks(&acked) {
                channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
            }
            Ok(())
        };
        match timeout(ANSWER, say).await {
            Ok(said) => said,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

/// How often a queue was declared anew.
fn times(anew: &HashMap<String, u64>, queue: &str) -> u64 {
    anew.get(queue).copied().unwrap_or(0)
}

/// Waits until it was so more often.
async fn more(anew: &mut watch::Receiver<HashMap<String, u64>>, queue: &str, seen: u64) {
    let _ = anew.wait_for(|anew| times(anew, queue) > seen).await;
}

/// The next delivery; for ever nothing without a consumer.
async fn next(stream: &mut Option<lapin::Consumer>) -> Option<lapin::Result<Delivery>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
