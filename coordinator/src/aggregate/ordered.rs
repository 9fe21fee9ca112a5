//! The pass that writes the rows in the order of the input, while the job is Finalizing (`docs/design/ordered.md`).
//!
//! First an index is made: where the rows of each mini-batch lie, by its number. It is a file, as a job may have more mini-batches than memory. Then the rows
//! are copied in its order to a file beside the output, which is given its name when it is whole (`finish.rs`). Whatever dies meanwhile, what is committed is
//! where it was, and the next start makes the pass again.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use fanfold_shared::failpoint;
use fanfold_shared::split::Split;

use super::CommitError;
use super::output::crc_of;
use super::rewrite::{FileResult, Hashed, Progress, Step, failed, new_path, there_is_room};
use crate::ledger::packed::Unpacker;
use crate::ledger::{GroupRow, LedgerReader};

/// Commits that are asked for at once.
const GROUPS: u32 = 64;
/// After so many bytes, or mini-batches, whoever drives the pass is asked.
const STEP_BYTES: u64 = 32 << 20;
const STEP_ENTRIES: u64 = 1 << 17;
/// Bytes that are read at once: rows of neighbours were mostly committed near each other.
const WINDOW: usize = 256 << 10;
/// Bytes of an entry in the index: where the rows begin, one more than that, and how many bytes they are. 0 and 0: there are none.
const ENTRY: usize = 16;
/// In place of where they begin: they came in parts.
const IN_PARTS: u64 = u64::MAX;

/// What the pass reads and writes.
pub(super) struct Opened<'a> {
    /// `<name>.partial`.
    pub partial: &'a Path,
    /// The committed length.
    pub committed: u64,
    /// The output as it was when mini-batches were opened again: what was committed by then is in it, in order, and not in `.partial`.
    pub old: Option<(&'a Path, FileResult)>,
    /// Where the index may lie.
    pub index: &'a Path,
    /// The split.
    pub split: &'a Split,
}

/// See the module documentation.
pub struct OrderPass {
    phase: Phase,
    source: Source,
    index: Index,
    split: Split,
    header: Option<(u64, u64)>,
    committed: u64,
    /// Bytes whose checksums were compared.
    proven: u64,
    last_group: i64,
    rows: u64,
    path: PathBuf,
    out: Option<Hashed>,
}

enum Phase {
    Index,
    /// The next mini-batch.
    Copy(u64),
}

/// Begins the pass, if there is room for what it writes.
///
/// # Errors
/// [`CommitError::DiskFull`], and whatever keeps a file from being opened.
pub(super) fn open(opened: &Opened<'_>) -> Result<OrderPass, CommitError> {
    let path = new_path(opened.partial);
    for left in [path.as_path(), opened.index] {
        // Of a start that died in the middle of it.
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", left, error)),
            _ => {}
        }
    }
    let base = opened.old.as_ref().map_or(0, |(_, old)| old.frames);
    let needed = opened.committed - base + opened.old.as_ref().map_or(0, |(_, old)| old.len);
    there_is_room(&path, "the file with the rows in order", needed)?;
    let partial = File::open(opened.partial).map_err(|error| failed("open", opened.partial, error))?;
    let old = match opened.old {
        None => None,
        Some((old, result)) => {
            let file = File::open(old).map_err(|error| failed("open", old, error))?;
            let file = BufReader::with_capacity(WINDOW, file);
            Some(Old { path: old.to_path_buf(), result, file, hasher: Hasher::new(), read: 0 })
        }
    };
    let index = Index::create(opened.index, opened.split.mini_batches())?;
    let out = File::create(&path).map_err(|error| failed("create", &path, error))?;
    let source = Source { path: opened.partial.to_path_buf(), file: partial, base, window: Vec::new(), at: 0, old };
    Ok(OrderPass {
        phase: Phase::Index,
        source,
        index,
        split: opened.split.clone(),
        header: None,
        committed: opened.committed,
        proven: base,
        last_group: 0,
        rows: 0,
        path,
        out: Some(Hashed::new(out)),
    })
}

impl OrderPass {
    /// Does a part of it.
    ///
    /// # Errors
    /// See [`super::Pass::step`].
    pub fn step(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let stepped = match self.phase {
            Phase::Index => self.index(ledger),
            Phase::Copy(next) => self.copy(next),
        };
        if stepped.is_err() {
            self.give_up();
        }
        stepped
    }

    fn give_up(&mut self) {
        self.out = None;
        let _ = fs::remove_file(&self.path);
    }

