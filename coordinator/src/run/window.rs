//! What is published and not yet answered: a bounded window over the mini-batches. Pure: it decides, nobody is called.
//!
//! Memory follows the window and not the job. The window is as wide as half a second of work, so that nodes never wait
//! for a commit, and cancel, pause and restart stay cheap. Short mini-batches travel packed, many to a task.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::Task;
use fanfold_shared::split::Split;

/// Work in one task, microseconds.
const TASK_US: f64 = 10_000.0;
/// Mini-batches in one task at the most.
const TASK_MOST: u64 = 1024;
/// Work in the window, microseconds for each slot.
const WINDOW_US: f64 = 500_000.0;
/// Mini-batches in the window at the most.
const WINDOW_MOST: u64 = 1 << 14;
/// Mini-batches in the window for each slot at the least.
const WINDOW_LEAST: u64 = 4;
/// How much the newest answers count in the estimate of how long a mini-batch takes.
const NEWEST: f64 = 0.3;

/// See the module documentation.
#[derive(Debug)]
pub struct Window {
    mini_batches: u64,
    slots: u64,
    /// The next mini-batch that was not published yet.
    next: u64,
    /// Published and not answered.
    outstanding: u64,
    /// To be tried again, before anything new: mini-batch and attempt.
    again: VecDeque<(u64, u32)>,
    /// Failed attempts of former runs of the program, of mini-batches that are not settled.
    spent: BTreeMap<u64, u32>,
    /// Suspects, to be run alone before everything else.
    suspects: VecDeque<u64>,
    /// The suspect that runs alone now.
    alone: Option<u64>,
    /// How long a mini-batch takes, microseconds, everything included; None until the first is answered.
    mean_us: Option<f64>,
}

impl Window {
    /// A window over `split`, for so many processes. `spent`: attempts that mini-batches have used up already; `suspects`:
    /// mini-batches that may have killed their host.
    pub fn new(split: &Split, slots: u64, spent: BTreeMap<u64, u32>, suspects: Vec<u64>) -> Window {
        Window {
            mini_batches: split.mini_batches(),
            slots: slots.max(1),
            next: 0,
            outstanding: 0,
            again: VecDeque::new(),
            spent,
            suspects: suspects.into(),
            alone: None,
            mean_us: None,
        }
    }

    /// Whether everything was published at least once.
    pub fn all_scheduled(&self) -> bool {
        self.next >= self.mini_batches && self.suspects.is_empty()
    }

    /// Mini-batches that were published and not answered.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Mini-batches below this were published, or were settled before.
    pub fn published_to(&self) -> u64 {
        self.next
    }

    /// The next suspect, if it is time for one: nothing else is out then. The caller notes it in the ledger before the task
    /// that this returns is published.
    pub fn next_suspect(&mut self, settled: &IntervalSet, split: &Split) -> Option<Task> {
        while self.alone.is_none() && self.outstanding == 0 {
            let mini_batch = self.suspects.pop_front()?;
            if settled.meets(&split.mini_batch(mini_batch).1) {
                continue;
            }
            self.alone = Some(mini_batch);
            self.outstanding = 1;
            let attempt = self.spent.get(&mini_batch).copied().unwrap_or(0) + 1;
            return Some(Task { mini_batches: mini_batch..mini_batch + 1, attempt, alone: true });
        }
        None
    }

