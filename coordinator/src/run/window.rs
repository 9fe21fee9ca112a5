//! What is published and not yet answered: a bounded window over the mini-batches. Pure: it decides, nobody is called.
//!
//! Memory follows the window and not the job. The window is as wide as half a second of work (a second on a fleet), so that nodes never
//! wait for a commit, and cancel, pause and restart stay cheap. Short mini-batches travel packed, many to a task, and what is out is
//! known by runs of them: a job of a million mini-batches a second costs a few hundred changes of this picture a second.
//!
//! It also knows what becomes of a task whose holder died (`docs/design/fleet.md`, "Deaths and blame"): `blame.rs`.

mod blame;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Instant;

use fanfold_shared::ids::NodeId;
use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::Task;
use fanfold_shared::split::Split;

use crate::aggregate::Retry;

pub use blame::Blame;

/// How much is out, and in how large pieces.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Work in one task, microseconds.
    task_us: f64,
    /// Mini-batches in one task at the most.
    task_most: u64,
    /// Work in the window, microseconds for each slot.
    window_us: f64,
    /// Mini-batches in the window at the most.
    window_most: u64,
    /// Suspects run one after the other with nothing beside them. Else they are published at once: each node sees to it that nothing
    /// runs beside one, and the others go on.
    one_alone: bool,
}

impl Shape {
    /// In one program: a task costs microseconds.
    pub const EMBEDDED: Shape =
        Shape { task_us: 10_000.0, task_most: 1024, window_us: 500_000.0, window_most: 1 << 14, one_alone: true };
    /// Through a broker: a task costs milliseconds.
    pub const FLEET: Shape =
        Shape { task_us: 100_000.0, task_most: 4096, window_us: 1_000_000.0, window_most: 1 << 18, one_alone: false };
}

/// Mini-batches in the window for each slot at the least.
const WINDOW_LEAST: u64 = 4;
/// How much the newest answers count in the estimate of how long a mini-batch takes.
const NEWEST: f64 = 0.3;

/// See the module documentation.
#[derive(Debug)]
pub struct Window {
    shape: Shape,
    mini_batches: u64,
    /// There will be no more.
    complete: bool,
    slots: u64,
    /// The next mini-batch that was not published yet.
    next: u64,
    /// Published and not answered: runs by their first mini-batch, disjoint.
    out: BTreeMap<u64, Out>,
    /// Mini-batches in `out`.
    outstanding: u64,
    /// To be published again, before anything new.
    again: VecDeque<Task>,
    /// To be run alone, before everything else.
    suspects: VecDeque<Task>,
    /// Attempts of former runs of the program, of mini-batches that are not settled.
    spent: BTreeMap<u64, u32>,
    /// Of those that are bisected, the part that is next.
    parts: BTreeMap<u64, Range<u64>>,
    /// What each node said that it holds.
    held: BTreeMap<NodeId, Vec<Range<u64>>>,
    /// How long a mini-batch takes, microseconds, everything included; None until the first is answered.
    mean_us: Option<f64>,
}

/// What former runs of the program have left begun.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The number of the last attempt of each mini-batch that was tried and is not settled.
    pub spent: BTreeMap<u64, u32>,
    /// Of those that are bisected, the part that is next.
    pub parts: BTreeMap<u64, Range<u64>>,
    /// Mini-batches that may have killed their host.
    pub suspects: Vec<u64>,
}

/// A run of mini-batches that is out.
#[derive(Clone, Debug)]
struct Out {
    end: u64,
    attempt: u32,
    alone: bool,
    /// Of the one mini-batch, the part that is meant.
    part: Option<Range<u64>>,
    published: Instant,
    /// This node acknowledged it on acceptance: no broker gives it back.
    leased: Option<NodeId>,
    /// This node said that it runs it alone.
    runs_alone: Option<NodeId>,
    /// The broker gave it back from that node, which is not known to be dead yet; no message carries it any more.
    returned: bool,
    /// Nobody has said that he holds it, and it is not in the queue.
    missing_since: Option<Instant>,
}

impl Window {
    /// A window over `split`, for so many processes. `left`: what a former run has left begun.
    pub fn new(shape: Shape, split: &Split, slots: u64, left: Left) -> Window {
        let Left { spent, parts, suspects } = left;
        let alone = |mini_batch: u64| Task {
            mini_batches: mini_batch..mini_batch + 1,
            attempt: spent.get(&mini_batch).copied().unwrap_or(0) + 1,
            alone: true,
            part: parts.get(&mini_batch).cloned(),
        };
        Window {
            shape,
            mini_batches: split.mini_batches(),
            complete: split.is_complete(),
            slots: slots.max(1),
            next: 0,
            out: BTreeMap::new(),
            outstanding: 0,
            again: VecDeque::new(),
            suspects: suspects.into_iter().map(alone).collect(),
            spent,
            parts,
            held: BTreeMap::new(),
            mean_us: None,
        }
    }

