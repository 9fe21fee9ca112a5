//! What the driver needs of its nodes, wherever they are: one in this program, or any number on a fleet.

use std::sync::Arc;
use std::time::Instant;

use fanfold_shared::backend::Backend;
use fanfold_shared::ids::NodeId;
use fanfold_shared::message::{Doing, NodeEvent, Task};
use fanfold_worker::node::NodeHandle;

use super::verdict::Cause;
use crate::report::NodeLine;

/// How nodes end, from mild to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Begin nothing more, finish what runs, leave.
    Drain,
    /// Kill what runs, leave.
    Kill,
    /// The same, because nothing moves: processes write to their logs where they hang.
    GiveUp,
}

/// What became of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing was heard of it for too long.
    Lost(NodeId),
    /// It left in order.
    Left(NodeId),
    /// The job can't go on.
    Hopeless(Cause),
    /// Something that the user should know.
    Note(String),
}

/// How many nodes there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// There is more to do than the present ones are at.
    pub work_waits: bool,
    /// Not more than so many; None: as many as come.
    pub most: Option<u32>,
}

/// See the module documentation. Nothing of it waits for long.
pub trait Nodes {
    /// Publishes tasks.
    fn publish(&mut self, tasks: Vec<Task>);

    /// What nodes of an earlier coordinator hold is not known yet: nothing should be published.
    fn is_settling(&self, now: Instant) -> bool;

    /// Does what is due; to be called many times a second.
    fn keep(&mut self, wanted: Wanted, now: Instant) -> Vec<Change>;

    /// Says again what nodes are to do, and nothing else: for a time in which nothing can be recorded.
    fn tell(&mut self, now: Instant);

    /// A node lives: results came from it.
    fn heard(&mut self, node: &NodeId, now: Instant);

    /// A node spoke.
    fn hear(&mut self, node: &NodeId, event: &NodeEvent, now: Instant) -> Vec<Change>;

    /// All nodes are to end; a milder order than the last one changes nothing.
    fn end(&mut self, how: End, now: Instant);

    /// They were told to end, and nothing more will be heard of any.
    fn all_gone(&self, now: Instant) -> bool;

    /// Whether a node has been silent for so long that, if the broker also gave back what it held, it is dead.
    fn is_silent(&self, node: &NodeId, now: Instant) -> bool;

    /// Processes of the nodes that work now.
    fn slots(&self) -> u64;

    /// Processes of all nodes that ever joined.
    fn processes(&self) -> u64;

    /// Why nothing can move, where that is nobody's fault.
    fn blocked(&self) -> Option<String>;

    /// Tasks that wait in the queue, if that can be known now. `None`: unknown.
    fn waiting_tasks(&self) -> Option<u32>;

    /// The nodes, for reports.
    fn lines(&self) -> Vec<NodeLine>;

    /// How many more are wanted.
    fn wanted(&self) -> u32;

    /// What the processes of a node do now, where that can be seen from here. Nodes elsewhere say it themselves.
    fn doing(&self) -> Option<(NodeId, Vec<Doing>)> {
        None
    }
}

/// The only node of an embedded job.
pub struct Only {
    handle: NodeHandle,
    backend: Arc<dyn Backend>,
    processes: u32,
    line: Option<NodeLine>,
    left: bool,
    /// How often its thread was seen to have ended, while its last word had not been heard.
    silent_looks: u32,
}

/// Its last word waits behind what was not committed yet, which is bounded.
const SILENT_LOOKS: u32 = 100;

impl Only {
    /// Takes the node over, which runs so many processes.
    pub fn new(handle: NodeHandle, backend: Arc<dyn Backend>, processes: u32) -> Only {
        Only { handle, backend, processes, line: None, left: false, silent_looks: 0 }
    }
}

impl Nodes for Only {
    fn publish(&mut self, tasks: Vec<Task>) {
        // Only the end of the job closes the backend, and then `receive_results` says so.
        let _ = self.backend.publish_tasks(tasks);
    }

    fn is_settling(&self, _: Instant) -> bool {
        false
    }

    fn keep(&mut self, _: Wanted, _: Instant) -> Vec<Change> {
        if self.left || !self.handle.is_gone() {
            return Vec::new();
        }
        self.silent_looks += 1;
        if self.silent_looks < SILENT_LOOKS {
            return Vec::new();
        }
        // It ended without a word: a bug of ours, but not one that hangs.
        self.left = true;
        vec![Change::Hopeless(Cause::bug("the node's thread ended without saying so"))]
    }

    fn tell(&mut self, _: Instant) {}

    fn heard(&mut self, _: &NodeId, _: Instant) {}

    fn hear(&mut self, node: &NodeId, event: &NodeEvent, _: Instant) -> Vec<Change> {
        match event {
            NodeEvent::Joined { host, processes, .. } => {
                self.line = Some(NodeLine {
                    node: node.clone(),
                    host: host.clone(),
                    worker: None,
                    processes: *processes,
                    state: "working",
                });
            }
            NodeEvent::GaveUp { error } => return vec![Change::Hopeless(Cause::init(error))],
            NodeEvent::Broken { message } => return vec![Change::Hopeless(Cause::broken(message))],
            NodeEvent::Left => {
                self.left = true;
                self.line = None;
                return vec![Change::Left(node.clone())];
            }
            _ => (),
        }
        Vec::new()
    }

    fn end(&mut self, how: End, _: Instant) {
        match how {
            End::Drain => self.handle.drain(),
            End::Kill => self.handle.kill(),
            End::GiveUp => self.handle.give_up(),
        }
    }

    fn all_gone(&self, _: Instant) -> bool {
        self.left
    }

    fn is_silent(&self, _: &NodeId, _: Instant) -> bool {
        false
    }

    fn slots(&self) -> u64 {
        u64::from(self.processes)
    }

    fn processes(&self) -> u64 {
        u64::from(self.processes)
    }

    fn blocked(&self) -> Option<String> {
        None
    }

    fn waiting_tasks(&self) -> Option<u32> {
        None
    }

    fn lines(&self) -> Vec<NodeLine> {
        self.line.iter().cloned().collect()
    }

    fn wanted(&self) -> u32 {
        0
    }

    fn doing(&self) -> Option<(NodeId, Vec<Doing>)> {
        let line = self.line.as_ref()?;
        Some((line.node.clone(), self.handle.doing()))
    }
}
