//! How tasks reach nodes and results come back: one trait, two implementations, chosen once at the start.
//!
//! # Contract
//!
//! - **At least once.** What `publish_*` accepted is delivered until it is acknowledged. A [`Delivery`] that is dropped
//!   or requeued comes back, marked `redelivered`; so does everything its receiver held when it died. Receivers
//!   must bear duplicates: the ledger alone decides what is in.
//! - **No promised order**, though an undisturbed queue is first in, first out.
//! - **`publish_*` returns when the messages are safe**: from then on the death of the publisher loses nothing
//!   (embedded there is nobody to survive: coordinator and node die together, and the ledger knows what is missing).
//! - **Results before tasks**: a node acknowledges a task only after the results of all its mini-batches are safe. They are
//!   when [`OnSafe`] is called, on any thread and not necessarily in order; `publish_results` itself does not wait for that.
//! - **Bounded**: `publish_results` waits while too many bytes wait to be committed; that stops the processes, not memory.
//! - **Hand-overs**: `count_hand_overs` counts how often a task message was handed to somebody who did not give it back, before
//!   a process may see it. A requeued or dropped delivery counts one back; a death does not. So a count above 1 says that
//!   an earlier holder died with it. It charges nobody: what a mini-batch is charged with is decided by the
//!   coordinator and lies in the ledger.
//! - After `close`, receivers get what is left and then [`Closed`], publishers get [`Closed`] at once.

#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
pub mod fleet;
pub mod rabbitmq;
pub mod redis;

use std::ops::Deref;
use std::time::Duration;

use crate::message::{FromNode, Task};

/// The other side is gone for good, or the job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the backend is closed")]
pub struct Closed;

/// What is done when messages are safe.
pub type OnSafe = Box<dyn FnOnce() + Send>;

/// What goes well together in one message.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// Between two messages of a process, where more may come meanwhile.
    pub time: Duration,
    /// Of one message.
    pub bytes: usize,
}

/// See the module documentation.
pub trait Backend: Send + Sync {
    /// Publishes tasks for the nodes.
    fn publish_tasks(&self, tasks: Vec<Task>) -> Result<(), Closed>;

    /// Takes up to `max` tasks, waiting at most `wait` for the first. An empty vector: none came.
    fn receive_tasks(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<Task>>, Closed>;

    /// Publishes messages of a node for the coordinator; waits while the bound on waiting bytes is exceeded. `safe` is called
    /// when they are safe, perhaps before this returns; if the backend closes first, it is dropped uncalled.
    fn publish_results(&self, messages: Vec<FromNode>, safe: OnSafe) -> Result<(), Closed>;

    /// Takes what waits for the coordinator, up to about `max_bytes` of rows but at least one message, waiting at most
    /// `wait` for the first. An empty vector: none came.
    fn receive_results(&self, max_bytes: usize, wait: Duration) -> Result<Vec<Delivery<FromNode>>, Closed>;

    /// Counts a hand-over of each task and returns how many there have been, this one included.
    fn count_hand_overs(&self, tasks: &[Delivery<Task>]) -> Result<Vec<u32>, Closed>;

    /// Forgets the hand-overs of a task that its receiver is about to report: the coordinator may publish the same task again
    /// as soon as it hears of them, and those of that one must not be mixed up with these.
    fn forget_hand_overs(&self, _task: &Delivery<Task>) {}

    /// How many tasks the receiver wants to hold: a backend that sends ahead goes by it.
    fn hold(&self, _tasks: u16) {}

    /// How results should be gathered: what a message costs, the backend knows.
    fn gather(&self) -> Gather;

    /// Ends the flow. May be called from any side, any number of times.
    fn close(&self);
}

/// How a delivery was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Acked,
    Requeued,
    Rejected,
}

/// Settles a delivery with the implementation that made it; the message goes back, so that requeueing needs no copy.
pub(crate) type Settle<T> = Box<dyn FnOnce(T, Settled) + Send>;

/// A message as received. It is settled exactly once: by `ack`, `requeue` or `reject`, or by being dropped, which requeues.
pub struct Delivery<T> {
    /// It was delivered before, perhaps to somebody who died.
    pub redelivered: bool,
    /// Both present until the delivery is settled.
    unsettled: Option<(T, Settle<T>)>,
}

impl<T> Delivery<T> {
    pub(crate) fn new(message: T, redelivered: bool, settle: Settle<T>) -> Delivery<T> {
        Delivery { redelivered, unsettled: Some((message, settle)) }
    }

    /// The message is done with.
    pub fn ack(mut self) {
        self.settle(Settled::Acked);
    }

    /// The message should be delivered again, to anybody.
    pub fn requeue(mut self) {
        self.settle(Settled::Requeued);
    }

    /// The message can't be handled by anybody and must not come back.
    pub fn reject(mut self) {
        self.settle(Settled::Rejected);
    }

    fn settle(&mut self, how: Settled) {
        if let Some((message, settle)) = self.unsettled.take() {
            settle(message, how);
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.unsettled.as_ref().expect("only methods that consume the delivery settle it").0
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        self.settle(Settled::Requeued);
    }
}
