//! A running node, as its owner holds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use fanfold_shared::message::Doing;

use super::Node;

/// What a node was told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Work.
    Work,
    /// Begin nothing more, finish what runs, leave.
    Drain,
    /// Kill what runs, leave.
    Kill,
}

/// A running node, as its owner holds it.
/// Dropping it kills the node and waits until it has left.
pub struct NodeHandle {
    pub(super) node: Arc<Node>,
    pub(super) thread: Option<thread::JoinHandle<()>>,
}

impl NodeHandle {
    /// Begin nothing more, finish what runs (under its limits), leave. The node says `Left` when it is done.
    pub fn drain(&self) {
        self.node.tell(Order::Drain);
    }

    /// Kill what runs, leave.
    pub fn kill(&self) {
        self.node.tell(Order::Kill);
    }

    /// As [`NodeHandle::kill`], because nothing moves: processes write to their logs where they hang, and those in `init()` are
    /// reported as failed.
    pub fn give_up(&self) {
        self.node.given_up.store(true, Ordering::SeqCst);
        self.kill();
    }

    /// Says at once what it holds, if it is a node of a fleet.
    pub fn report(&self) {
        if let Some(member) = &self.node.member {
            member.ring();
        }
    }

    /// What its processes do now.
    pub fn doing(&self) -> Vec<Doing> {
        self.node.doing()
    }

    /// What the node was told last.
    pub fn order(&self) -> Order {
        self.node.order()
    }

    /// Whether the node's thread has ended.
    pub fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.kill();
        // Whoever drops it takes no more messages: the node must not wait for room for them.
        self.node.backend.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the node's thread was printed where it happened.
            let _ = thread.join();
        }
    }
}
