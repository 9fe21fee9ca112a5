//! Where mini-batches that differ in size end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

/// The ends of all mini-batches: 4 bytes for each, and some more where mini-batches are huge. As text they are their number and a checksum of the list
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

/// What stands in place of an end that is so far behind the base of its block, or farther.
const FAR: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// The end before each block.
    bases: Vec<u64>,
    /// Each end less the base of its block, if that is less than [`FAR`]; in a block those that are not come last.
    ends: Vec<u32>,
    /// The ends that are too far from their base, by mini-batch: few, as their mini-batches have millions of items each.
    far: BTreeMap<u64, u64>,
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
        let follows = end > self.last && (self.inputs.len()..=self.inputs.len() + 1).contains(&(input + 1));
        if !follows {
            return false;
        }
        if input == self.inputs.len() {
            self.inputs.push(self.ends.len() as u64);
        }
        if first {
            self.bases.push(base);
        }
        let near = u32::try_from(end - base).ok().filter(|offset| *offset < FAR);
        if near.is_none() {
            self.far.insert(self.len(), end);
        }
        self.ends.push(near.unwrap_or(FAR));
        self.last = end;
        true
    }

    pub(super) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    pub(super) fn end(&self, id: u64) -> u64 {
        let at = id as usize;
        match self.ends[at] {
            FAR => self.far[&id],
            offset => self.bases[at / BLOCK] + u64::from(offset),
        }
    }

    /// The last end.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The end before mini-batch `id`.
    pub(super) fn start(&self, id: u64) -> u64 {
        if id == 0 { 0 } else { self.end(id - 1) }
    }

    /// The number of the input that mini-batch `id` is of.
    pub(super) fn input(&self, id: u64) -> usize {
        self.inputs.partition_point(|first| *first <= id) - 1
    }

    /// The mini-batches of the input with this number.
    pub(super) fn of_input(&self, input: usize) -> Range<u64> {
        let first = |input: usize| self.inputs.get(input).copied().unwrap_or(self.len());
        first(input)..first(input + 1)
    }

    /// The mini-batch that holds an item that there is.
    pub(super) fn mini_batch_of(&self, ordinal: u64) -> u64 {
        let block = self.bases.partition_point(|base| *base <= ordinal) - 1;
        let first = block * BLOCK;
        let ends = &self.ends[first..self.ends.len().min(first + BLOCK)];
        let offset = ordinal - self.bases[block];
        let at = ends.partition_point(|end| *end != FAR && u64::from(*end) <= offset);
        let id = (first + at) as u64;
        match ends.get(at) {
            Some(&FAR) => self.far.range(id..).find(|(_, end)| ordinal < **end).map_or(self.len(), |(id, _)| *id),
            _ => id,
        }
    }
}

impl Ends {
    /// None yet, and open for more.
    pub fn growing() -> Ends {
        Ends { stated: None, table: Arc::default() }
    }

    /// The next mini-batch ends before item `end`, and is of the input with this number, the same as the one before or the next one. False: it
    /// is not behind the one before.
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

    /// Whether there will be no more.
    pub(super) fn is_complete(&self) -> bool {
        self.complete().is_some()
    }

    /// Whether they are here, and not only stated.
    pub(super) fn is_loaded(&self) -> bool {
        self.stated.is_none()
    }

    fn complete(&self) -> Option<Complete> {
        self.stated.or_else(|| self.read().complete)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_behind_the_one_before() {
        let ends = Ends::growing();
        assert!(ends.push(3, 0) && !ends.push(3, 0) && !ends.push(2, 0));
        assert!(!ends.push(4, 2), "an input without any is refused where it is listed");
        assert!(ends.push(4, 1) && !ends.push(5, 0));
    }

    #[test]
    fn there_may_be_more_than_four_billion_items_between_neighbours() {
        const LIMIT: u64 = 1 << 32;
        // At the limit, around it, far beyond it; a block that is near again; one that begins with a far one; one of far ones only.
        let mut at = 7;
        let mut sizes = vec![7];
        for end in [LIMIT - 3, LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, 3 * LIMIT, 3 * LIMIT + 1] {
            sizes.push(end - at);
            at = end;
        }
        sizes.resize(2 * BLOCK, 3);
        sizes.push(1 << 40);
        sizes.resize(3 * BLOCK, 1);
        sizes.resize(4 * BLOCK + 10, LIMIT + 1);
        let (ends, mut expected, mut end) = (Ends::growing(), Vec::new(), 0);
        for size in &sizes {
            expected.push(end..end + size);
            end += size;
            assert!(ends.push(end, 0));
        }
        let table = ends.read();
        assert_eq!((table.len(), table.last()), (sizes.len() as u64, end));
        for (id, items) in expected.iter().enumerate() {
            let id = id as u64;
            assert_eq!((table.start(id), table.end(id)), (items.start, items.end));
            for ordinal in [items.start, items.start + (items.end - items.start) / 2, items.end - 1] {
                assert_eq!(table.mini_batch_of(ordinal), id, "{ordinal}");
            }
        }
        let second = BLOCK as u64..2 * BLOCK as u64;
        assert_eq!(table.far.range(second).count(), 0, "what is near takes 4 bytes");
    }
}
