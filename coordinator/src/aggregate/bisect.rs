//! Which part of a mini-batch is to be tried next (`docs/design/bisect.md`). Pure: it follows from what is settled and from the failed attempts.

use std::collections::BTreeMap;
use std::ops::Range;

use fanfold_shared::interval::IntervalSet;

/// How often what is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Attempts of a mini-batch, and of a single item, at least 1 (`run_max_try`).
    pub most: u32,
    /// Whether a mini-batch out of tries is halved (`on_failure: bisect`).
    pub bisect: bool,
}

/// What was tried of a mini-batch that is not settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// The number of the last attempt that was answered.
    pub attempt: u32,
    /// Failed attempts, by the items that were tried.
    failed: BTreeMap<(u64, u64), u32>,
    /// A part of it returned.
    pub returned: bool,
    /// Items of it are settled as failed.
    pub short: bool,
}

/// What of a mini-batch is settled.
pub(super) trait Settled {
    /// Whether any of these items is.
    fn meets(&self, items: &Range<u64>) -> bool;
    /// Whether all of them are.
    fn covers(&self, items: &Range<u64>) -> bool;
}

impl Settled for IntervalSet {
    fn meets(&self, items: &Range<u64>) -> bool {
        IntervalSet::meets(self, items)
    }

    fn covers(&self, items: &Range<u64>) -> bool {
        self.contains(items)
    }
}

impl Tried {
    /// These items, all of the mini-batch `whole` or a part of it, were tried by this attempt, which failed. Of a whole mini-batch the number of the attempt
    /// says how often that was; else each is counted.
    pub fn failed(&mut self, items: &Range<u64>, whole: &Range<u64>, attempt: u32) {
        self.attempt = self.attempt.max(attempt);
        let times = self.failed.entry((items.start, items.end)).or_default();
        *times = if items == whole { attempt.max(*times) } else { *times + 1 };
    }

    /// A part was tried by this attempt, which returned; `short`: not something for each item.
    pub fn returned(&mut self, attempt: u32, short: bool) {
        self.attempt = self.attempt.max(attempt);
        self.returned = true;
        self.short |= short;
    }

    /// Whether these items, all of the mini-batch `whole` or a part of it, are out of tries.
    pub fn is_out(&self, items: &Range<u64>, whole: &Range<u64>, tries: Tries) -> bool {
        let between = tries.bisect && items != whole && items.end - items.start > 1;
        let failed = self.failed.get(&(items.start, items.end)).copied().unwrap_or_default();
        failed >= if between { 1 } else { tries.most }
    }

    /// The part of `whole` that is to be tried next: the first that is not settled and not to be split. None: all of it is settled.
    pub fn next(&self, whole: &Range<u64>, settled: &impl Settled, tries: Tries) -> Option<Range<u64>> {
        self.next_of(whole.clone(), whole, settled, tries)
    }

    fn next_of(
        &self,
        items: Range<u64>,
        whole: &Range<u64>,
        settled: &impl Settled,
        tries: Tries,
    ) -> Option<Range<u64>> {
        if settled.covers(&items) {
            return None;
        }
        let split = settled.meets(&items) || tries.bisect && self.is_out(&items, whole, tries);
        if !split || items.end - items.start == 1 {
            return Some(items);
        }
        let middle = items.start + (items.end - items.start) / 2;
        self.next_of(items.start..middle, whole, settled, tries)
            .or_else(|| self.next_of(middle..items.end, whole, settled, tries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BISECT: Tries = Tries { most: 3, bisect: true };

    /// Runs a mini-batch until all of it is settled. Returns what succeeded, and how many attempts it took.
    fn run(whole: &Range<u64>, bad: &[u64], tries: Tries) -> (Vec<u64>, u32) {
        let (mut tried, mut settled, mut good, mut attempts) = (Tried::default(), IntervalSet::new(), vec![], 0);
        while let Some(part) = tried.next(whole, &settled, tries) {
            attempts += 1;
            if bad.iter().any(|item| part.contains(item)) {
                tried.failed(&part, whole, attempts);
                if part.end - part.start > 1 && tries.bisect || !tried.is_out(&part, whole, tries) {
                    continue;
                }
            } else {
                good.extend(part.clone());
            }
            assert!(settled.insert(part));
        }
        (good, attempts)
    }

    #[test]
    fn one_bad_item_costs_one_item() {
        // Eight items: 3 times all, 1 half, 1 quarter, then the item 3 times; the three others of the halves once each.
        assert_eq!(run(&(0..8), &[5], BISECT), (vec![0, 1, 2, 3, 4, 6, 7], 3 + 2 + 3 + 3));
        assert_eq!(run(&(7..8), &[7], BISECT), (vec![], 3), "nothing to halve");
        assert_eq!(run(&(0..8), &[5], Tries { most: 2, bisect: false }), (vec![], 2));
    }

    #[test]
    fn what_is_left_of_a_mini_batch_is_tried_in_the_largest_parts() {
        let mut settled = IntervalSet::new();
        settled.insert(0..3);
        for tries in [BISECT, Tries { most: 3, bisect: false }] {
            let mut left = settled.clone();
            let mut parts = vec![];
            while let Some(part) = Tried::default().next(&(0..8), &left, tries) {
                left.insert(part.clone());
                parts.push(part);
            }
            assert_eq!(parts, [3..4, 4..8]);
        }
    }

    proptest! {
        #[test]
        fn all_but_the_bad_ones_succeed_within_the_runs_that_are_said(
            items in 1u64..200, bad in prop::collection::btree_set(0u64..200, 0..12), most in 1u32..4,
        ) {
            let bad: Vec<u64> = bad.into_iter().filter(|item| *item < items).collect();
            let tries = Tries { most, bisect: true };
            let (good, attempts) = run(&(0..items), &bad, tries);
            let expected: Vec<u64> = (0..items).filter(|item| !bad.contains(item)).collect();
            prop_assert_eq!(good, expected);
            let depth = items.next_power_of_two().ilog2();
            let k = bad.len() as u32;
            prop_assert!(attempts <= most.max(1) + 2 * k * depth + k * most, "{} for {} of {}", attempts, k, items);
        }
    }
}
