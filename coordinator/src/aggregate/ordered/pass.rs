//! The pass that copies text in the order of the input.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use fanfold_shared::failpoint;

use super::index::Place;
use super::{Kept, OldBy, Order};
use crate::aggregate::CommitError;
use crate::aggregate::rewrite::{FileResult, Hashed, Progress, Step, begin_file, failed};
use crate::aggregate::window::Window;
use crate::ledger::LedgerReader;

/// After so many bytes whoever drives the pass is asked.
const STEP_BYTES: u64 = 32 << 20;
/// Bytes that are read at once of the old output.
const CHUNK: usize = 256 << 10;

/// What the pass reads and writes.
pub(in crate::aggregate) struct Opened<'a> {
    /// `<name>.partial`.
    pub partial: &'a Path,
    /// The committed length.
    pub committed: u64,
    /// The output as it was when mini-batches were opened again: what was committed by then is in it, in order, and not in `.partial`.
    pub old: Option<(&'a Path, FileResult)>,
    /// The index.
    pub kept: Kept<'a>,
}

/// See the module documentation.
pub struct OrderPass {
    order: Order,
    window: Window,
    base: u64,
    old: Option<Old>,
    committed: u64,
    path: PathBuf,
    /// None: the pass is over.
    out: Option<Hashed>,
}

/// Begins the pass, if there is room for what it writes.
///
/// # Errors
/// [`CommitError::DiskFull`], and whatever keeps a file from being opened.
pub(in crate::aggregate) fn open(opened: &Opened<'_>) -> Result<OrderPass, CommitError> {
    let base = opened.old.as_ref().map_or(0, |(_, old)| old.frames);
    let needed = opened.committed - base + opened.old.as_ref().map_or(0, |(_, old)| old.len);
    let window = Window::open(opened.partial, base)?;
    let old = opened.old.map(|(path, result)| Old::open(path, result)).transpose()?;
    let order = Order::begin(opened.kept, base, OldBy::Bytes)?;
    let (path, out) = begin_file(opened.partial, "the file with the rows in order", needed)?;
    Ok(OrderPass { order, window, base, old, committed: opened.committed, path, out: Some(out) })
}

impl OrderPass {
    /// Does a part of it.
    ///
    /// # Errors
    /// See [`crate::aggregate::Pass::step`].
    pub fn step(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let stepped = match self.order.is_noted() {
            false => self.index(ledger),
            true => self.copy(),
        };
        if stepped.is_err() {
            self.out = None;
            let _ = fs::remove_file(&self.path);
        }
        stepped
    }

    fn index(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let more = self.order.note(ledger, &self.window)?;
        if let (false, Some(header)) = (more, self.order.header()) {
            self.take(header)?;
        }
        Ok(Step::More(self.progress()))
    }

    /// Copies the rows of some more mini-batches.
    fn copy(&mut self) -> Result<Step, CommitError> {
        let before = self.written();
        while self.written() - before < STEP_BYTES {
            let Some(place) = self.order.next_place()? else { return self.end() };
            self.take(place)?;
            failpoint!("order_half_written");
        }
        Ok(Step::More(self.progress()))
    }

    fn end(&mut self) -> Result<Step, CommitError> {
        if let Some(old) = &self.old {
            old.is_read_up()?;
        }
        let out = self.out.as_mut().expect("the pass has not failed");
        let written = out.end(&self.path, self.order.rows(), self.committed)?;
        self.out = None;
        Ok(Step::Done(written))
    }

    fn written(&self) -> u64 {
        self.out.as_ref().map_or(0, Hashed::len)
    }

    /// Each byte is read twice: once to prove it, once to copy it.
    fn progress(&self) -> Progress {
        let old = self.old.as_ref().map_or(0, |old| old.result.len);
        Progress { done: self.order.noted() + self.written(), of: 2 * (self.committed - self.base) + old }
    }

    /// Copies bytes that were committed.
    fn take(&mut self, Place { mut at, amount }: Place) -> Result<(), CommitError> {
        let out = self.out.as_mut().expect("the pass has not failed");
        let mut put = |bytes: &[u8]| {
            let written = out.write_all(bytes);
            written.map_err(|error| failed("write to", &self.path, out.error.take().unwrap_or(error)))
        };
        if at < self.base {
            let old = self.old.as_mut().expect("what lies before the base is in the old output");
            return old.read(amount, &mut put);
        }
        let end = at + amount;
        while at < end {
            let bytes = match self.window.read(at, usize::try_from(end - at).unwrap_or(usize::MAX)) {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.window.unreadable(error)),
            };
            if bytes.is_empty() {
                return Err(self.window.damaged("it ends before what is committed does"));
            }
            put(bytes)?;
            at += bytes.len() as u64;
        }
        Ok(())
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

/// The old output. It is read from the beginning to the end, as it is in order already, and compared with its checksum meanwhile.
struct Old {
    path: PathBuf,
    result: FileResult,
    file: BufReader<File>,
    hasher: Hasher,
    read: u64,
}

impl Old {
    fn open(path: &Path, result: FileResult) -> Result<Old, CommitError> {
        let file = File::open(path).map_err(|error| failed("open", path, error))?;
        let file = BufReader::with_capacity(CHUNK, file);
        Ok(Old { path: path.to_path_buf(), result, file, hasher: Hasher::new(), read: 0 })
    }

    fn read(
        &mut self,
        mut left: u64,
        put: &mut impl FnMut(&[u8]) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut buffer = vec![0; CHUNK.min(left as usize)];
        while left > 0 {
            let bytes = &mut buffer[..CHUNK.min(left as usize)];
            self.file.read_exact(bytes).map_err(|error| failed("read", &self.path, error))?;
            self.hasher.update(bytes);
            (self.read, left) = (self.read + bytes.len() as u64, left - bytes.len() as u64);
            put(bytes)?;
        }
        Ok(())
    }

    /// All of it was read, and it is what it was.
    fn is_read_up(&self) -> Result<(), CommitError> {
        if self.read == self.result.len && self.hasher.clone().finalize() == self.result.crc32 {
            return Ok(());
        }
        let error = io::Error::new(io::ErrorKind::InvalidData, "it is not the file that this job wrote");
        Err(failed("read", &self.path, error))
    }
}
