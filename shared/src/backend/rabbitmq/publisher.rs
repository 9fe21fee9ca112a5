//! Publishes with confirms: callers queue what they have, one task publishes it, many messages under way, and says when each caller's are
//! safe. What a connection took into its grave is published again on the next one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::connection::{ANSWER, Link, is_true, linked};
use super::message::{self, Outgoing};
use super::{Shared, Unroutable};
use crate::backend::{Closed, OnSafe};

/// A broker that confirms nothing for so long, and has no alarm, will not confirm these on this channel.
const OVERDUE: Duration = Duration::from_secs(30);
/// A timer that rings so late says that this program did not run meanwhile.
const LATE: Duration = Duration::from_secs(1);
/// Messages without a confirm, at most.
const MOST_UNCONFIRMED: usize = 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After the publisher was closed or dropped, what it accepted is still published, for so long; once, as nobody waits for a broker that
/// refuses it.
const LINGER: Duration = Duration::from_secs(30);
/// Publishes with confirms, many messages under way, bounded.
pub struct Publisher {
    desk: Arc<Desk>,
    queue: mpsc::UnboundedSender<Pending>,
}

/// What callers and the publishing task share.
struct Desk {
    state: Mutex<State>,
    room: Condvar,
    most_bytes: usize,
    closing: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// Of messages that are not confirmed.
    bytes: usize,
    closed: bool,
    unroutable_since: Option<Instant>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
        self.closing.send_replace(true);
    }
}

/// The messages of one call: when the last is confirmed, the caller is told.
struct Group {
    left: AtomicUsize,
    safe: Mutex<Option<OnSafe>>,
}

/// A message that is not confirmed.
struct Pending {
    message: Outgoing,
    group: Arc<Group>,
    tries: u32,
}

impl Pending {
    fn weight(&self) -> usize {
        weight(&self.message)
    }
}

fn weight(message: &Outgoing) -> usize {
    message.body.len() + 128
}

impl Publisher {
    pub(super) fn start(shared: &Arc<Shared>, unroutable: Unroutable, most_bytes: usize) -> Publisher {
        let (queue, waiting) = mpsc::unbounded_channel();
        let closed = shared.closing.subscribe();
        let closing = watch::Sender::new(false);
        let desk = Arc::new(Desk { state: Mutex::default(), room: Condvar::new(), most_bytes, closing });
        if *closed.borrow() {
            desk.close();
        }
        let task = Task {
            shared: shared.clone(),
            desk: desk.clone(),
            unroutable,
            waiting,
            ready: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            later: Vec::new(),
            window: MOST_UNCONFIRMED,
            number: 0,
        };
        shared.runtime.spawn(task.run());
        Publisher { desk, queue }
    }

