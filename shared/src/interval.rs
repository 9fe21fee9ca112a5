//! Sets of item ordinals as disjoint intervals: the unit of truth (`docs/design/ledger.md`).

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of disjoint, non-adjacent half-open intervals. Memory is proportional to the number of gaps, not of items:
/// work that settles roughly in order keeps it tiny.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// start -> end
    intervals: BTreeMap<u64, u64>,
    len: u64,
}

impl IntervalSet {
    /// The empty set.
    pub fn new() -> IntervalSet {
        IntervalSet::default()
    }

    /// The number of ordinals in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no ordinal is in the set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any ordinal of `range` is in the set.
    pub fn meets(&self, range: &Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        self.intervals.range(..range.end).next_back().is_some_and(|(_, end)| *end > range.start)
    }

    /// Whether every ordinal of `range` is in the set.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.intervals.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Adds `range`. Returns false, and changes nothing, if it meets the set: a result settles whole or not at all.
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() || self.meets(&range) {
            return false;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, before_end)) = self.intervals.range(..start).next_back().map(|(s, e)| (*s, *e))
            && before_end == start
        {
            self.intervals.remove(&before);
            start = before;
        }
        if let Some(after_end) = self.intervals.remove(&end) {
            end = after_end;
        }
        self.intervals.insert(start, end);
        self.len += range.end - range.start;
        true
    }

    /// The intervals in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.intervals.iter().map(|(start, end)| *start..*end)
    }

    /// The first maximal gap at or after `from`, cut at `end`.
    pub fn next_gap(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let mut start = from;
        if let Some((_, covered)) = self.intervals.range(..=start).next_back() {
            start = start.max(*covered);
        }
        if start >= end {
            return None;
        }
        let stop = self.intervals.range(start..end).next().map_or(end, |(next, _)| *next);
        Some(start..stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_ordinals(ranges in prop::collection::vec((0u64..60, 0u64..8), 0..60)) {
            let (mut set, mut model) = (IntervalSet::new(), BTreeSet::new());
            for (start, len) in ranges {
                let range = start..start + len;
                let meets = range.clone().any(|i| model.contains(&i));
                prop_assert_eq!(set.meets(&range), meets);
                prop_assert_eq!(set.contains(&range), range.clone().all(|i| model.contains(&i)));
                prop_assert_eq!(set.insert(range.clone()), !meets && len > 0);
                if !meets {
                    model.extend(range);
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                let listed: Vec<u64> = set.iter().flatten().collect();
                prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
                let gap: Vec<u64> = set.next_gap(5, 70).into_iter().flatten().collect();
                let first: Vec<u64> = (5..70).skip_while(|i| model.contains(i)).take_while(|i| !model.contains(i)).collect();
                prop_assert_eq!(gap, first);
            }
            let ends: Vec<_> = set.iter().collect();
            prop_assert!(ends.windows(2).all(|w| w[0].end < w[1].start), "adjacent intervals are merged");
        }
    }
}
