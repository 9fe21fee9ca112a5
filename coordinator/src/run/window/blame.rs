//! What becomes of tasks whose holder died, and of those that nobody holds: by what nodes say, never by a guess about the broker.
//!
//! | what came back | then |
//! |---|---|
//! | all settled | nothing |
//! | a task of many, for the first time | its mini-batches become suspects; the whole task is published again, to run alone |
//! | a task of many that had run alone | each of its mini-batches is published alone |
//! | one mini-batch, not known to have run alone | suspect; published alone |
//! | one mini-batch that had run alone | that attempt is charged, as soon as its node is known to be dead |

use std::ops::Range;
use std::time::{Duration, Instant};

use fanfold_shared::ids::NodeId;
use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::Task;
use fanfold_shared::split::Split;

use super::{Out, Window, unsettled};
use crate::aggregate::Retry;

/// Published so long ago, a task should be in somebody's hands.
const UNHELD: Duration = Duration::from_secs(15);
/// So long nobody must hold it, and the queue be empty, until it is published again: longer than the broker takes to notice that a
/// connection is dead (twice our heartbeat of 10 s), as what it gives back then should not meet a copy.
const MISSING: Duration = Duration::from_secs(25);

/// What must be in the ledger before anything is published again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// Mini-batches that were held by a node when it died.
    pub suspects: Vec<u64>,
    /// Attempts that killed their node.
    pub charges: Vec<Charge>,
}

/// An attempt that ran alone when its node died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The mini-batch.
    pub mini_batch: u64,
    /// The attempt.
    pub attempt: u32,
    /// The node.
    pub node: NodeId,
}

impl Blame {
    /// Whether nothing is to be recorded.
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty() && self.charges.is_empty()
    }
}

impl Window {
    /// A charged attempt is to be tried again: alone.
    pub fn retry_alone(&mut self, retry: &Retry) {
        self.take_in(retry.mini_batch..retry.mini_batch + 1);
        self.suspects.push_back(retry.task(true));
    }

    /// All that a node holds. What this coordinator has not published yet was so by an earlier one, and is out already.
    pub fn beat(&mut self, node: &NodeId, held: &[Range<u64>], settled: &IntervalSet, split: &Split, now: Instant) {
        let next = self.next;
        for range in held.iter().filter(|range| range.end > next) {
            for run in unsettled(&(range.start.max(next)..range.end), settled, split) {
                self.claim(run, now);
            }
        }
        self.held.insert(node.clone(), held.to_vec());
    }

    /// Takes what is not out as published, with the attempt that is due.
    fn claim(&mut self, run: Range<u64>, now: Instant) {
        self.suspects.retain(|task| !(task.mini_batches.start >= run.start && task.mini_batches.end <= run.end));
        let mut at = run.start;
        while at < run.end {
            if let Some((_, out)) = self.out.range(..=at).next_back().filter(|(_, out)| out.end > at) {
                at = out.end;
                continue;
            }
            let spent = self.spent.remove(&at).unwrap_or(0);
            let stop = self.out.range(at..run.end).next().map_or(run.end, |(start, _)| *start);
            let end = match spent {
                0 => self.spent.range(at..stop).next().map_or(stop, |(spent, _)| *spent),
                _ => at + 1,
            };
            let part = self.parts.remove(&at);
            let task = Task { mini_batches: at..end, attempt: spent + 1, alone: false, part };
            self.outstanding += end - at;
            self.out.insert(at, Out::new(&task, now));
            at = end;
        }
    }

    /// A node acknowledged these on acceptance.
    pub fn leased(&mut self, node: &NodeId, task: &Task) {
        self.mark(&task.mini_batches, |out| {
            if out.attempt == task.attempt {
                out.leased = Some(node.clone());
            }
        });
    }

    /// A node is about to run this alone.
    pub fn runs_alone(&mut self, node: &NodeId, task: &Task) {
        self.mark(&task.mini_batches, |out| {
            if out.attempt == task.attempt {
                (out.runs_alone, out.returned) = (Some(node.clone()), false);
            }
        });
    }