    /// Publishes messages, in order as long as the connection lives; `safe` is called when all are confirmed.
    ///
    /// # Errors
    /// The broker or this publisher is closed.
    pub fn publish(&self, messages: Vec<Outgoing>, safe: OnSafe) -> Result<(), Closed> {
        if messages.is_empty() {
            if self.desk.lock().closed {
                return Err(Closed);
            }
            safe();
            return Ok(());
        }
        let group = Arc::new(Group { left: AtomicUsize::new(messages.len()), safe: Mutex::new(Some(safe)) });
        for message in messages {
            let weight = weight(&message);
            let mut state = self.desk.lock();
            // One message always goes, however large it is.
            while !state.closed && state.bytes > 0 && state.bytes + weight > self.desk.most_bytes {
                state = self.desk.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return Err(Closed);
            }
            state.bytes += weight;
            // Under the lock, so that two callers' messages keep the order in which they were let in.
            self.queue.send(Pending { message, group: group.clone(), tries: 0 }).map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Publishes messages and waits until they are confirmed, `limit` at most. False: they may be there or not.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn publish_and_wait(&self, messages: Vec<Outgoing>, limit: Duration) -> Result<bool, Closed> {
        let (sent, safe) = std_mpsc::sync_channel(1);
        self.publish(
            messages,
            Box::new(move || {
                // Who waited may have given up.
                let _ = sent.send(());
            }),
        )?;
        match safe.recv_timeout(limit) {
            Ok(()) => Ok(true),
            Err(std_mpsc::RecvTimeoutError::Timeout) => Ok(false),
            Err(std_mpsc::RecvTimeoutError::Disconnected) => Err(Closed),
        }
    }

    /// Since when messages have been coming back because nobody is bound for them, if they do.
    pub fn unroutable_since(&self) -> Option<Instant> {
        self.desk.lock().unroutable_since
    }

    /// Waits no longer, takes nothing more. What was taken is still published for a while, unless the broker refuses it or nobody is bound
    /// for it.
    pub fn close(&self) {
        self.desk.close();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a channel is used no longer.
enum Ended {
    /// Another connection is needed.
    Link,
    /// The broker lives and confirms nothing: another channel, and perhaps another queue.
    Unanswered,
    /// Everything is done.
    Closed,
}

struct InFlight {
    pending: Pending,
    /// When it went out, or could first be confirmed.
    since: Instant,
    number: u64,
    confirm: PublisherConfirm,
    result: Option<lapin::Result<Confirmation>>,
    returned: bool,
}

struct Task {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    unroutable: Unroutable,
    waiting: mpsc::UnboundedReceiver<Pending>,
    /// To be published now, in order.
    ready: VecDeque<Pending>,
    unconfirmed: VecDeque<InFlight>,
    /// To be published again when their time has come.
    later: Vec<(Instant, Pending)>,
    /// Messages that may be unconfirmed: small after the broker refused some, until it takes them again.
    window: usize,
    number: u64,
}

impl Task {
    async fn run(mut self) {
        let mut links = self.shared.links(super::connection::Role::Publish);
        let (closing, mut closed) = (self.desk.closing.subscribe(), self.desk.closing.subscribe());
        let mut broker_closing = self.shared.closing.subscribe();
        let work = async {
            let mut pause = FIRST_PAUSE;
            while let Some(link) = linked(&mut links).await {
                let started = Instant::now();
                let ended = self.serve(&link).await;
                if let Ended::Closed = ended {
                    return;
                }
                self.again();
                if started.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                if let Ended::Unanswered = ended {
                    self.shared.not_answered();
                } else if link.connection.status().connected() {
                    // The channel alone ended: there is no such exchange or queue, or we may not publish to it.
                    self.desk.lock().unroutable_since.get_or_insert_with(Instant::now);
                    if *closing.borrow() {
                        return;
                    }
                    self.shared.redeclare();
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let expired = async {
            is_true(&mut closed).await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = work => {}
            () = expired => {}
            () = is_true(&mut broker_closing) => {}
        }
        // Wakes who waits; the callers' `safe` are dropped uncalled.
        self.desk.close();
    }

    /// What was under way with a channel that is gone is published again, before anything else.
    fn again(&mut self) {
        while let Some(flight) = self.unconfirmed.pop_back() {
            self.ready.push_front(flight.pending);
        }
    }

    async fn serve(&mut self, link: &Link) -> Ended {
        let opened = async {
            let channel = link.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel = match timeout(ANSWER, opened).await {
            Ok(Ok(channel)) => channel,
            _ => return Ended::Link,
        };
        let mut blocked = link.blocked.clone();
        let mut links = self.shared.links(super::connection::Role::Publish);
        let mut closing = self.desk.closing.subscribe();
        let mut was_blocked = false;
        loop {
            while let Ok(pending) = self.waiting.try_recv() {
                self.ready.push_back(pending);
            }
            self.due();
            let is_blocked = *blocked.borrow_and_update();
            if was_blocked && !is_blocked {
                self.not_overdue();
            }
            was_blocked = is_blocked;
            while !is_blocked && self.unconfirmed.len() < self.window {
                let Some(pending) = self.ready.pop_front() else { break };
                if let Err(pending) = self.send(&channel, pending).await {
                    self.ready.push_front(pending);
                    return Ended::Link;
                }
            }
            if *closing.borrow() {
                std::mem::take(&mut self.later).iter().for_each(|(_, pending)| self.done(pending));
                if self.is_done() {
                    return Ended::Closed;
                }
            }
            let next_due = self.later.iter().map(|(due, _)| *due).min();
            let overdue = self.unconfirmed.front().filter(|_| !is_blocked).map(|front| front.since + OVERDUE);
            let front = self.unconfirmed.front_mut();
            tokio::select! {
                pending = self.waiting.recv() => match pending {
                    Some(pending) => self.ready.push_back(pending),
                    None if self.is_done() => return Ended::Closed,
                    // Dropped: the channel yields nothing more, but confirms still come.
                    None => {
                        if self.wait_without_callers(&mut blocked, &mut links, link.epoch).await {
                            return Ended::Link;
                        }
                    }
                },
                () = confirmed(front) => {}
                _ = blocked.changed() => {}
                gone = gone(&mut links, link.epoch) => if gone { return Ended::Link },
                () = until(next_due) => {}
                _ = closing.changed() => {}
                () = until(overdue) => match overdue {
                    Some(overdue) if overdue.elapsed() < LATE => return Ended::Unanswered,
                    _ => self.not_overdue(),
                },
            }
            if self.settle(&channel).is_err() {
                return Ended::Link;
            }
        }
    }

    /// True: the link is gone.
    async fn wait_without_callers(
        &mut self,
        blocked: &mut watch::Receiver<bool>,
        links: &mut super::connection::Links,
        epoch: u64,
    ) -> bool {
        let next_due = self.later.iter().map(|(due, _)| *due).min();
        tokio::select! {
            () = confirmed(self.unconfirmed.front_mut()) => false,
            _ = blocked.changed() => false,
            gone = gone(links, epoch) => gone,
            () = until(next_due) => false,
        }
    }

    /// Time in which nothing could be confirmed does not count.
    fn not_overdue(&mut self) {
        let now = Instant::now();
        self.unconfirmed.iter_mut().for_each(|flight| flight.since = now);
    }

    fn is_done(&self) -> bool {
        self.ready.is_empty() && self.unconfirmed.is_empty() && self.later.is_empty() && self.waiting.is_empty()
    }

    /// What waited long enough comes first: it is older.
    fn due(&mut self) {
        if self.later.is_empty() {
            return;
        }
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, pending) in due.into_iter().rev() {
            self.ready.push_front(pending);
        }
    }

    async fn send(&mut self, channel: &Channel, pending: Pending) -> Result<(), Pending> {
        self.number += 1;
        let message = &pending.message;
        let published = channel.basic_publish(
            message::short(&message.exchange),
            message::short(&message.routing_key),
            BasicPublishOptions { mandatory: true, ..Default::default() },
            &message.body,
            message::written(&message.properties, self.number),
        );
        match timeout(ANSWER, published).await {
            Ok(Ok(confirm)) => {
                let number = self.number;
                self.unconfirmed.push_back(InFlight {
                    pending,
                    since: Instant::now(),
                    number,
                    confirm,
                    result: None,
                    returned: false,
                });
                Ok(())
            }
            _ => Err(pending),
        }
    }

    /// Takes the confirms that are there. An error: the channel is dead.
    fn settle(&mut self, channel: &Channel) -> Result<(), ()> {
        match self.unconfirmed.front_mut() {
            Some(front) if front.result.is_some() => {}
            Some(front) => match (&mut front.confirm).now_or_never() {
                Some(result) => front.result = Some(result),
                None => return Ok(()),
            },
            None => return Ok(()),
        }
        // The library gives a returned message to any of those that the broker confirmed with it. This call waits until it has handed
        // out that whole confirmation, so that the return is seen before any of them is believed.
        let _ = channel.wait_for_confirms().now_or_never();
        let mut returns = Vec::new();
        for flight in &mut self.unconfirmed {
            if flight.result.is_none() {
                flight.result = (&mut flight.confirm).now_or_never();
            }
            if let Some(Ok(Confirmation::Ack(back) | Confirmation::Nack(back))) = &mut flight.result {
                returns.extend(back.take().and_then(|back| message::number(&back.properties)));
            }
        }
        for number in returns {
            // Numbers ascend.
            if let Ok(at) = self.unconfirmed.binary_search_by_key(&number, |flight| flight.number) {
                self.unconfirmed[at].returned = true;
            }
        }
        while self.unconfirmed.front().is_some_and(|flight| flight.result.is_some()) {
            let Some(flight) = self.unconfirmed.pop_front() else { break };
            match flight.result {
                Some(Ok(Confirmation::Ack(_))) if !flight.returned => {
                    self.window = (self.window * 2).min(MOST_UNCONFIRMED);
                    self.desk.lock().unroutable_since = None;
                    self.safe(flight.pending);
                }
                Some(Ok(_)) if flight.returned => match self.unroutable {
                    Unroutable::Drop => self.safe(flight.pending),
                    Unroutable::TryAgain => {
                        self.desk.lock().unroutable_since.get_or_insert_with(Instant::now);
                        self.shared.redeclare();
                        self.put_off(flight.pending);
                    }
                },
                Some(Ok(_)) => {
                    // The queue is full. One message at a time finds out when it is not any more.
                    self.window = 1;
                    self.put_off(flight.pending);
                }
                Some(Err(_)) | None => {
                    self.unconfirmed.push_front(InFlight { result: None, ..flight });
                    return Err(());
                }
            }
        }
        Ok(())
    }

    /// The broker does not take it now. After the end nobody waits for that to change.
    fn put_off(&mut self, mut pending: Pending) {
        if *self.desk.closing.borrow() {
            return self.done(&pending);
        }
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(pending.tries.min(8))).min(LONGEST_PAUSE);
        pending.tries += 1;
        self.later.push((Instant::now() + pause, pending));
    }

    fn done(&self, pending: &Pending) {
        let mut state = self.desk.lock();
        state.bytes -= pending.weight();
        drop(state);
        self.desk.room.notify_all();
    }

    fn safe(&self, pending: Pending) {
        self.done(&pending);
        if pending.group.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let safe = pending.group.safe.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(safe) = safe {
                safe();
            }
        }
    }
}

/// Waits for the confirm of the oldest message; for ever if there is none.
async fn confirmed(front: Option<&mut InFlight>) {
    let Some(front) = front else { return std::future::pending().await };
    poll_fn(|cx| match Pin::new(&mut front.confirm).poll(cx) {
        Poll::Ready(result) => {
            front.result = Some(result);
            Poll::Ready(())
        }
        Poll::Pending => Poll::Pending,
    })
    .await;
}

/// Waits for a change of the link; true if it is another one.
pub(super) async fn gone(links: &mut super::connection::Links, epoch: u64) -> bool {
    if links.changed().await.is_err() {
        return true;
    }
    links.borrow_and_update().as_ref().is_none_or(|link| link.epoch != epoch)
}

/// Waits until then; for ever if there is no such time.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
