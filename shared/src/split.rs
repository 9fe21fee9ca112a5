//! How the items of a job are cut into mini-batches: fixed when they are written down, never changed by a retry.

mod ends;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::uri::Uri;

pub use ends::Ends;

/// One input of the job and the items it contributed. Each input is split on its own: no mini-batch crosses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitInput {
    /// The input's name in the job file (`input0`, `input1`, … for a list).
    pub name: String,
    /// The directory, or the address in the cloud, that the names of its items are relative to; empty for `lines`, whose items are taken as they are.
    pub root: String,
    /// The ordinals of its items; of a split that grows ([`Split::is_complete`]) nothing that counts.
    pub items: Range<u64>,
    /// Its entries in the list: its items, or of a table the files that its rows are in.
    pub entries: Range<u64>,
}

impl SplitInput {
    /// One whose entries are its items.
    pub fn of_items(name: impl Into<String>, root: impl Into<String>, items: Range<u64>) -> SplitInput {
        SplitInput { name: name.into(), root: root.into(), entries: items.clone(), items }
    }

    /// The address that its files lie at. None: they are on this machine, or it has none.
    pub fn uri(&self) -> Option<Uri> {
        Uri::is_meant(&self.root).then(|| Uri::parse(&self.root).ok()).flatten()
    }

    /// The address of its file called `name`. None: that is on this machine.
    pub fn address(&self, name: &[u8]) -> Option<String> {
        self.uri().map(|uri| uri.join(&String::from_utf8_lossy(name)).to_string())
    }
}

/// The split of a whole job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The inputs in the order of their items; their ranges are adjacent and start at 0.
    pub inputs: Vec<SplitInput>,
    /// Where mini-batches end.
    #[serde(flatten)]
    pub cut: Cut,
}

/// Where the mini-batches of a split end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cut {
    /// After so many items: arithmetic, so it costs nothing however many mini-batches there are.
    Even {
        /// Items in a mini-batch, at least 1; the last mini-batch of each input may be short.
        mini_batch_items: u64,
    },
    /// Where a list of them says.
    Listed(Ends),
}

impl Split {
    /// One that is cut after `mini_batch_items` items, with no inputs yet.
    pub fn even(mini_batch_items: u64) -> Split {
        Split { inputs: Vec::new(), cut: Cut::Even { mini_batch_items } }
    }

    /// Whether it is known to its end. Else the rest of the data is still being split, and there will be more.
    pub fn is_complete(&self) -> bool {
        match &self.cut {
            Cut::Even { .. } => true,
            Cut::Listed(ends) => ends.is_complete(),
        }
    }

    /// The same with the items of each input, which are known once it is complete.
    pub fn with_items(mut self) -> Split {
        let mut first = 0;
        for number in 0..self.inputs.len() {
            let end = first + self.items_of(number);
            self.inputs[number].items = first..end;
            first = end;
        }
        self
    }

    /// Whether `other` is of the same list, one of them perhaps from a time when it grew.
    pub fn is_same_list(&self, other: &Split) -> bool {
        let entries = |split: &Split| -> Vec<_> {
            split.inputs.iter().map(|input| (input.name.clone(), input.root.clone(), input.entries.clone())).collect()
        };
        match (&self.cut, &other.cut) {
            (Cut::Listed(ours), Cut::Listed(theirs)) => {
                let grew = !(self.is_complete() && other.is_complete());
                (grew || ours == theirs) && entries(self) == entries(other)
            }
            _ => self == other,
        }
    }

    /// The number of items, as far as they are split.
    pub fn items(&self) -> u64 {
        match &self.cut {
            Cut::Listed(ends) if ends.is_loaded() => ends.read().last(),
            _ => self.inputs.last().map_or(0, |input| input.items.end),
        }
    }

    /// The number of entries in the list.
    pub fn entries(&self) -> u64 {
        self.inputs.last().map_or(0, |input| input.entries.end)
    }

    /// The number of mini-batches, as far as there are any.
    pub fn mini_batches(&self) -> u64 {
        match &self.cut {
            Cut::Even { mini_batch_items } => self.inputs.iter().map(|input| count(input, *mini_batch_items)).sum(),
            Cut::Listed(ends) => ends.mini_batches(),
        }
    }

    /// The number of mini-batches of the input with this number.
    pub fn mini_batches_of(&self, input: usize) -> u64 {
        match &self.cut {
            Cut::Even { mini_batch_items } => count(&self.inputs[input], *mini_batch_items),
            Cut::Listed(ends) => {
                let of_input = ends.read().of_input(input);
                of_input.end - of_input.start
            }
        }
    }