    /// The split has grown, perhaps to its end.
    pub fn grown(&mut self, split: &Split) {
        (self.mini_batches, self.complete) = (split.mini_batches(), split.is_complete());
    }

    /// So many processes work now.
    pub fn set_slots(&mut self, slots: u64) {
        self.slots = slots.max(1);
    }

    /// Whether everything was published at least once.
    pub fn all_scheduled(&self) -> bool {
        self.complete && self.next >= self.mini_batches && self.suspects.is_empty()
    }

    /// Whether no less may be out: mini-batches are long, or not one has been answered yet.
    pub fn is_narrow(&self) -> bool {
        self.room() <= WINDOW_LEAST * self.slots
    }

    /// Whether everything that there is now was published and answered.
    pub fn all_answered(&self) -> bool {
        self.next >= self.mini_batches && self.again.is_empty() && self.suspects.is_empty() && self.outstanding == 0
    }

    /// Mini-batches that were published and not answered.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Mini-batches below this were published, or were settled before.
    pub fn published_to(&self) -> u64 {
        self.next
    }

    /// Whether more is there to do than `slots` are at.
    pub fn work_waits(&self, slots: u64) -> bool {
        !self.all_scheduled() || !self.again.is_empty() || self.outstanding > slots
    }

    /// The tasks to be published now: the window is full afterwards, or everything is out. What makes them suspects is in the ledger
    /// already.
    pub fn tasks(&mut self, settled: &IntervalSet, split: &Split, now: Instant) -> Vec<Task> {
        let mut tasks = Vec::new();
        while self.out.is_empty() || !self.shape.one_alone {
            let Some(task) = self.suspects.pop_front() else { break };
            self.publish_unsettled(task, settled, split, now, &mut tasks);
        }
        let alone = self.shape.one_alone && (!self.suspects.is_empty() || self.out.values().any(|out| out.alone));
        if alone {
            return tasks;
        }
        while let Some(task) = self.again.pop_front() {
            self.publish_unsettled(task, settled, split, now, &mut tasks);
        }
        let room = self.room();
        // Not for every answer a task of its own: wait until a task's worth of room is there.
        let task = self.per(self.shape.task_us, 1, self.shape.task_most);
        if self.outstanding > 0 && room.saturating_sub(self.outstanding) < task.min(room / 4).max(1) {
            return tasks;
        }
        while self.outstanding < room && self.next < self.mini_batches {
            let Some(free) = self.next_free(settled, split) else { break };
            let attempt = self.spent.remove(&free.start).unwrap_or(0) + 1;
            let stop = match attempt {
                1 => self.spent.range(free.clone()).next().map_or(free.end, |(spent, _)| *spent),
                _ => free.start + 1,
            };
            let end = stop.min(free.start + task.min(room - self.outstanding));
            self.next = end;
            let part = self.parts.remove(&free.start);
            self.publish(Task { mini_batches: free.start..end, attempt, alone: false, part }, now, &mut tasks);
        }
        tasks
    }

    /// Attempts of mini-batches were answered; each took so long on average.
    pub fn answered(&mut self, mean_us: f64) {
        let mean = self.mean_us.map_or(mean_us, |old| old * (1.0 - NEWEST) + mean_us * NEWEST);
        self.mean_us = Some(mean);
    }

    /// Items were settled.
    pub fn settled(&mut self, items: &Range<u64>, split: &Split) {
        if !items.is_empty() {
            self.take_in(split.mini_batch_of(items.start)..split.mini_batch_of(items.end - 1) + 1);
        }
    }

    /// A mini-batch, or a part of it, is to be tried again, like any other: what was suspected of killing its host did not.
    pub fn retry(&mut self, retry: &Retry) {
        self.take_in(retry.mini_batch..retry.mini_batch + 1);
        self.again.push_back(retry.task(false));
    }

    /// It is out no longer.
    fn take_in(&mut self, range: Range<u64>) {
        while let Some((&start, out)) = self.out.range(..range.end).next_back() {
            if out.end <= range.start {
                return;
            }
            let out = self.out.remove(&start).expect("it was found");
            self.outstanding -= out.end.min(range.end) - start.max(range.start);
            if range.end < out.end {
                self.out.insert(range.end, out.clone());
            }
            if start < range.start {
                self.out.insert(start, Out { end: range.start, ..out });
                return;
            }
        }
    }

