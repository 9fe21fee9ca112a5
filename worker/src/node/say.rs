//! What a node says, and whether it is safe.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfold_shared::backend::{Closed, OnSafe};
use fanfold_shared::failpoint;
use fanfold_shared::message::{FromNode, NodeEvent, NodeMessage};

use super::{LOOK, Node, Order, lock};

/// How long a node that leaves waits until everything it said is safe.
const SAFE: Duration = Duration::from_secs(60);
/// The same for one that was told to leave at once.
const SAFE_KILLED: Duration = Duration::from_secs(5);

/// Counts what was said and is not safe yet.
#[derive(Default)]
pub(super) struct Unsafe {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One message that is not safe yet. Dropped, it is, or never will be.
struct Pending(Arc<Unsafe>);

impl Pending {
    fn new(all: &Arc<Unsafe>) -> Pending {
        *lock(&all.count) += 1;
        Pending(all.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        *lock(&self.0.count) -= 1;
        self.0.fewer.notify_all();
    }
}

impl Unsafe {
    /// Waits a moment for there to be nothing; true: there is nothing.
    fn wait(&self, wait: Duration) -> bool {
        let count = lock(&self.count);
        let waited = self.fewer.wait_timeout_while(count, wait, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Node {
    /// Publishes a message; `safe` is called when it is safe. Nobody will ever take it: the node is to end.
    pub fn publish(&self, body: NodeMessage, safe: OnSafe) {
        if matches!(body, NodeMessage::Results(_)) {
            self.barren_deaths.store(0, Ordering::SeqCst);
        }
        if let (Some(member), NodeMessage::Results(results)) = (&self.member, &body) {
            member.measure(results);
        }
        let pending = Pending::new(&self.pending);
        let is_result = matches!(body, NodeMessage::Results(_));
        let safe = Box::new(move || {
            if is_result {
                failpoint!("fleet_result_confirmed");
            }
            safe();
            if is_result {
                failpoint!("fleet_task_acknowledged");
            }
            drop(pending);
        });
        if is_result {
            failpoint!("fleet_before_result");
        }
        if self.backend.publish_results(vec![FromNode { node: self.id.clone(), body }], safe) == Err(Closed) {
            self.tell(Order::Kill);
        }
        if is_result {
            failpoint!("fleet_result_published");
        }
    }

    /// Publishes an event.
    pub fn say(&self, event: NodeEvent) {
        self.publish(NodeMessage::Event(event), Box::new(|| ()));
    }

    /// Says something, and waits until it is safe. False: the node is to end first.
    pub(super) fn say_safely(&self, event: NodeEvent) -> bool {
        let (said, heard) = std::sync::mpsc::channel();
        self.publish(NodeMessage::Event(event), Box::new(move || said.send(()).unwrap_or_default()));
        loop {
            match heard.recv_timeout(LOOK) {
                Ok(()) => return true,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if self.order() == Order::Work => (),
                Err(_) => return false,
            }
        }
    }

    /// Waits until everything that was said is safe; not for ever, as the other side may be gone.
    pub(super) fn wait_until_safe(&self) {
        let began = Instant::now();
        while !self.pending.wait(LOOK) {
            let limit = if self.order() == Order::Kill { SAFE_KILLED } else { SAFE };
            if began.elapsed() >= limit {
                return;
            }
        }
    }
}