    /// Notes where the rows of some more commits lie, and proves that these are what was committed.
    fn index(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let before = self.proven;
        while self.proven - before < STEP_BYTES {
            let groups = ledger.packed_behind(self.last_group, GROUPS).map_err(CommitError::Ledger)?;
            if groups.is_empty() {
                self.index.flush()?;
                failpoint!("order_indexed");
                self.begin_to_copy()?;
                return Ok(Step::More(self.progress()));
            }
            for (group, packed) in groups {
                self.last_group = group.id;
                self.source.prove(&group)?;
                self.proven = self.proven.max(group.offset + group.length);
                self.note(&group, &packed)?;
            }
        }
        Ok(Step::More(self.progress()))
    }

    fn note(&mut self, group: &GroupRow, packed: &[u8]) -> Result<(), CommitError> {
        if group.header_len > 0 {
            self.header = Some((group.offset, group.header_len));
        }
        let mut at = group.offset + group.header_len;
        let mut entries = Vec::new();
        for record in Unpacker::new(packed, &self.split) {
            let (record, items) = record.map_err(|error| {
                let text = format!("the records of commit {} can't be read: {error}", group.id);
                self.source.damaged(&text)
            })?;
            self.rows = self.rows.saturating_add(record.returned);
            match record.part {
                Some(_) => self.index.part(record.mini_batch, items.start, at, record.rows_len),
                None if record.rows_len > 0 => entries.push((record.mini_batch, at, record.rows_len)),
                None => {}
            }
            at += record.rows_len;
        }
        self.index.put(entries)
    }

    fn begin_to_copy(&mut self) -> Result<(), CommitError> {
        self.phase = Phase::Copy(0);
        if let Some((at, len)) = self.header {
            self.take(at, len)?;
        }
        Ok(())
    }

    /// Copies the rows of some more mini-batches.
    fn copy(&mut self, mut next: u64) -> Result<Step, CommitError> {
        let mini_batches = self.split.mini_batches();
        let before = self.written();
        while next < mini_batches && self.written() - before < STEP_BYTES {
            let end = mini_batches.min(next + STEP_ENTRIES);
            for (at, len) in self.index.entries(next..end)? {
                if at == IN_PARTS {
                    for (at, len) in self.index.parts_of(next) {
                        self.take(at, len)?;
                    }
                } else if len > 0 {
                    self.take(at, len)?;
                }
                next += 1;
                if self.written() - before >= STEP_BYTES {
                    break;
                }
            }
            failpoint!("order_half_written");
        }
        self.phase = Phase::Copy(next);
        if next < mini_batches {
            return Ok(Step::More(self.progress()));
        }
        self.source.is_read_up()?;
        let out = self.out.as_mut().expect("the pass has not failed");
        let written = out.end(&self.path, self.rows, self.committed)?;
        self.out = None;
        Ok(Step::Done(written))
    }

    fn written(&self) -> u64 {
        self.out.as_ref().map_or(0, Hashed::len)
    }

    /// Each byte is read twice: once to prove it, once to copy it.
    fn progress(&self) -> Progress {
        let (base, old) = (self.source.base, self.source.old.as_ref().map_or(0, |old| old.result.len));
        let new = self.committed - base;
        Progress { done: self.proven - base + self.written(), of: 2 * new + old }
    }

    /// Copies bytes that were committed.
    fn take(&mut self, at: u64, len: u64) -> Result<(), CommitError> {
        let out = self.out.as_mut().expect("the pass has not failed");
        let path = &self.path;
        self.source.read(at, len, &mut |bytes| {
            let written = out.write_all(bytes);
            written.map_err(|error| failed("write to", path, out.error.take().unwrap_or(error)))
        })
    }
}

