//! The places of all rows, one after the other in the order of the input: noted commit by commit, then walked over.

use std::collections::VecDeque;
use std::path::Path;

use fanfold_shared::failpoint;
use fanfold_shared::split::Split;

use super::index::{Index, Place};
use crate::aggregate::CommitError;
use crate::aggregate::window::Window;
use crate::ledger::{GroupRow, LedgerReader, packed::Unpacker};

/// Commits that are asked for at once.
const GROUPS: u32 = 64;
/// After so many bytes whoever drives the pass is asked.
const STEP_BYTES: u64 = 32 << 20;
/// Mini-batches whose places are read at once.
const ENTRIES: u64 = 1 << 14;

/// Where the index is kept, and what it is of.
#[derive(Clone, Copy)]
pub(in crate::aggregate) struct Kept<'a> {
    /// Where the index may lie.
    pub index: &'a Path,
    /// The split.
    pub split: &'a Split,
}

/// How much rows are that lie in the old output, before the base: it has them in order, but need not have them as they were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aggregate) enum OldBy {
    /// It has: so many bytes.
    Bytes,
    /// It is another format: so many rows.
    Rows,
}

/// See the module documentation. [`Order::note`] until it says that this was all, then [`Order::next_place`].
pub(in crate::aggregate) struct Order {
    index: Index,
    split: Split,
    base: u64,
    old_by: OldBy,
    /// The last commit that was noted, and up to where their checksums were compared.
    last_group: i64,
    proven: u64,
    /// What was noted besides.
    rows: u64,
    header: Option<Place>,
    is_noted: bool,
    /// Of the split; counting them anew costs a walk over the inputs.
    mini_batches: u64,
    /// The first mini-batch whose places were not read, and those that were.
    next: u64,
    places: VecDeque<Place>,
}

impl Order {
    /// Nothing is noted yet.
    pub fn begin(kept: Kept<'_>, base: u64, old_by: OldBy) -> Result<Order, CommitError> {
        let mini_batches = kept.split.mini_batches();
        Ok(Order {
            index: Index::create(kept.index, mini_batches)?,
            split: kept.split.clone(),
            base,
            old_by,
            last_group: 0,
            proven: base,
            rows: 0,
            header: None,
            is_noted: false,
            mini_batches,
            next: 0,
            places: VecDeque::new(),
        })
    }

    /// Notes where the rows of some more commits lie, and proves that these are what was committed. Says whether there is more to note.
    pub fn note(&mut self, ledger: &LedgerReader, window: &Window) -> Result<bool, CommitError> {
        let before = self.proven;
        while !self.is_noted && self.proven - before < STEP_BYTES {
            let groups = ledger.packed_behind(self.last_group, GROUPS).map_err(CommitError::Ledger)?;
            if groups.is_empty() {
                self.index.complete()?;
                self.is_noted = true;
                failpoint!("order_indexed");
            }
            for (group, packed) in groups {
                self.last_group = group.id;
                window.prove(&group)?;
                self.proven = self.proven.max(group.offset + group.length);
                self.note_group(&group, &packed, window)?;
            }
        }
        Ok(!self.is_noted)
    }

    fn note_group(&mut self, group: &GroupRow, packed: &[u8], window: &Window) -> Result<(), CommitError> {
        if group.header_len > 0 {
            self.header = Some(Place { at: group.offset, amount: group.header_len });
        }
        let mut at = group.offset + group.header_len;
        let mut entries = Vec::new();
        for record in Unpacker::new(packed, &self.split) {
            let (record, items) = record.map_err(|error| {
                let text = format!("the records of commit {} can't be read: {error}", group.id);
                window.damaged(&text)
            })?;
            self.rows = self.rows.saturating_add(record.returned);
            let amount = match self.old_by {
                OldBy::Rows if at < self.base => record.returned,
                _ => record.rows_len,
            };
            let place = Place { at, amount };
            match record.part {
                Some(_) => self.index.part(record.mini_batch, items.start, place),
                None if amount > 0 => entries.push((record.mini_batch, place)),
                None => {}
            }
            at += record.rows_len;
        }
        self.index.put(entries)
    }

    /// Whether all commits are noted.
    pub fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// Committed bytes that are noted.
    pub fn noted(&self) -> u64 {
        self.proven - self.base
    }

    /// The results in all that is noted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Where the header line is, if there is one.
    pub fn header(&self) -> Option<Place> {
        self.header
    }

    /// The next rows; None: these were all.
    pub fn next_place(&mut self) -> Result<Option<Place>, CommitError> {
        self.look_ahead()?;
        Ok(self.places.pop_front())
    }

    /// How much the next rows are, if they lie in the old output; None: they don't, and are next as before.
    pub fn next_if_old(&mut self) -> Result<Option<u64>, CommitError> {
        self.look_ahead()?;
        let base = self.base;
        Ok(self.places.pop_front_if(|place| place.at < base).map(|place| place.amount))
    }

    fn look_ahead(&mut self) -> Result<(), CommitError> {
        while self.places.is_empty() && self.next < self.mini_batches {
            let end = self.mini_batches.min(self.next + ENTRIES);
            self.places = self.index.places(self.next..end)?.into();
            self.next = end;
        }
        Ok(())
    }
}
