//! Sorts names bytewise, however many: in runs that fit in memory, spilled to disk and merged.
//!
//! A spilled run has no name (it is unlinked as soon as it is open): what dies in the middle leaves nothing behind. Few
//! enough names are never spilled.
//!
//! Memory is bounded whatever comes: one run, and what a merge holds, which is a buffer and a name of each of its runs; where names are long, fewer runs
//! are merged at once.

mod runs;

use std::path::Path;

use fanfold_shared::failpoint;

use super::{Cancel, ListError};
use runs::{Run, merge, write_run};

/// The memory that a run may take before it is spilled, bytes.
pub(super) const RUN_BYTES: usize = 16 * 1024 * 1024;

/// Runs that are merged at once. Each holds a descriptor; when there are so many of one level, they are merged into one.
const FAN_IN: usize = 128;

/// The memory that the runs of a merge may take, bytes, if a run of the sort takes less. Two are merged whatever they take.
const MERGE_BYTES: usize = RUN_BYTES;

/// Names, and bytes of them, between two looks at whether to stop.
const CANCEL_EVERY: u64 = 4096;
const CANCEL_BYTES: usize = 1024 * 1024;

/// Takes names in any order and gives them back sorted.
pub(super) struct Sorter<'a> {
    dir: &'a Path,
    run_bytes: usize,
    fan_in: usize,
    merge_bytes: usize,
    cancel: &'a Cancel<'a>,
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// By how often their names were written already: those of one level are about as long as each other.
    levels: Vec<Vec<Run>>,
    spilled: u64,
}

/// A name in [`Sorter::names`].
#[derive(Clone, Copy)]
struct Entry {
    /// The eight bytes behind what all names of the run have in common: most comparisons need no more.
    key: u64,
    start: u32,
    len: u32,
}

impl<'a> Sorter<'a> {
    /// Spills into `dir` (the list's) whenever it holds `run_bytes`, at most 4 GiB. `cancel` is asked regularly while names are written or given
    /// back.
    pub(super) fn new(dir: &'a Path, run_bytes: usize, cancel: &'a Cancel<'a>) -> Sorter<'a> {
        Sorter {
            dir,
            run_bytes,
            fan_in: FAN_IN,
            merge_bytes: run_bytes.max(MERGE_BYTES),
            cancel,
            names: Vec::new(),
            entries: Vec::new(),
            levels: Vec::new(),
            spilled: 0,
        }
    }

    /// Adds a name.
    pub(super) fn push(&mut self, name: &[u8]) -> Result<(), ListError> {
        let used = self.names.len() + self.entries.len() * size_of::<Entry>();
        if used + name.len() > self.run_bytes && !self.entries.is_empty() {
            self.spill()?;
        }
        self.entries.push(Entry { key: 0, start: self.names.len() as u32, len: name.len() as u32 });
        self.names.extend_from_slice(name);
        Ok(())
    }

    /// Gives the names back in order.
    pub(super) fn drain(mut self, mut visit: impl FnMut(&[u8]) -> Result<(), ListError>) -> Result<(), ListError> {
        let mut asking = Asking::new(self.cancel);
        let mut visit = |name: &[u8]| {
            asking.before(name)?;
            visit(name)
        };
        if self.levels.is_empty() {
            self.sort();
            return self.entries.iter().try_for_each(|entry| visit(name(&self.names, entry)));
        }
        self.spill()?;
        self.names = Vec::new();
        self.entries = Vec::new();
        let mut runs: Vec<Run> = std::mem::take(&mut self.levels).into_iter().flatten().collect();
        loop {
            // The shortest are written once more, if not all of them can be merged at once.
            runs.sort_by_key(|run| run.bytes);
            let at_once = self.at_once(&runs);
            if at_once == runs.len() {
                return merge(self.dir, runs, visit);
            }
            let rest = runs.split_off(at_once);
            runs = vec![self.merged(runs)?];
            runs.extend(rest);
        }
    }

    /// How many of `runs`, from the first one on, may be merged at once: as many as memory is for, and two in any case.
    fn at_once(&self, runs: &[Run]) -> usize {
        let mut memory = 0;
        let fit = runs.iter().take_while(|run| {
            memory += run.memory();
            memory <= self.merge_bytes
        });
        fit.count().max(2).min(runs.len())
    }

    fn sort(&mut self) {
        let names = &self.names;
        let Some(first) = self.entries.first() else { return };
        let first = name(names, first);
        let mut common = first.len();
        for entry in &self.entries {
            let shared = first[..common].iter().zip(name(names, entry)).take_while(|(a, b)| a == b).count();
            common = common.min(shared);
        }
        for entry in &mut self.entries {
            let rest = &name(names, entry)[common..];
            let mut key = [0; 8];
            let len = rest.len().min(8);
            key[..len].copy_from_slice(&rest[..len]);
            entry.key = u64::from_be_bytes(key);
        }
        self.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key).then_with(|| name(names, a).cmp(name(names, b))));
    }

    fn spill(&mut self) -> Result<(), ListError> {
        self.sort();
        let (names, entries, mut asking) = (&self.names, &self.entries, Asking::new(self.cancel));
        let run = write_run(self.dir, self.spilled, |run| {
            entries.iter().try_for_each(|entry| {
                asking.before(name(names, entry))?;
                run(name(names, entry))
            })
        })?;
        self.spilled += 1;
        self.names.clear();
        self.entries.clear();
        failpoint!("items_run_spilled");
        self.keep(run, 0)
    }

    /// Keeps a run; when a level is full, its runs are merged into one of the next. So each name is written once a level, however many there are.
    fn keep(&mut self, run: Run, level: usize) -> Result<(), ListError> {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        let there = &self.levels[level];
        if there.len() < self.fan_in && self.at_once(there) == there.len() {
            return Ok(());
        }
        let mut runs = std::mem::take(&mut self.levels[level]);
        // The last one, which may be one too many, is the first of the next ones.
        let at_once = self.at_once(&runs);
        self.levels[level] = runs.split_off(at_once);
        let merged = self.merged(runs)?;
        self.keep(merged, level + 1)
    }

    /// One run of several.
    fn merged(&mut self, runs: Vec<Run>) -> Result<Run, ListError> {
        let (dir, mut asking) = (self.dir, Asking::new(self.cancel));
        let merged = write_run(dir, self.spilled, |run| {
            merge(dir, runs, |name| {
                asking.before(name)?;
                run(name)
            })
        })?;
        self.spilled += 1;
        Ok(merged)
    }
}