impl Drop for OrderPass {
    fn drop(&mut self) {
        // Given up in the middle: half a file is of no use, and may be large.
        if self.out.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What was committed: in `.partial`, and, what came before `base`, in the old output, where it is read from the beginning to the end, as it is in
/// order already.
struct Source {
    path: PathBuf,
    file: File,
    base: u64,
    /// What of `.partial` is in memory, and where it begins there.
    window: Vec<u8>,
    at: u64,
    old: Option<Old>,
}

struct Old {
    path: PathBuf,
    result: FileResult,
    file: BufReader<File>,
    hasher: Hasher,
    read: u64,
}

type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<(), CommitError>;

impl Source {
    fn read(&mut self, at: u64, len: u64, take: Take<'_>) -> Result<(), CommitError> {
        if at < self.base {
            let old = self.old.as_mut().expect("what lies before the base is in the old output");
            return old.read(len, take);
        }
        let (mut at, mut left) = (at - self.base, len);
        while left > 0 {
            let held = self.at..self.at + self.window.len() as u64;
            if !held.contains(&at) {
                self.window.resize(WINDOW, 0);
                let read = self.file.read_at(&mut self.window, at);
                let read = read.map_err(|error| failed("read", &self.path, error))?;
                self.window.truncate(read);
                self.at = at;
                if read == 0 {
                    return Err(self.damaged("it ends before what is committed does"));
                }
                continue;
            }
            let from = (at - self.at) as usize;
            let upto = self.window.len().min(from + left.min(WINDOW as u64) as usize);
            take(&self.window[from..upto])?;
            (at, left) = (at + (upto - from) as u64, left - (upto - from) as u64);
        }
        Ok(())
    }

    /// Compares a commit with its checksum: damage on the disk becomes nobody's result. The old output is compared as it is read.
    fn prove(&self, group: &GroupRow) -> Result<(), CommitError> {
        if group.offset < self.base || group.length == 0 {
            return Ok(());
        }
        let found = crc_of(&self.file, group.offset - self.base, group.length);
        if found.map_err(|error| failed("read", &self.path, error))? == group.crc32 {
            return Ok(());
        }
        let GroupRow { offset, length, .. } = group;
        Err(self.damaged(&format!("the {length} bytes from byte {offset} on don't have the checksum of their commit")))
    }

    fn damaged(&self, what: &str) -> CommitError {
        failed("read", &self.path, io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// All of the old output was read, and it is what it was.
    fn is_read_up(&self) -> Result<(), CommitError> {
        match &self.old {
            Some(old) if old.read != old.result.len || old.hasher.clone().finalize() != old.result.crc32 => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "it is not the file that this job wrote");
                Err(failed("read", &old.path, error))
            }
            _ => Ok(()),
        }
    }
}

impl Old {
    fn read(&mut self, mut left: u64, take: Take<'_>) -> Result<(), CommitError> {
        let mut buffer = vec![0; WINDOW.min(left as usize)];
        while left > 0 {
            let bytes = &mut buffer[..WINDOW.min(left as usize)];
            self.file.read_exact(bytes).map_err(|error| failed("read", &self.path, error))?;
            self.hasher.update(bytes);
            (self.read, left) = (self.read + bytes.len() as u64, left - bytes.len() as u64);
            take(bytes)?;
        }
        Ok(())
    }
}

/// Where the rows of each mini-batch lie.
struct Index {
    path: PathBuf,
    file: File,
    in_parts: HashSet<u64>,
    /// By mini-batch and first item. Those that are bisected are few.
    parts: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Index {
    fn create(path: &Path, mini_batches: u64) -> Result<Index, CommitError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| failed("create", path, error))?;
        let refused = |error| failed("write to", path, error);
        file.set_len(mini_batches * ENTRY as u64).map_err(refused)?;
        // Nobody but this pass needs it.
        fs::remove_file(path).map_err(refused)?;
        Ok(Index { path: path.to_path_buf(), file, in_parts: HashSet::new(), parts: BTreeMap::new() })
    }

    fn part(&mut self, mini_batch: u64, first_item: u64, at: u64, len: u64) {
        self.in_parts.insert(mini_batch);
        self.parts.insert((mini_batch, first_item), (at, len));
    }

    fn parts_of(&self, mini_batch: u64) -> Vec<(u64, u64)> {
        self.parts.range((mini_batch, 0)..(mini_batch + 1, 0)).map(|(_, place)| *place).collect()
    }

    /// Neighbours are written together: mini-batches are mostly committed in their order.
    fn put(&mut self, mut entries: Vec<(u64, u64, u64)>) -> Result<(), CommitError> {
        entries.sort_unstable();
        for run in entries.chunk_by(|(before, ..), (after, ..)| before + 1 == *after) {
            let bytes: Vec<u8> =
                run.iter().flat_map(|(_, at, len)| [(at + 1).to_le_bytes(), len.to_le_bytes()]).flatten().collect();
            self.write(run[0].0, &bytes)?;
        }
        Ok(())
    }

    fn write(&self, mini_batch: u64, bytes: &[u8]) -> Result<(), CommitError> {
        let written = self.file.write_all_at(bytes, mini_batch * ENTRY as u64);
        written.map_err(|error| failed("write to", &self.path, error))
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        let mut in_parts: Vec<u64> = self.in_parts.drain().collect();
        in_parts.sort_unstable();
        for mini_batch in in_parts {
            self.write(mini_batch, &[IN_PARTS.to_le_bytes(), [0; 8]].concat())?;
        }
        Ok(())
    }

    /// Where the rows of these mini-batches lie, and how many bytes they are: [`IN_PARTS`], or 0 bytes if there are none.
    fn entries(&self, mini_batches: std::ops::Range<u64>) -> Result<Vec<(u64, u64)>, CommitError> {
        let mut bytes = vec![0; (mini_batches.end - mini_batches.start) as usize * ENTRY];
        let read = self.file.read_exact_at(&mut bytes, mini_batches.start * ENTRY as u64);
        read.map_err(|error| failed("read", &self.path, error))?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let entry = |entry: &[u8]| match word(&entry[..8]) {
            IN_PARTS => (IN_PARTS, 0),
            at => (at.saturating_sub(1), word(&entry[8..])),
        };
        Ok(bytes.chunks_exact(ENTRY).map(entry).collect())
    }
}
