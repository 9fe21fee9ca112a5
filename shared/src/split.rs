//! How the items of a job are cut into mini-batches: fixed when they are written down, never changed by a retry.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use crate::uri::Uri;

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
///
/// Where mini-batches run while the rest of the data is still being split, the list grows: then clones of one value grow together, and
/// what is in is never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StatedEnds", into = "StatedEnds")]
pub struct Ends {
    /// What a text says of them; None: they are all in `table`, as far as there are any.
    stated: Option<Complete>,
    table: Arc<RwLock<Table>>,
}

/// What is known of a complete list of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Complete {
    mini_batches: u64,
    slices_crc32: u32,
}

/// [`Ends`] as text. One that grows has neither number nor checksum yet.
#[derive(Serialize, Deserialize)]
struct StatedEnds {
    mini_batches: u64,
    slices_crc32: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    growing: bool,
}

impl From<StatedEnds> for Ends {
    fn from(stated: StatedEnds) -> Ends {
        let StatedEnds { mini_batches, slices_crc32, growing } = stated;
        let stated = (!growing).then_some(Complete { mini_batches, slices_crc32 });
        Ends { stated, table: Arc::default() }
    }
}

impl From<Ends> for StatedEnds {
    fn from(ends: Ends) -> StatedEnds {
        match ends.complete() {
            Some(Complete { mini_batches, slices_crc32 }) => StatedEnds { mini_batches, slices_crc32, growing: false },
            None => StatedEnds { mini_batches: 0, slices_crc32: 0, growing: true },
        }
    }
}

impl PartialEq for Ends {
    /// Whether they are of one list: of two that grow nothing says otherwise.
    fn eq(&self, other: &Ends) -> bool {
        self.complete() == other.complete()
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
    /// The last end.
    last: u64,
    /// The first mini-batch of each input that has one.
    inputs: Vec<u64>,
    /// Nothing is added any more.
    complete: Option<Complete>,
}

impl Table {
    fn push(&mut self, end: u64, input: usize) -> bool {
        let first = self.ends.len().is_multiple_of(BLOCK);
        let base = if first { self.last } else { *self.bases.last().expect("pushed at the first") };
        let offset = end.checked_sub(base).and_then(|offset| u32::try_from(offset).ok());
        let follows = end > self.last && (self.inputs.len()..=self.inputs.len() + 1).contains(&(input + 1));
        let Some(offset) = offset.filter(|_| follows) else { return false };
        if input == self.inputs.len() {
            self.inputs.push(self.ends.len() as u64);
        }
        if first {
            self.bases.push(base);
        }
        self.ends.push(offset);
        self.last = end;
        true
    }

    fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    fn end(&self, id: u64) -> u64 {
        let at = id as usize;
        self.bases[at / BLOCK] + u64::from(self.ends[at])
    }

    /// The end before mini-batch `id`.
    fn start(&self, id: u64) -> u64 {
        if id == 0 { 0 } else { self.end(id - 1) }
    }

    /// The number of the input that mini-batch `id` is of.
    fn input(&self, id: u64) -> usize {
        self.inputs.partition_point(|first| *first <= id) - 1
    }

    /// The mini-batches of the input with this number.
    fn of_input(&self, input: usize) -> Range<u64> {
        let first = |input: usize| self.inputs.get(input).copied().unwrap_or(self.len());
        first(input)..first(input + 1)
    }

    /// The mini-batch that holds an item that there is.
    fn mini_batch_of(&self, ordinal: u64) -> u64 {
        let block = self.bases.partition_point(|base| *base <= ordinal) - 1;
        let first = block * BLOCK;
        let ends = &self.ends[first..self.ends.len().min(first + BLOCK)];
        let offset = ordinal - self.bases[block];
        (first + ends.partition_point(|end| u64::from(*end) <= offset)) as u64
    }
}

impl Ends {
    /// None yet, and open for more.
    pub fn growing() -> Ends {
        Ends { stated: None, table: Arc::default() }
    }

    /// The next mini-batch ends before item `end`, and is of the input with this number, the same as the one before or the next one. False: it
    /// is not behind the one before, or too far.
    #[must_use]
    pub fn push(&self, end: u64, input: usize) -> bool {
        self.write().push(end, input)
    }

    /// There are no more; `slices_crc32` is of the file that they are read from again.
    pub fn complete_with(&self, slices_crc32: u32) {
        let mut table = self.write();
        table.complete = Some(Complete { mini_batches: table.len(), slices_crc32 });
    }

    /// How many there are, or are so far.
    pub fn mini_batches(&self) -> u64 {
        self.stated.map_or_else(|| self.read().len(), |stated| stated.mini_batches)
    }

    /// The checksum of the file that they are in; None: they grow.
    pub fn slices_crc32(&self) -> Option<u32> {
        self.complete().map(|complete| complete.slices_crc32)
    }

    /// The number of items in this mini-batch.
    pub fn items(&self, mini_batch: u64) -> u64 {
        let table = self.read();
        table.end(mini_batch) - table.start(mini_batch)
    }

    /// The number of items of the input with this number, so far.
    pub fn items_of(&self, input: usize) -> u64 {
        let table = self.read();
        let of_input = table.of_input(input);
        table.start(of_input.end) - table.start(of_input.start)
    }

    fn complete(&self) -> Option<Complete> {
        self.stated.or_else(|| self.read().complete)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
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
            Cut::Listed(ends) => ends.complete().is_some(),
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
            Cut::Listed(ends) if ends.stated.is_none() => ends.read().last,
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
                if ordinal < table.last {
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

    #[test]
    fn an_end_is_behind_the_one_before_and_not_too_far() {
        let ends = Ends::growing();
        assert!(ends.push(3, 0) && !ends.push(3, 0) && !ends.push(2, 0));
        assert!(!ends.push(1 << 33, 0));
        assert!(!ends.push(4, 2), "an input without any is refused where it is listed");
        assert!(ends.push(4, 1) && !ends.push(5, 0));
    }
}