    /// A task came back that had been handed over before. `dead`: whether a node is known to be dead.
    pub fn handed_back(
        &mut self,
        task: &Task,
        settled: &IntervalSet,
        split: &Split,
        dead: &dyn Fn(&NodeId) -> bool,
    ) -> Blame {
        let mut blame = Blame::default();
        for run in unsettled(&task.mini_batches, settled, split) {
            // What was published again meanwhile, with another attempt or to run alone, goes on by itself.
            let (known, stale) = self
                .cut_out(run.clone())
                .into_iter()
                .partition::<Vec<_>, _>(|(_, out)| out.attempt == task.attempt && (task.alone || !out.alone));
            let mut unknown = vec![run];
            for (start, out) in known.iter().chain(&stale) {
                unknown = without(unknown, &(*start..out.end));
            }
            stale.into_iter().for_each(|(start, out)| self.put_back(start, out));
            for (start, out) in known {
                self.returned(start, out, task, dead, &mut blame);
            }
            // An attempt that has failed already came back too late.
            let spent = unknown.iter().flat_map(|run| self.spent.range(run.clone()));
            let late: Vec<u64> = spent.filter(|(_, spent)| **spent >= task.attempt).map(|(late, _)| *late).collect();
            unknown = late.iter().fold(unknown, |runs, late| without(runs, &(*late..late + 1)));
            let next = self.next;
            for run in unknown.into_iter().filter(|run| run.start >= next) {
                let again = Task { mini_batches: run.clone(), ..task.clone() };
                let out = Out { alone: task.alone, ..Out::new(&again, Instant::now()) };
                // Published by an earlier coordinator.
                self.outstanding += run.end - run.start;
                self.returned(run.start, out, task, dead, &mut blame);
            }
        }
        blame
    }

    /// Part of `task` came back.
    fn returned(&mut self, start: u64, out: Out, task: &Task, dead: &dyn Fn(&NodeId) -> bool, blame: &mut Blame) {
        let run = start..out.end;
        let single = run.end - run.start == 1;
        let ran_alone = out.runs_alone.clone().filter(|_| out.alone);
        let again = |mini_batches| Task { alone: true, ..out.task(mini_batches) };
        match ran_alone {
            Some(node) if task.mini_batches.end - task.mini_batches.start == 1 => match dead(&node) {
                true => {
                    self.outstanding -= 1;
                    blame.charges.push(Charge { mini_batch: start, attempt: out.attempt, node });
                }
                // Its connection may be gone and it may not: it answers, or is silent for long enough.
                false => self.put_back(start, Out { returned: true, ..out }),
            },
            Some(_) => {
                self.outstanding -= run.end - run.start;
                run.for_each(|one| self.suspects.push_back(again(one..one + 1)));
            }
            None => {
                self.outstanding -= run.end - run.start;
                if !out.alone || single {
                    blame.suspects.extend(run.clone());
                }
                self.suspects.push_back(again(run));
            }
        }
    }

    /// Tasks that came back from nodes which are known to be dead by now.
    pub fn overdue(&mut self, dead: &dyn Fn(&NodeId) -> bool) -> Blame {
        let mut blame = Blame::default();
        let due = |out: &Out| out.returned && out.runs_alone.as_ref().is_some_and(dead);
        for (start, out) in self.cut_out_where(due) {
            let task = out.task(start..out.end);
            self.returned(start, out, &task, dead, &mut blame);
        }
        blame
    }

    /// A node is lost: nobody but we gives back what it leased.
    pub fn lost(&mut self, node: &NodeId) -> Blame {
        self.held.remove(node);
        let mut blame = Blame::default();
        let dead = |other: &NodeId| other == node;
        for (start, out) in self.cut_out_where(|out| out.leased.as_ref() == Some(node)) {
            let task = out.task(start..out.end);
            self.returned(start, out, &task, &dead, &mut blame);
        }
        let overdue = self.overdue(&dead);
        blame.suspects.extend(overdue.suspects);
        blame.charges.extend(overdue.charges);
        blame
    }

