//! The node's own thread: takes tasks, and lets one that runs alone run alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::backend::Delivery;
use fanfold_shared::items::ItemsError;
use fanfold_shared::message::{NodeEvent, NodeMessage, Task};
use fanfold_shared::report::{During, Failure};
use fanfold_shared::{failpoint, failpoint_error};

use super::{LOOK, Node, Order};
use crate::slot::MOST_ATTEMPTS;
use crate::work::Hold;

/// Tasks taken at once on a fleet, where the broker does not send more ahead than the node wants.
const MOST: usize = 1024;
/// So long a list of mini-batches that can't be read on is tried again: a network file system may need a moment.
const READ_ON: Duration = Duration::from_secs(5);

/// How a wait for a node without work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Idle,
    /// It works still.
    TooLong,
    /// The node is to end.
    Ending,
}

impl Node {
    /// Takes tasks until there is no point in it any more.
    pub(super) fn take_tasks(&self) {
        if let Some(member) = &self.member {
            self.backend.hold(member.first());
        }
        let enough = 2 * self.plan.processes as usize;
        while self.order() == Order::Work && self.slots_alive.load(Ordering::SeqCst) > 0 {
            if self.cloud.as_ref().is_some_and(|cloud| cloud.is_refused()) {
                self.sit_out();
                continue;
            }
            let most = match &self.member {
                Some(member) => {
                    if let Some(tasks) = member.follow(self.plan.processes) {
                        self.backend.hold(tasks);
                    }
                    MOST
                }
                None if self.work.wait_below(enough, LOOK) => enough,
                None => continue,
            };
            let Ok(deliveries) = self.backend.receive_tasks(most, LOOK) else { return };
            if deliveries.is_empty() {
                continue;
            }
            failpoint!("fleet_task_delivered");
            // Counted before any process may see them.
            let Ok(hand_overs) = self.backend.count_hand_overs(&deliveries) else { return };
            failpoint!("fleet_task_counted");
            let held: Vec<_> =
                deliveries.into_iter().zip(hand_overs).filter_map(|(task, count)| self.hold(task, count)).collect();
            let mut held = held.into_iter();
            while let Some(hold) = held.next() {
                if !hold.alone {
                    self.work.add(hold);
                    continue;
                }
                // What came behind it is for others meanwhile.
                held.by_ref().for_each(drop);
                if !self.run_alone(hold) {
                    return;
                }
            }
        }
    }

    /// Takes nothing for a moment, as nothing of it could be had: others may. On a fleet what is not begun goes back.
    fn sit_out(&self) {
        let Some(member) = &self.member else { return thread::sleep(LOOK) };
        self.work.let_go_of_coming();
        while self.order() == Order::Work && self.cloud.as_ref().is_some_and(|cloud| cloud.is_refused()) {
            self.take_no_more();
            thread::sleep(LOOK);
        }
        self.backend.hold(member.first());
    }

    /// Runs a task with nothing beside it; the broker sends nothing else meanwhile. False: the node is to end.
    fn run_alone(&self, hold: Arc<Hold>) -> bool {
        // What runs may take hours, and perhaps another node has nothing to do.
        let patience = self.member.as_ref().map(|member| hold.since + member.patience());
        let went_on = match self.wait_until_idle(patience) {
            Wait::Idle if self.say_runs_alone(&hold) => {
                failpoint!("fleet_alone_said");
                self.work.add(hold);
                self.wait_until_idle(None) == Wait::Idle
            }
            Wait::TooLong => {
                drop(hold);
                true
            }
            Wait::Idle | Wait::Ending => false,
        };
        if went_on && let Some(member) = &self.member {
            self.backend.hold(member.first());
        }
        went_on
    }

    /// Has the broker send nothing more, and gives back what it had sent already: not counted yet, it goes back as it came.
    pub(super) fn take_no_more(&self) {
        self.backend.hold(0);
        drop(self.backend.receive_tasks(MOST, Duration::ZERO));
    }

    /// Takes a task in hand, unless it is not this node's to run.
    fn hold(&self, delivery: Delivery<Task>, hand_overs: u32) -> Option<Arc<Hold>> {
        let mini_batches = &delivery.mini_batches;
        let known = || mini_batches.end <= self.items.split().mini_batches();
        // Published after this node had opened the list: what it names is safe by then.
        if !known() && !self.read_on() {
            // The task goes back: others may be able to.
            return None;
        }
        let Some(member) = &self.member else {
            if !known() {
                self.broken(format!("the list of mini-batches ends before {mini_batches:?}, which are to be run"));
                return None;
            }
            return Some(Hold::new(delivery));
        };
        let of_it = |part: &Range<u64>| {
            let whole = self.items.split().mini_batch(mini_batches.start).1;
            mini_batches.end - mini_batches.start == 1
                && whole.start <= part.start
                && part.start < part.end
                && part.end <= whole.end
        };
        if mini_batches.is_empty()
            || !known()
            || delivery.attempt == 0
            || delivery.attempt > MOST_ATTEMPTS
            || !delivery.part.iter().all(of_it)
        {
            self.sys_error(None, &format!("a task that this job can't have is rejected: {:?}", *delivery));
            delivery.reject();
            return None;
        }
        if hand_overs > 1 {
            // Lost with a connection and delivered again to its own holder, who runs it and will answer.
            if let Some(hold) = member.holding(mini_batches, delivery.attempt) {
                hold.renew(delivery);
                return None;
            }
            // Before the coordinator hears of it: what it publishes then is counted anew.
            self.backend.forget_hand_overs(&delivery);
            let event = NodeEvent::HandedBack { task: delivery.clone(), hand_overs };
            let safe = || {
                failpoint!("fleet_handed_back");
                delivery.ack();
            };
            self.publish(NodeMessage::Event(event), Box::new(safe));
            return None;
        }
        let hold = Hold::new(delivery);
        member.holds(&hold);
        Some(hold)
    }

    /// Takes in what was added to the list of mini-batches. False: that is not possible, and the node is to end.
    fn read_on(&self) -> bool {
        let began = Instant::now();
        while self.order() == Order::Work {
            let grown = failpoint_error!("node_list_read").during("read", self.job.items());
            let Err(error) = grown.map_err(ItemsError::from).and_then(|()| self.items.grow()) else { return true };
            if began.elapsed() >= READ_ON {
                self.broken(format!("the list of mini-batches can't be read on: {}", Failure::from(error)));
                break;
            }
            thread::sleep(LOOK);
        }
        false
    }

    /// Evidence, should the node never be heard of again. False: the node is to end.
    fn say_runs_alone(&self, hold: &Hold) -> bool {
        self.member.is_none() || self.say_safely(NodeEvent::RunsAlone { task: hold.task() })
    }

    /// Waits until no slot holds anything, at most until `deadline`; takes nothing more meanwhile.
    fn wait_until_idle(&self, deadline: Option<Instant>) -> Wait {
        loop {
            if self.member.is_some() {
                self.take_no_more();
            }
            if self.work.wait_below(0, LOOK) {
                return Wait::Idle;
            }
            if self.order() != Order::Work || self.slots_alive.load(Ordering::SeqCst) == 0 {
                return Wait::Ending;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Wait::TooLong;
            }
        }
    }
}
