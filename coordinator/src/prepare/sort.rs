//! Sorts names bytewise, however many: in runs that fit in memory, spilled to disk and merged.
//!
//! A spilled run has no name (it is unlinked as soon as it is open): what dies in the middle leaves nothing behind. Few
//! enough names are never spilled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use fanfold_shared::failpoint;
use fanfold_shared::items::spill_file;
use fanfold_shared::report::{During, IoError};

use super::{Cancel, ListError};

/// The memory that a run may take before it is spilled, bytes.
pub(super) const RUN_BYTES: usize = 16 * 1024 * 1024;

/// Runs that are merged at once. Each holds a descriptor; when there are so many of one level, they are merged into one.
const FAN_IN: usize = 128;

/// The buffer of each run while merging: all of them together stay below a run's own size.
const MERGE_BUFFER: usize = 64 * 1024;

/// Names between two looks at whether to stop.
const CANCEL_EVERY: u64 = 4096;

/// Takes names in any order and gives them back sorted.
pub(super) struct Sorter<'a> {
    dir: &'a Path,
    run_bytes: usize,
    fan_in: usize,
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

/// A sorted run on disk: each name with its length before it.
struct Run(BufReader<File>);

impl<'a> Sorter<'a> {
    /// Spills into `dir` (the list's) whenever it holds `run_bytes`, at most 4 GiB.
    pub(super) fn new(dir: &'a Path, run_bytes: usize) -> Sorter<'a> {
        Sorter {
            dir,
            run_bytes,
            fan_in: FAN_IN,
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

    /// Gives the names back in order. `cancel` is asked regularly; true stops it.
    pub(super) fn drain(
        mut self,
        cancel: &Cancel<'_>,
        mut visit: impl FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<(), ListError> {
        let mut seen = 0u64;
        let mut visit = |name: &[u8]| {
            seen += 1;
            if seen.is_multiple_of(CANCEL_EVERY) {
                cancel()?;
            }
            visit(name)
        };
        if self.levels.is_empty() {
            self.sort();
            return self.entries.iter().try_for_each(|entry| visit(name(&self.names, entry)));
        }
        self.spill()?;
        self.names = Vec::new();
        self.entries = Vec::new();
        merge(self.dir, self.levels.into_iter().flatten().collect(), visit)
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
        let (names, entries) = (&self.names, &self.entries);
        let run =
            write_run(self.dir, self.spilled, |run| entries.iter().try_for_each(|entry| run(name(names, entry))))?;
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
        if self.levels[level].len() < self.fan_in {
            return Ok(());
        }
        let (dir, runs) = (self.dir, std::mem::take(&mut self.levels[level]));
        let merged = write_run(dir, self.spilled, |run| merge(dir, runs, run))?;
        self.spilled += 1;
        self.keep(merged, level + 1)
    }
}

fn name<'n>(names: &'n [u8], entry: &Entry) -> &'n [u8] {
    &names[entry.start as usize..][..entry.len as usize]
}

/// Writes a run: `fill` calls what it is given with each name, in order.
fn write_run(
    dir: &Path,
    n: u64,
    fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), ListError>) -> Result<(), ListError>,
) -> Result<Run, ListError> {
    let path = spill_file(dir, n);
    let failed = |operation| {
        let path = path.clone();
        move |source: io::Error| ListError::Spill(IoError { operation, path: path.clone(), source })
    };
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed("create"))?;
    fs::remove_file(&path).map_err(failed("remove"))?;
    let mut writer = BufWriter::with_capacity(MERGE_BUFFER, file);
    fill(&mut |name| {
        let len = (name.len() as u32).to_le_bytes();
        writer.write_all(&len).and_then(|()| writer.write_all(name)).map_err(failed("write"))
    })?;
    let mut file = writer.into_inner().map_err(|error| failed("write")(error.into_error()))?;
    file.rewind().map_err(failed("read"))?;
    Ok(Run(BufReader::with_capacity(MERGE_BUFFER, file)))
}

impl Run {
    /// Reads the next name into `name`; false at the end.
    fn next(&mut self, name: &mut Vec<u8>) -> io::Result<bool> {
        let mut len = [0; 4];
        match self.0.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        name.resize(u32::from_le_bytes(len) as usize, 0);
        self.0.read_exact(name)?;
        Ok(true)
    }
}

/// Calls `visit` with the names of all `runs`, in order.
fn merge(
    dir: &Path,
    mut runs: Vec<Run>,
    mut visit: impl FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (at, run) in runs.iter_mut().enumerate() {
        let mut name = Vec::new();
        if run.next(&mut name).during("read a sorted run in", dir).map_err(ListError::Spill)? {
            heap.push(Reverse((name, at)));
        }
    }
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((name, at)) = &mut *top;
        visit(name)?;
        if !runs[*at].next(name).during("read a sorted run in", dir).map_err(ListError::Spill)? {
            PeekMut::pop(top);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sorted(names: &BTreeSet<Vec<u8>>, run_bytes: usize, fan_in: usize) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), run_bytes);
        sorter.fan_in = fan_in;
        // A fixed order that is not the sorted one.
        let mut shuffled: Vec<_> = names.iter().collect();
        shuffled.sort_by_key(|name| crc32fast::hash(name));
        shuffled.iter().for_each(|name| sorter.push(name).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "runs have no names");
        let mut out = Vec::new();
        sorter
            .drain(&|| Ok(()), |name| {
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
        ) {
            let expected: Vec<_> = names.iter().cloned().collect();
            prop_assert_eq!(sorted(&names, run_bytes, fan_in), expected);
        }
    }

    #[test]
    fn what_cannot_be_spilled_names_the_path_and_stopping_stops() {
        let missing = Path::new("/nonexistent");
        let mut sorter = Sorter::new(missing, 1);
        sorter.push(b"a").unwrap();
        let error = sorter.push(b"b").unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/nonexistent/sort-0.tmp`");

        let mut sorter = Sorter::new(missing, RUN_BYTES);
        (0..=CANCEL_EVERY).for_each(|i| sorter.push(&i.to_be_bytes()).unwrap());
        assert!(matches!(sorter.drain(&|| Err(ListError::Canceled), |_| Ok(())), Err(ListError::Canceled)));
    }
}