    /// A node left in order: what it leased and did not answer begins anew, at nobody's expense.
    pub fn left(&mut self, node: &NodeId) {
        self.held.remove(node);
        let gone =
            |out: &Out| out.leased.as_ref() == Some(node) || out.returned && out.runs_alone.as_ref() == Some(node);
        for (start, out) in self.cut_out_where(gone) {
            self.outstanding -= out.end - start;
            self.publish_later(out.task(start..out.end));
        }
        for out in self.out.values_mut().filter(|out| out.runs_alone.as_ref() == Some(node)) {
            out.runs_alone = None;
        }
    }

    /// Whether something has been out for so long that somebody should hold it, and nobody says so: then it is worth asking how many
    /// tasks wait.
    pub fn is_unheld(&self, now: Instant) -> bool {
        self.out.iter().any(|(start, out)| out.is_old(now) && !self.unheld(&(*start..out.end)).is_empty())
    }

    /// The tasks queue is empty by the broker's own word, or gone: what nobody holds is published again, once that was so for a while. At
    /// worst it runs twice. Returns how many mini-batches.
    pub fn nothing_waits(&mut self, now: Instant) -> u64 {
        let mut again = 0;
        for (start, out) in self.cut_out_where(|out| out.is_old(now)) {
            let unheld = self.unheld(&(start..out.end));
            let held = unheld.iter().fold(std::iter::once(start..out.end).collect(), without);
            for run in held {
                self.put_back(run.start, Out { end: run.end, missing_since: None, ..out.clone() });
            }
            for run in unheld {
                let since = out.missing_since.unwrap_or(now);
                if now.saturating_duration_since(since) >= MISSING {
                    self.outstanding -= run.end - run.start;
                    again += run.end - run.start;
                    self.publish_later(out.task(run));
                } else {
                    self.put_back(run.start, Out { end: run.end, missing_since: Some(since), ..out.clone() });
                }
            }
        }
        again
    }

    /// Tasks wait in the queue: what nobody holds may be among them.
    pub fn something_waits(&mut self) {
        self.out.values_mut().for_each(|out| out.missing_since = None);
    }

    fn publish_later(&mut self, task: Task) {
        match task.alone {
            true => self.suspects.push_back(task),
            false => self.again.push_back(task),
        }
    }

    /// The parts of a run that no node says it holds.
    fn unheld(&self, run: &Range<u64>) -> Vec<Range<u64>> {
        self.held.values().flatten().fold(vec![run.clone()], without)
    }

    /// Changes every run that lies in `range`, cut at its ends.
    fn mark(&mut self, range: &Range<u64>, change: impl Fn(&mut Out)) {
        for (start, mut out) in self.cut_out(range.clone()) {
            change(&mut out);
            self.put_back(start, out);
        }
    }

    /// Takes the runs within `range` out of the picture, cut at its ends; they still count as outstanding.
    fn cut_out(&mut self, range: Range<u64>) -> Vec<(u64, Out)> {
        let mut cut = Vec::new();
        while let Some((&start, out)) = self.out.range(..range.end).next_back() {
            if out.end <= range.start {
                break;
            }
            let out = self.out.remove(&start).expect("it was found");
            if range.end < out.end {
                self.out.insert(range.end, out.clone());
            }
            let (from, to) = (start.max(range.start), out.end.min(range.end));
            if start < range.start {
                self.out.insert(start, Out { end: range.start, ..out.clone() });
            }
            cut.push((from, Out { end: to, ..out }));
        }
        cut
    }

    fn cut_out_where(&mut self, wanted: impl Fn(&Out) -> bool) -> Vec<(u64, Out)> {
        let starts: Vec<u64> = self.out.iter().filter(|(_, out)| wanted(out)).map(|(start, _)| *start).collect();
        starts.into_iter().filter_map(|start| self.out.remove(&start).map(|out| (start, out))).collect()
    }

    fn put_back(&mut self, start: u64, out: Out) {
        self.out.insert(start, out);
    }
}