    fn publish(&mut self, task: Task, now: Instant, tasks: &mut Vec<Task>) {
        let Range { start, end } = task.mini_batches;
        self.take_in(start..end);
        self.outstanding += end - start;
        self.out.insert(start, Out::new(&task, now));
        tasks.push(task);
    }

    /// What became settled while the task waited is left out.
    fn publish_unsettled(
        &mut self,
        task: Task,
        settled: &IntervalSet,
        split: &Split,
        now: Instant,
        tasks: &mut Vec<Task>,
    ) {
        if task.part.as_ref().is_some_and(|part| settled.meets(part)) {
            return;
        }
        for mini_batches in unsettled(&task.mini_batches, settled, split) {
            self.publish(Task { mini_batches, ..task.clone() }, now, tasks);
        }
    }

    /// The next run of mini-batches from `next` that are neither settled nor out.
    fn next_free(&mut self, settled: &IntervalSet, split: &Split) -> Option<Range<u64>> {
        while self.next < self.mini_batches {
            let (_, items) = split.mini_batch(self.next);
            let Some(gap) = settled.next_gap(items.start, split.items()) else {
                self.next = self.mini_batches;
                return None;
            };
            // One that is bisected may be settled in part: it is in the gap where the rest of it is.
            self.next = split.mini_batch_of(gap.start);
            match self.out.range(..=self.next).next_back() {
                Some((_, out)) if out.end > self.next => self.next = out.end,
                _ => {
                    let end = split.mini_batch_of(gap.end - 1) + 1;
                    return Some(self.next..self.out.range(self.next..end).next().map_or(end, |(start, _)| *start));
                }
            }
        }
        None
    }

    fn room(&self) -> u64 {
        self.per(self.shape.window_us, WINDOW_LEAST, self.shape.window_most / self.slots) * self.slots
    }

    /// Mini-batches that take so long one after the other, within bounds.
    fn per(&self, us: f64, least: u64, most: u64) -> u64 {
        self.mean_us.map_or(least, |mean| ((us / mean.max(0.01)) as u64).clamp(least, most.max(least)))
    }
}

impl Out {
    fn new(task: &Task, published: Instant) -> Out {
        Out {
            end: task.mini_batches.end,
            attempt: task.attempt,
            alone: task.alone,
            part: task.part.clone(),
            published,
            leased: None,
            runs_alone: None,
            returned: false,
            missing_since: None,
        }
    }

    /// What was published, as far as it is these mini-batches.
    fn task(&self, mini_batches: Range<u64>) -> Task {
        Task { mini_batches, attempt: self.attempt, alone: self.alone, part: self.part.clone() }
    }
}