fn name<'n>(names: &'n [u8], entry: &Entry) -> &'n [u8] {
    &names[entry.start as usize..][..entry.len as usize]
}

/// Asks every some names whether to go on, and oftener where they are long.
struct Asking<'a> {
    cancel: &'a Cancel<'a>,
    names: u64,
    bytes: usize,
}

impl<'a> Asking<'a> {
    fn new(cancel: &'a Cancel<'a>) -> Asking<'a> {
        Asking { cancel, names: 0, bytes: 0 }
    }

    fn before(&mut self, name: &[u8]) -> Result<(), ListError> {
        (self.names, self.bytes) = (self.names + 1, self.bytes + name.len());
        if self.names < CANCEL_EVERY && self.bytes < CANCEL_BYTES {
            return Ok(());
        }
        (self.names, self.bytes) = (0, 0);
        (self.cancel)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::fs;

    fn sorted(names: &BTreeSet<Vec<u8>>, run_bytes: usize, fan_in: usize, merge_bytes: usize) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), run_bytes, &|| Ok(()));
        (sorter.fan_in, sorter.merge_bytes) = (fan_in, merge_bytes);
        // A fixed order that is not the sorted one.
        let mut shuffled: Vec<_> = names.iter().collect();
        shuffled.sort_by_key(|name| crc32fast::hash(name));
        shuffled.iter().for_each(|name| sorter.push(name).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "runs have no names");
        let mut out = Vec::new();
        sorter
            .drain(|name| {
                out.push(name.to_vec());
                Ok(())
            })
            .unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn it_sorts_like_an_ordered_set(
            names in prop::collection::btree_set(prop::collection::vec(prop::sample::select(&b"ab/\0\xff"[..]), 0..24), 0..80),
            run_bytes in 1usize..2000,
            fan_in in 2usize..6,
            merge_bytes in prop::sample::select(&[1, 200_000, MERGE_BYTES][..]),
        ) {
            let expected: Vec<_> = names.iter().cloned().collect();
            prop_assert_eq!(sorted(&names, run_bytes, fan_in, merge_bytes), expected);
        }
    }

    #[test]
    fn what_cannot_be_spilled_names_the_path_and_stopping_stops() {
        let missing = Path::new("/nonexistent");
        let mut sorter = Sorter::new(missing, 1, &|| Ok(()));
        sorter.push(b"a").unwrap();
        let error = sorter.push(b"b").unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/nonexistent/sort-0.tmp`");

        let mut sorter = Sorter::new(missing, RUN_BYTES, &|| Err(ListError::Canceled));
        (0..=CANCEL_EVERY).for_each(|i| sorter.push(&i.to_be_bytes()).unwrap());
        assert!(matches!(sorter.drain(|_| Ok(())), Err(ListError::Canceled)));
    }

    #[test]
    fn merging_is_stopped_while_names_come_and_when_they_go() {
        let dir = tempfile::tempdir().unwrap();
        for (fan_in, most) in [(8, 5), (9, 3)] {
            let (asked, counts) = (Cell::new(0), Cell::new(false));
            let cancel = || {
                asked.set(asked.get() + u32::from(counts.get()));
                ListError::canceled_if(asked.get() > most)
            };
            // Each is a run of its own, and asks once wherever it goes.
            let mut sorter = Sorter::new(dir.path(), 1, &cancel);
            sorter.fan_in = fan_in;
            let name = vec![7; CANCEL_BYTES];
            (0..8).for_each(|_| sorter.push(&name).unwrap());
            counts.set(true);
            let mut given_back = 0;
            let stopped = match fan_in {
                // The eighth run makes a level full.
                8 => sorter.push(&name),
                _ => sorter.drain(|_| {
                    given_back += 1;
                    Ok(())
                }),
            };
            assert!(matches!(stopped, Err(ListError::Canceled)), "{stopped:?}");
            assert_eq!(asked.get(), most + 1, "it stops where it is told");
            assert!(given_back < most);
        }
    }
}