impl Out {
    /// A run that came back waits for its node's fate, and for nothing else.
    fn is_old(&self, now: Instant) -> bool {
        !self.returned && now.saturating_duration_since(self.published) >= UNHELD
    }
}

/// `runs` without `gap`.
fn without(runs: Vec<Range<u64>>, gap: &Range<u64>) -> Vec<Range<u64>> {
    let cut = |run: Range<u64>| [run.start..run.end.min(gap.start), run.start.max(gap.end)..run.end];
    runs.into_iter().flat_map(cut).filter(|run| !run.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{left, split};
    use super::super::{Left, Shape, Window};
    use super::*;

    const NOBODY: &dyn Fn(&NodeId) -> bool = &|_| false;
    const EVERYBODY: &dyn Fn(&NodeId) -> bool = &|_| true;

    fn node(name: &str) -> NodeId {
        NodeId(name.into())
    }

    fn task(mini_batches: Range<u64>, attempt: u32, alone: bool) -> Task {
        Task { mini_batches, attempt, alone, part: None }
    }

    struct World {
        split: Split,
        settled: IntervalSet,
        window: Window,
        now: Instant,
    }

    /// Ten mini-batches in two tasks of many.
    fn world() -> World {
        let split = split(10, 1);
        let (settled, now) = (IntervalSet::new(), Instant::now());
        let mut window = Window::new(Shape::FLEET, &split, 1, Left::default());
        window.answered(20_000.0);
        let tasks = window.tasks(&settled, &split, now);
        assert_eq!(tasks, [task(0..5, 1, false), task(5..10, 1, false)]);
        World { split, settled, window, now }
    }

    impl World {
        fn settle(&mut self, range: Range<u64>) {
            self.settled.insert(range.clone());
            self.window.settled(&range, &self.split);
        }

        fn tasks(&mut self) -> Vec<Task> {
            self.window.tasks(&self.settled, &self.split, self.now)
        }

        fn handed_back(&mut self, task: &Task, dead: &dyn Fn(&NodeId) -> bool) -> Blame {
            self.window.handed_back(task, &self.settled, &self.split, dead)
        }

        fn later(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn a_poison_mini_batch_is_found_step_by_step() {
        let mut world = world();
        let blame = world.handed_back(&task(0..5, 1, false), EVERYBODY);
        assert_eq!((blame.suspects, blame.charges), ((0..5).collect(), vec![]));
        assert_eq!(world.tasks(), [task(0..5, 1, true)], "whole, alone");

        world.window.runs_alone(&node("a"), &task(0..5, 1, true));
        world.settle(0..2);
        let blame = world.handed_back(&task(0..5, 1, true), EVERYBODY);
        assert!(blame.is_empty(), "they are suspects already, and which of them it was is not known");
        assert_eq!(world.tasks(), [task(2..3, 1, true), task(3..4, 1, true), task(4..5, 1, true)]);

        world.window.runs_alone(&node("b"), &task(2..3, 1, true));
        assert!(world.handed_back(&task(2..3, 1, true), NOBODY).is_empty(), "it may be alive");
        assert!(world.tasks().is_empty() && world.window.overdue(NOBODY).is_empty());
        let charge = Charge { mini_batch: 2, attempt: 1, node: node("b") };
        assert_eq!(world.window.overdue(EVERYBODY).charges, [charge]);
        world.window.retry_alone(&Retry { mini_batch: 2, attempt: 2, part: None });
        assert_eq!(world.tasks(), [task(2..3, 2, true)]);
        assert_eq!(world.window.outstanding(), 8);
    }

    #[test]
    fn who_was_charged_wrongly_answers_first() {
        let mut world = world();
        world.handed_back(&task(0..5, 1, false), EVERYBODY);
        world.tasks();
        world.window.runs_alone(&node("a"), &task(0..5, 1, true));
        world.handed_back(&task(0..5, 1, true), EVERYBODY);
        world.tasks();
        world.window.runs_alone(&node("a"), &task(3..4, 1, true));
        world.handed_back(&task(3..4, 1, true), NOBODY);
        world.settle(3..4);
        assert!(world.window.overdue(EVERYBODY).is_empty());
        assert!(world.handed_back(&task(3..4, 1, true), EVERYBODY).is_empty(), "all settled: nothing");
    }

    #[test]
    fn one_mini_batch_that_is_not_known_to_have_run_alone_is_never_charged() {
        let mut world = world();
        world.settle(0..4);
        let blame = world.handed_back(&task(0..5, 1, false), EVERYBODY);
        assert_eq!((blame.suspects, blame.charges), (vec![4], vec![]));
        assert_eq!(world.tasks(), [task(4..5, 1, true)]);
        let blame = world.handed_back(&task(4..5, 1, true), EVERYBODY);
        assert_eq!((blame.suspects, blame.charges), (vec![4], vec![]), "no RunsAlone was heard");
        assert_eq!(world.tasks(), [task(4..5, 1, true)]);
        // It ran alone on a node that left in order, and came back marked as delivered before (Redis was away).
        world.window.runs_alone(&node("a"), &task(4..5, 1, true));
        world.window.left(&node("a"));
        assert!(world.handed_back(&task(4..5, 1, true), EVERYBODY).charges.is_empty());
    }

    #[test]
    fn a_lease_ends_with_its_node() {
        let mut world = world();
        world.window.leased(&node("a"), &task(0..5, 1, false));
        world.window.leased(&node("b"), &task(5..10, 1, false));
        world.settle(0..1);
        let blame = world.window.lost(&node("a"));
        assert_eq!(blame.suspects, [1, 2, 3, 4]);
        world.window.left(&node("b"));
        assert_eq!(world.tasks(), [task(1..5, 1, true), task(5..10, 1, false)]);
        assert_eq!(world.window.outstanding(), 9);
        // Alone, and leased: being lost is all the evidence there will be.
        world.settle(2..5);
        world.window.runs_alone(&node("c"), &task(1..2, 1, true));
        world.window.leased(&node("c"), &task(1..2, 1, true));
        assert_eq!(world.window.lost(&node("c")).charges, [Charge { mini_batch: 1, attempt: 1, node: node("c") }]);
    }

    #[test]
    fn what_nobody_holds_is_published_again_when_the_queue_is_empty() {
        let mut world = world();
        let (settled, split) = (world.settled.clone(), world.split.clone());
        world.window.beat(&node("a"), std::slice::from_ref(&(0..3)), &settled, &split, world.now);
        world.later(10);
        assert!(!world.window.is_unheld(world.now), "too early");
        world.later(6);
        assert!(world.window.is_unheld(world.now));
        assert_eq!(world.window.nothing_waits(world.now), 0, "noted");
        world.later(3);
        world.window.something_waits();
        assert_eq!(world.window.nothing_waits(world.now), 0, "noted anew");
        world.later(30);
        assert_eq!(world.window.nothing_waits(world.now), 7);
        assert_eq!(world.tasks(), [task(3..5, 1, false), task(5..10, 1, false)]);
        assert_eq!(world.window.outstanding(), 10);
        world.window.lost(&node("a"));
        assert!(world.window.is_unheld(world.now), "what it held is held no longer");
    }

    #[test]
    fn after_a_restart_what_nodes_hold_is_out() {
        let (split, mut settled, now) = (split(10, 1), IntervalSet::new(), Instant::now());
        settled.insert(2..3);
        let mut window = Window::new(Shape::FLEET, &split, 4, left([(4, 1)], [1]));
        window.beat(&node("a"), &[1..5, 8..9], &settled, &split, now);
        assert_eq!(window.outstanding(), 4);
        window.answered(4_000.0);
        let tasks = window.tasks(&settled, &split, now);
        assert_eq!(tasks, [task(0..1, 1, false), task(5..8, 1, false), task(9..10, 1, false)]);
        let blame = window.handed_back(&task(4..5, 2, false), &settled, &split, EVERYBODY);
        assert_eq!(blame.suspects, [4]);
    }
}
