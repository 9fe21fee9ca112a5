//! How the items of a job are cut into mini-batches: fixed when the item list is written, never changed by a retry.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One input of the job and the items it contributed. Each input is split on its own: no mini-batch crosses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitInput {
    /// The input's name in the job file (`input0`, `input1`, … for a list).
    pub name: String,
    /// The directory that the names of its items are relative to; empty for `lines`, whose items are taken as they are.
    pub root: String,
    /// The ordinals of its items.
    pub items: Range<u64>,
}

/// The split of a whole job: arithmetic over a handful of inputs, so it costs nothing however many mini-batches there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The inputs in the order of their items; their ranges are adjacent and start at 0.
    pub inputs: Vec<SplitInput>,
    /// Items in a mini-batch, at least 1; the last mini-batch of each input may be short.
    pub mini_batch_items: u64,
}

impl Split {
    /// The number of items.
    pub fn items(&self) -> u64 {
        self.inputs.last().map_or(0, |input| input.items.end)
    }

    /// The number of mini-batches.
    pub fn mini_batches(&self) -> u64 {
        self.inputs.iter().map(|input| self.count(input)).sum()
    }

    /// The input that mini-batch `id` belongs to, and the ordinals of its items.
    ///
    /// # Panics
    /// If `id` is not below [`Split::mini_batches`].
    pub fn mini_batch(&self, id: u64) -> (&SplitInput, Range<u64>) {
        let mut first = 0;
        for input in &self.inputs {
            let count = self.count(input);
            if id < first + count {
                let start = input.items.start + (id - first) * self.mini_batch_items;
                return (input, start..(start + self.mini_batch_items).min(input.items.end));
            }
            first += count;
        }
        panic!("mini-batch {id} is beyond the split");
    }

    /// The mini-batch that holds item `ordinal`.
    ///
    /// # Panics
    /// If `ordinal` is not below [`Split::items`].
    pub fn mini_batch_of(&self, ordinal: u64) -> u64 {
        let mut first = 0;
        for input in &self.inputs {
            if input.items.contains(&ordinal) {
                return first + (ordinal - input.items.start) / self.mini_batch_items;
            }
            first += self.count(input);
        }
        panic!("item {ordinal} is beyond the split");
    }

    fn count(&self, input: &SplitInput) -> u64 {
        (input.items.end - input.items.start).div_ceil(self.mini_batch_items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mini_batches_cover_every_item_once_and_cross_no_input(
            sizes in prop::collection::vec(0u64..30, 1..6), per in 1u64..8,
        ) {
            let mut at = 0;
            let inputs = sizes.iter().map(|n| {
                let items = at..at + n;
                at += n;
                SplitInput { name: format!("input{at}"), root: String::new(), items }
            }).collect();
            let split = Split { inputs, mini_batch_items: per };
            let mut next = 0;
            for id in 0..split.mini_batches() {
                let (input, items) = split.mini_batch(id);
                prop_assert_eq!(items.start, next);
                prop_assert!(!items.is_empty() && items.end - items.start <= per && items.end <= input.items.end);
                prop_assert!(items.clone().all(|i| split.mini_batch_of(i) == id));
                next = items.end;
            }
            prop_assert_eq!(next, split.items());
        }
    }
}