    /// The number of items of the input with this number.
    pub fn items_of(&self, input: usize) -> u64 {
        match &self.cut {
            Cut::Listed(ends) => ends.items_of(input),
            Cut::Even { .. } => self.inputs[input].items.end - self.inputs[input].items.start,
        }
    }

    /// The input that mini-batch `id` belongs to, and the ordinals of its items.
    ///
    /// # Panics
    /// If `id` is not below [`Split::mini_batches`].
    pub fn mini_batch(&self, id: u64) -> (&SplitInput, Range<u64>) {
        match &self.cut {
            Cut::Even { mini_batch_items } => {
                let mut first = 0;
                for input in &self.inputs {
                    let count = count(input, *mini_batch_items);
                    if id < first + count {
                        let start = input.items.start + (id - first) * mini_batch_items;
                        return (input, start..(start + mini_batch_items).min(input.items.end));
                    }
                    first += count;
                }
            }
            Cut::Listed(ends) => {
                let table = ends.read();
                if id < table.len() {
                    return (&self.inputs[table.input(id)], table.start(id)..table.end(id));
                }
            }
        }
        panic!("mini-batch {id} is beyond the split");
    }

    /// The mini-batch that holds item `ordinal`.
    ///
    /// # Panics
    /// If `ordinal` is not below [`Split::items`].
    pub fn mini_batch_of(&self, ordinal: u64) -> u64 {
        match &self.cut {
            Cut::Even { mini_batch_items } => {
                let mut first = 0;
                for input in &self.inputs {
                    if input.items.contains(&ordinal) {
                        return first + (ordinal - input.items.start) / mini_batch_items;
                    }
                    first += count(input, *mini_batch_items);
                }
            }
            Cut::Listed(ends) => {
                let table = ends.read();
                if ordinal < table.last() {
                    return table.mini_batch_of(ordinal);
                }
            }
        }
        panic!("item {ordinal} is beyond the split");
    }
}

fn count(input: &SplitInput, mini_batch_items: u64) -> u64 {
    (input.items.end - input.items.start).div_ceil(mini_batch_items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers_every_item_once_and_crosses_no_input(split: &Split, most: u64) {
        let mut next = 0;
        for id in 0..split.mini_batches() {
            let (input, items) = split.mini_batch(id);
            assert_eq!(items.start, next);
            assert!(!items.is_empty() && items.end - items.start <= most && items.end <= input.items.end);
            assert!(items.clone().all(|i| split.mini_batch_of(i) == id));
            next = items.end;
        }
        let of_inputs: u64 = (0..split.inputs.len()).map(|input| split.mini_batches_of(input)).sum();
        assert_eq!((next, of_inputs), (split.items(), split.mini_batches()));
        assert_eq!((0..split.inputs.len()).map(|input| split.items_of(input)).sum::<u64>(), split.items());
    }

    fn inputs(sizes: &[u64]) -> Vec<SplitInput> {
        let mut at = 0;
        let input = |n: &u64| {
            let items = at..at + n;
            at += n;
            SplitInput { name: format!("input{at}"), root: String::new(), entries: items.clone(), items }
        };
        sizes.iter().map(input).collect()
    }

    proptest! {
        #[test]
        fn mini_batches_cover_every_item_once_and_cross_no_input(
            sizes in prop::collection::vec(0u64..30, 1..6), per in 1u64..8,
        ) {
            let split = Split { inputs: inputs(&sizes), ..Split::even(per) };
            covers_every_item_once_and_crosses_no_input(&split, per);
        }

        #[test]
        fn listed_mini_batches_do_so_too(sizes in prop::collection::vec(1u64..9, 0..700), later in 1usize..700) {
            let ends = Ends::growing();
            let later = later.min(sizes.len());
            let inputs = inputs(&[sizes[..later].iter().sum(), sizes[later..].iter().sum()]);
            let split = Split { inputs, cut: Cut::Listed(ends.clone()) };
            let mut end = 0;
            for (at, size) in sizes.iter().enumerate() {
                end += size;
                prop_assert!(ends.push(end, usize::from(at >= later)));
                if at == sizes.len() / 2 {
                    covers_every_item_once_and_crosses_no_input(&split, 9);
                }
            }
            let text = serde_json::to_string(&split).unwrap();
            let early: Split = serde_json::from_str(&text).unwrap();
            prop_assert!(!early.is_complete() && !split.is_complete() && early.is_same_list(&split));
            ends.complete_with(7);
            prop_assert!(split.is_complete() && early.is_same_list(&split));
            covers_every_item_once_and_crosses_no_input(&split, 9);
            // As text it is known again, though its ends are elsewhere.
            let text = serde_json::to_string(&split).unwrap();
            let read: Split = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &split);
            prop_assert!(matches!(read.cut, Cut::Listed(ends) if ends.mini_batches() == sizes.len() as u64));
        }
    }
}
