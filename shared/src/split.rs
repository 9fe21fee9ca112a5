//! How the items of a job are cut into mini-batches: fixed when the item list is written, never changed by a retry.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::uri::Uri;

/// One input of the job and the items it contributed. Each input is split on its own: no mini-batch crosses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitInput {
    /// The input's name in the job file (`input0`, `input1`, … for a list).
    pub name: String,
    /// The directory, or the address in the cloud, that the names of its items are relative to; empty for `lines`, whose items are taken as they are.
    pub root: String,
    /// The ordinals of its items.
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

/// The ends of all mini-batches: 4 bytes for each. As text they are their number and a checksum of the list
/// ([`crate::items`]) that they are read from again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ends {
    mini_batches: u64,
    slices_crc32: u32,
    #[serde(skip)]
    table: Arc<Table>,
}

impl PartialEq for Ends {
    fn eq(&self, other: &Ends) -> bool {
        (self.mini_batches, self.slices_crc32) == (other.mini_batches, other.slices_crc32)
    }
}

impl Eq for Ends {}

/// Blocks of so many ends have a base.
const BLOCK: usize = 256;

#[derive(Debug, Default)]
struct Table {
    /// The end before each block.
    bases: Vec<u64>,
    /// Each end less the base of its block. Blocks of more than 2³² items are refused when they are made.
    ends: Vec<u32>,
}

/// Collects [`Ends`] in order.
#[derive(Debug, Default)]
pub struct EndsBuilder {
    table: Table,
    last: u64,
}

impl EndsBuilder {
    /// The next mini-batch ends before item `end`. False: it is not behind the one before, or too far.
    #[must_use]
    pub fn push(&mut self, end: u64) -> bool {
        let first = self.table.ends.len().is_multiple_of(BLOCK);
        let base = if first { self.last } else { *self.table.bases.last().expect("pushed at the first") };
        let offset = end.checked_sub(base).and_then(|offset| u32::try_from(offset).ok());
        let Some(offset) = offset.filter(|_| end > self.last) else { return false };
        if first {
            self.table.bases.push(base);
        }
        self.table.ends.push(offset);
        self.last = end;
        true
    }

    /// All of them; `slices_crc32` is of the file that they are read from again.
    pub fn finish(self, slices_crc32: u32) -> Ends {
        Ends { mini_batches: self.table.ends.len() as u64, slices_crc32, table: Arc::new(self.table) }
    }
}

impl Ends {
    /// How many there are.
    pub fn mini_batches(&self) -> u64 {
        self.mini_batches
    }

    /// The checksum of the file that they are in.
    pub fn slices_crc32(&self) -> u32 {
        self.slices_crc32
    }

    /// Whether the ends themselves are here, and not only what they are called.
    pub fn is_loaded(&self) -> bool {
        self.table.ends.len() as u64 == self.mini_batches
    }

    fn end(&self, id: u64) -> u64 {
        let at = id as usize;
        self.table.bases[at / BLOCK] + u64::from(self.table.ends[at])
    }

    /// The items of mini-batch `id`.
    fn items(&self, id: u64) -> Range<u64> {
        let start = if id == 0 { 0 } else { self.end(id - 1) };
        start..self.end(id)
    }

    /// The mini-batch that holds an item that there is.
    fn mini_batch_of(&self, ordinal: u64) -> u64 {
        let block = self.table.bases.partition_point(|base| *base <= ordinal) - 1;
        let first = block * BLOCK;
        let ends = &self.table.ends[first..self.table.ends.len().min(first + BLOCK)];
        let offset = ordinal - self.table.bases[block];
        (first + ends.partition_point(|end| u64::from(*end) <= offset)) as u64
    }
}

impl Split {
    /// One that is cut after `mini_batch_items` items, with no inputs yet.
    pub fn even(mini_batch_items: u64) -> Split {
        Split { inputs: Vec::new(), cut: Cut::Even { mini_batch_items } }
    }

    /// The number of items.
    pub fn items(&self) -> u64 {
        self.inputs.last().map_or(0, |input| input.items.end)
    }

    /// The number of entries in the list.
    pub fn entries(&self) -> u64 {
        self.inputs.last().map_or(0, |input| input.entries.end)
    }

    /// The number of mini-batches.
    pub fn mini_batches(&self) -> u64 {
        match &self.cut {
            Cut::Even { mini_batch_items } => self.inputs.iter().map(|input| count(input, *mini_batch_items)).sum(),
            Cut::Listed(ends) => ends.mini_batches(),
        }
    }

    /// The number of mini-batches of one input.
    pub fn mini_batches_of(&self, input: &SplitInput) -> u64 {
        match &self.cut {
            Cut::Even { mini_batch_items } => count(input, *mini_batch_items),
            Cut::Listed(_) if input.items.is_empty() => 0,
            Cut::Listed(ends) => ends.mini_batch_of(input.items.end - 1) + 1 - ends.mini_batch_of(input.items.start),
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
            Cut::Listed(ends) if id < ends.mini_batches() => {
                let items = ends.items(id);
                let input = self.inputs.iter().find(|input| input.items.contains(&items.start));
                return (input.expect("the inputs cover every item"), items);
            }
            Cut::Listed(_) => (),
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
            Cut::Listed(ends) if ordinal < self.items() => return ends.mini_batch_of(ordinal),
            Cut::Listed(_) => (),
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
        let (mut next, mut of_inputs) = (0, 0);
        for id in 0..split.mini_batches() {
            let (input, items) = split.mini_batch(id);
            assert_eq!(items.start, next);
            assert!(!items.is_empty() && items.end - items.start <= most && items.end <= input.items.end);
            assert!(items.clone().all(|i| split.mini_batch_of(i) == id));
            next = items.end;
        }
        of_inputs += split.inputs.iter().map(|input| split.mini_batches_of(input)).sum::<u64>();
        assert_eq!((next, of_inputs), (split.items(), split.mini_batches()));
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
            let mut builder = EndsBuilder::default();
            let mut end = 0;
            for size in &sizes {
                end += size;
                prop_assert!(builder.push(end));
            }
            let later = later.min(sizes.len());
            let cut = Cut::Listed(builder.finish(7));
            let inputs = inputs(&[sizes[..later].iter().sum(), sizes[later..].iter().sum()]);
            let split = Split { inputs, cut };
            covers_every_item_once_and_crosses_no_input(&split, 9);
            // As text it is known again, though its ends are elsewhere.
            let text = serde_json::to_string(&split).unwrap();
            let read: Split = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &split);
            prop_assert!(matches!(read.cut, Cut::Listed(ends) if ends.is_loaded() == sizes.is_empty()));
        }
    }

    #[test]
    fn an_end_is_behind_the_one_before_and_not_too_far() {
        let mut builder = EndsBuilder::default();
        assert!(builder.push(3) && !builder.push(3) && !builder.push(2));
        assert!(!builder.push(1 << 33));
    }
}
