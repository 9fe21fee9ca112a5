//! How a node fares with what is not a mini-batch's fault: `init` that fails, processes that die without work.

use std::sync::atomic::Ordering;

use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::message::{AttemptError, NodeEvent};

use super::{Node, Order, lock};

/// How the node fares with `init`.
#[derive(Default)]
pub(super) struct Init {
    /// Failures without a success between them.
    pub failures: u32,
    /// Of these, the last so many were stuck.
    pub stuck: u32,
    /// Processes that live and are through with it.
    pub ready: u32,
    pub gave_up: bool,
}

impl Node {
    /// `init()` returned: failures before it don't count any more.
    pub fn init_succeeded(&self) {
        let mut init = lock(&self.init);
        (init.failures, init.stuck) = (0, 0);
        init.ready += 1;
    }

    /// A process whose `init()` had returned has ended.
    pub fn ready_process_ended(&self) {
        lock(&self.init).ready -= 1;
    }

    /// Counts and reports an `init` failure. The node gives up after `3 × process_count_per_node` without a success, or when
    /// all its processes were `stuck` for as long as one may be (spec section 5). Then it begins nothing more, and processes
    /// that are still starting are killed without a word.
    pub fn say_init_failed(&self, process: ProcessNumber, error: AttemptError, stuck: bool) {
        let mut init = lock(&self.init);
        if init.gave_up {
            return;
        }
        init.failures += 1;
        init.stuck = if stuck { init.stuck + 1 } else { 0 };
        let all_stuck = init.stuck >= self.plan.processes && init.ready == 0;
        let give_up = init.failures >= 3 * self.plan.processes || all_stuck;
        let consecutive = init.failures;
        init.gave_up = give_up;
        drop(init);
        let error = Box::new(error);
        self.say(NodeEvent::InitFailed { process, error: error.clone(), consecutive });
        if give_up {
            self.say(NodeEvent::GaveUp { error });
            self.tell(Order::Drain);
        }
    }

    /// A process died before it began anything that it held. Once is an accident; again and again it is a reason to stop,
    /// as no mini-batch can be charged with it.
    pub fn died_without_work(&self, process: ProcessNumber, text: &str) {
        self.sys_error(Some(process), text);
        let deaths = self.barren_deaths.fetch_add(1, Ordering::SeqCst) + 1;
        if deaths >= 3 * self.plan.processes {
            self.broken(format!("{deaths} processes in a row died before they began a mini-batch; the last: {text}"));
        }
    }

    /// Something that is not the script's fault keeps the node from working.
    pub fn broken(&self, message: String) {
        self.sys_error(None, &message);
        self.say(NodeEvent::Broken { message });
        self.tell(Order::Drain);
    }
}