    /// The tasks to be published now: the window is full afterwards, or everything is out.
    pub fn tasks(&mut self, settled: &IntervalSet, split: &Split) -> Vec<Task> {
        let mut tasks = Vec::new();
        if self.alone.is_some() || !self.suspects.is_empty() {
            return tasks;
        }
        while let Some((mini_batch, attempt)) = self.again.pop_front() {
            tasks.push(Task { mini_batches: mini_batch..mini_batch + 1, attempt, alone: false });
            self.outstanding += 1;
        }
        let room = self.room();
        // Not for every answer a task of its own: wait until a task's worth of room is there.
        let task = self.per(TASK_US, 1, TASK_MOST);
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
            self.outstanding += end - free.start;
            self.next = end;
            tasks.push(Task { mini_batches: free.start..end, attempt, alone: false });
        }
        tasks
    }

    /// Attempts of mini-batches were answered; each took so long on average.
    pub fn answered(&mut self, count: u64, mean_us: f64) {
        self.outstanding = self.outstanding.saturating_sub(count);
        let mean = self.mean_us.map_or(mean_us, |old| old * (1.0 - NEWEST) + mean_us * NEWEST);
        self.mean_us = Some(mean);
    }

    /// An attempt failed and the mini-batch is to be tried again.
    pub fn retry(&mut self, mini_batch: u64, attempt: u32) {
        if self.alone == Some(mini_batch) {
            // It was not the host's death; from here on it is like any other.
            self.alone = None;
        }
        self.again.push_back((mini_batch, attempt));
    }

    /// Something was settled: if the suspect that runs alone is among it, the next may.
    pub fn settled(&mut self, settled: &IntervalSet, split: &Split) {
        if self.alone.is_some_and(|mini_batch| settled.meets(&split.mini_batch(mini_batch).1)) {
            self.alone = None;
        }
    }

    /// The next run of mini-batches from `next` that are not settled.
    fn next_free(&mut self, settled: &IntervalSet, split: &Split) -> Option<Range<u64>> {
        let (_, items) = split.mini_batch(self.next);
        let Some(gap) = settled.next_gap(items.start, split.items()) else {
            self.next = self.mini_batches;
            return None;
        };
        // A mini-batch settles whole, so gaps begin and end at mini-batches.
        self.next = split.mini_batch_of(gap.start);
        Some(self.next..split.mini_batch_of(gap.end - 1) + 1)
    }

    fn room(&self) -> u64 {
        self.per(WINDOW_US, WINDOW_LEAST, WINDOW_MOST / self.slots) * self.slots
    }

    /// Mini-batches that take so long one after the other, within bounds.
    fn per(&self, us: f64, least: u64, most: u64) -> u64 {
        self.mean_us.map_or(least, |mean| ((us / mean.max(0.01)) as u64).clamp(least, most.max(least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::split::SplitInput;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn split(items: u64, per: u64) -> Split {
        let input = SplitInput { name: "input0".into(), root: String::new(), items: 0..items };
        Split { inputs: vec![input], mini_batch_items: per }
    }

    #[test]
    fn it_grows_when_runs_are_short() {
        let (split, settled) = (split(1_000_000, 1), IntervalSet::new());
        let mut window = Window::new(&split, 2, BTreeMap::new(), vec![]);
        let first = window.tasks(&settled, &split);
        assert_eq!(first.len(), 8, "nothing is known: single mini-batches, four for each slot");
        window.answered(8, 5.0);
        let next = window.tasks(&settled, &split);
        assert!(next.iter().all(|task| task.mini_batches.end - task.mini_batches.start <= TASK_MOST));
        assert_eq!(window.outstanding(), WINDOW_MOST, "and never more than that");
        assert!(window.tasks(&settled, &split).is_empty());
    }

    #[test]
    fn suspects_run_alone_and_first() {
        let (split, mut settled) = (split(10, 1), IntervalSet::new());
        let mut window = Window::new(&split, 2, BTreeMap::from([(7, 1)]), vec![3, 7]);
        assert!(window.tasks(&settled, &split).is_empty());
        let task = window.next_suspect(&settled, &split).unwrap();
        assert_eq!((task.mini_batches.start, task.attempt, task.alone), (3, 1, true));
        assert!(window.next_suspect(&settled, &split).is_none() && window.tasks(&settled, &split).is_empty());
        window.answered(1, 10.0);
        assert!(window.next_suspect(&settled, &split).is_none(), "the first is not settled yet");
        settled.insert(3..4);
        window.settled(&settled, &split);
        assert_eq!(window.next_suspect(&settled, &split).unwrap().attempt, 2);
        window.answered(1, 10.0);
        window.retry(7, 3);
        let tasks = window.tasks(&settled, &split);
        assert_eq!((tasks[0].mini_batches.start, tasks[0].attempt, tasks[0].alone), (7, 3, false));
    }

    proptest! {
        /// Whatever was settled or tried before, every other mini-batch is published once, with its next attempt.
        #[test]
        fn it_publishes_exactly_what_is_missing(
            items in 1u64..300, per in 1u64..5, done in prop::collection::hash_set(0u64..300, 0..100),
            spent in prop::collection::btree_map(0u64..300, 1u32..3, 0..20), mean in 1.0f64..1e6,
        ) {
            let split = split(items, per);
            let count = split.mini_batches();
            let mut settled = IntervalSet::new();
            let done: HashSet<u64> = done.into_iter().filter(|id| *id < count).collect();
            for id in &done {
                settled.insert(split.mini_batch(*id).1);
            }
            let spent: BTreeMap<u64, u32> = spent.into_iter().filter(|(id, _)| *id < count && !done.contains(id)).collect();
            let mut window = Window::new(&split, 2, spent.clone(), vec![]);
            let mut published = HashSet::new();
            loop {
                let tasks = window.tasks(&settled, &split);
                if tasks.is_empty() {
                    break;
                }
                for task in tasks {
                    for id in task.mini_batches {
                        prop_assert!(published.insert(id) && !done.contains(&id));
                        prop_assert_eq!(task.attempt, spent.get(&id).copied().unwrap_or(0) + 1);
                        window.answered(1, mean);
                    }
                }
            }
            prop_assert!(window.all_scheduled());
            prop_assert_eq!(published.len() + done.len(), count as usize);
        }
    }
}