/// The runs of `mini_batches` that are not settled.
fn unsettled(mini_batches: &Range<u64>, settled: &IntervalSet, split: &Split) -> Vec<Range<u64>> {
    let mut runs = Vec::new();
    if mini_batches.is_empty() || mini_batches.end > split.mini_batches() {
        return runs;
    }
    let mut at = split.mini_batch(mini_batches.start).1.start;
    let end = split.mini_batch(mini_batches.end - 1).1.end;
    while let Some(gap) = settled.next_gap(at, end) {
        runs.push(split.mini_batch_of(gap.start)..split.mini_batch_of(gap.end - 1) + 1);
        at = gap.end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::split::SplitInput;
    use proptest::prelude::*;
    use std::collections::HashSet;

    pub(super) fn split(items: u64, per: u64) -> Split {
        let input = SplitInput::of_items("input0", "", 0..items);
        Split { inputs: vec![input], ..Split::even(per) }
    }

    pub(super) fn left<const S: usize, const A: usize>(spent: [(u64, u32); S], suspects: [u64; A]) -> Left {
        Left { spent: spent.into(), suspects: suspects.into(), ..Left::default() }
    }

    #[test]
    fn it_grows_when_runs_are_short() {
        let (split, settled, now) = (split(1_000_000, 1), IntervalSet::new(), Instant::now());
        for shape in [Shape::EMBEDDED, Shape::FLEET] {
            let mut window = Window::new(shape, &split, 2, Left::default());
            let first = window.tasks(&settled, &split, now);
            assert_eq!(first.len(), 8, "nothing is known: single mini-batches, four for each slot");
            assert!(window.is_narrow());
            window.settled(&(0..8), &split);
            window.answered(5.0);
            assert!(!window.is_narrow());
            let next = window.tasks(&settled, &split, now);
            assert!(next.iter().all(|task| task.mini_batches.end - task.mini_batches.start <= shape.task_most));
            assert_eq!(window.outstanding(), shape.window_most, "and never more than that");
            assert!(window.tasks(&settled, &split, now).is_empty());
            (0..20).for_each(|_| window.answered(shape.window_us / 4.0));
            assert!(window.is_narrow(), "four for each slot are as much work as there may be");
        }
    }

    #[test]
    fn embedded_suspects_run_alone_and_first() {
        let (split, mut settled, now) = (split(10, 1), IntervalSet::new(), Instant::now());
        let mut window = Window::new(Shape::EMBEDDED, &split, 2, left([(7, 1)], [3, 7]));
        let tasks = window.tasks(&settled, &split, now);
        assert_eq!(tasks, [Task { mini_batches: 3..4, attempt: 1, alone: true, part: None }]);
        assert!(window.tasks(&settled, &split, now).is_empty(), "the first is not settled yet");
        settled.insert(3..4);
        window.settled(&(3..4), &split);
        let tasks = window.tasks(&settled, &split, now);
        assert_eq!(tasks, [Task { mini_batches: 7..8, attempt: 2, alone: true, part: None }]);
        window.retry(&Retry { mini_batch: 7, attempt: 3, part: None });
        let tasks = window.tasks(&settled, &split, now);
        assert_eq!(tasks[0], Task { mini_batches: 7..8, attempt: 3, alone: false, part: None });
        assert!(tasks[1..].iter().all(|task| !task.mini_batches.contains(&7)), "nothing is out twice");
    }

    #[test]
    fn on_a_fleet_suspects_go_beside_the_others() {
        let (split, settled, now) = (split(10, 1), IntervalSet::new(), Instant::now());
        let mut window = Window::new(Shape::FLEET, &split, 1, left([], [3, 7]));
        let tasks = window.tasks(&settled, &split, now);
        let of = |alone| tasks.iter().filter(|t| t.alone == alone).map(|t| t.mini_batches.start).collect::<Vec<_>>();
        assert_eq!((of(true), of(false)), (vec![3, 7], vec![0, 1]));
        assert_eq!(window.outstanding(), 4);
    }

    proptest! {
        /// Whatever was settled or tried before, every other mini-batch is published once, with its next attempt.
        #[test]
        fn it_publishes_exactly_what_is_missing(
            items in 1u64..300, per in 1u64..5, done in prop::collection::hash_set(0u64..300, 0..100),
            spent in prop::collection::btree_map(0u64..300, 1u32..3, 0..20), mean in 1.0f64..1e6,
            suspects in prop::collection::btree_set(0u64..300, 0..10), fleet in any::<bool>(),
        ) {
            let (split, now) = (split(items, per), Instant::now());
            let count = split.mini_batches();
            let mut settled = IntervalSet::new();
            let done: HashSet<u64> = done.into_iter().filter(|id| *id < count).collect();
            for id in &done {
                settled.insert(split.mini_batch(*id).1);
            }
            let spent: BTreeMap<u64, u32> = spent.into_iter().filter(|(id, _)| *id < count && !done.contains(id)).collect();
            let suspects: Vec<u64> = suspects.into_iter().filter(|id| *id < count && !done.contains(id)).collect();
            let shape = if fleet { Shape::FLEET } else { Shape::EMBEDDED };
            let mut window = Window::new(shape, &split, 2, Left { spent: spent.clone(), suspects: suspects.clone(), ..Left::default() });
            let mut published = HashSet::new();
            loop {
                let tasks = window.tasks(&settled, &split, now);
                if tasks.is_empty() {
                    break;
                }
                for task in tasks {
                    for id in task.mini_batches {
                        prop_assert!(published.insert(id) && !done.contains(&id));
                        prop_assert_eq!(task.attempt, spent.get(&id).copied().unwrap_or(0) + 1);
                        prop_assert_eq!(task.alone, suspects.contains(&id));
                        let items = split.mini_batch(id).1;
                        settled.insert(items.clone());
                        window.settled(&items, &split);
                        window.answered(mean);
                    }
                }
            }
            prop_assert!(window.all_scheduled());
            prop_assert_eq!(window.outstanding(), 0);
            prop_assert_eq!(published.len() + done.len(), count as usize);
        }
    }
}
