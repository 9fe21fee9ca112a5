//! The rows that become a Parquet file, a record batch at a time: as they were committed, or in the order of the input.
//!
//! What was committed before the output was last finished is in that file, and comes first; in the order of the input it is there in that order, so it is
//! taken one row after the other whenever it is its turn. No more than one record batch is in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::Opened;
use crate::aggregate::CommitError;
use crate::aggregate::ordered::{OldBy, Order};
use crate::aggregate::rewrite::{FileResult, Progress, failed};
use crate::aggregate::window::Window;
use crate::ledger::{GroupRow, LedgerReader};

/// Rows that are read at once of a Parquet file.
const OLD_ROWS: usize = 1 << 16;
/// Commits that are asked for at once.
const GROUPS: u32 = 256;

/// Some rows.
pub(super) struct Rows {
    pub batch: RecordBatch,
    /// The bytes that were read for them.
    pub bytes: u64,
}

/// See the module documentation.
pub(super) struct Source {
    frames: Frames,
    /// The stream that is being read.
    stream: Option<StreamReader<Frames>>,
    old: Option<Old>,
    base: u64,
    committed: u64,
    turns: Turns,
}

/// Whose rows are next.
enum Turns {
    /// Everything as it was committed.
    Committed(Commits),
    /// The mini-batches in the order of the input.
    Input {
        order: Box<Order>,
        /// Rows of the old output that are next. Neighbours there are taken at once.
        of_old: u64,
    },
}

/// Commits that are next to be compared with their checksums; the last one that was; and up to where that goes.
#[derive(Default)]
struct Commits {
    ahead: VecDeque<GroupRow>,
    last: i64,
    proven: u64,
}

impl Source {
    pub fn open(opened: &Opened<'_>) -> Result<Source, CommitError> {
        let (base, committed) = (opened.base(), opened.committed);
        let window = Window::open(opened.partial, base)?;
        let old = opened.old.map(|(path, result)| Old::open(path, result)).transpose()?;
        let turns = match opened.ordered {
            None => Turns::Committed(Commits::default()),
            Some(kept) => Turns::Input { order: Box::new(Order::begin(kept, base, OldBy::Rows)?), of_old: 0 },
        };
        let end = if opened.ordered.is_some() { base } else { committed };
        let frames = Frames(Rc::new(RefCell::new(Reading { window, at: base, end, read: 0 })));
        Ok(Source { frames, stream: None, old, base, committed, turns })
    }

    /// Does a part of what must be done before there are rows. Says whether it did: then ask again.
    pub fn prepare(&mut self, ledger: &LedgerReader) -> Result<bool, CommitError> {
        match &mut self.turns {
            Turns::Input { order, .. } if !order.is_noted() => {
                order.note(ledger, &self.frames.0.borrow().window)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// How far it is. In the order of the input what is committed is read twice: once to prove it, once for its rows.
    pub fn progress(&self) -> Progress {
        let (of_old, old_len) = self.old.as_ref().map_or((0, 0), |old| (old.bytes_taken(), old.result.len));
        let new = self.committed - self.base;
        let read = of_old + self.frames.read();
        match &self.turns {
            Turns::Committed(_) => Progress { done: read, of: old_len + new },
            Turns::Input { order, .. } => Progress { done: order.noted() + read, of: old_len + 2 * new },
        }
    }

    /// The next rows; None: these were all.
    pub fn next(&mut self, ledger: &LedgerReader) -> Result<Option<Rows>, CommitError> {
        loop {
            if self.stream.is_none() {
                if let Some(rows) = self.next_old()? {
                    return Ok(Some(rows));
                }
                if !self.next_stream(ledger)? {
                    return Ok(None);
                }
            }
            if let Some(rows) = self.of_stream()? {
                return Ok(Some(rows));
            }
        }
    }

    /// Rows of the old output, if it is their turn.
    fn next_old(&mut self) -> Result<Option<Rows>, CommitError> {
        let Some(old) = &mut self.old else { return Ok(None) };
        match &mut self.turns {
            Turns::Committed(_) if old.is_used_up() => Ok(None),
            Turns::Committed(_) => old.take(u64::MAX).map(Some),
            Turns::Input { order, of_old } => {
                while *of_old < OLD_ROWS as u64
                    && let Some(rows) = order.next_if_old()?
                {
                    *of_old += rows;
                }
                if *of_old == 0 {
                    return Ok(None);
                }
                let rows = old.take(*of_old)?;
                *of_old -= rows.batch.num_rows() as u64;
                Ok(Some(rows))
            }
        }
    }

    /// Begins the next stream of what is committed. Who decodes it may trust it: it was compared with the checksum of its commit. Says whether there is one.
    fn next_stream(&mut self, ledger: &LedgerReader) -> Result<bool, CommitError> {
        match &mut self.turns {
            Turns::Committed(commits) => {
                let reading = self.frames.0.borrow();
                if reading.at == reading.end {
                    return Ok(false);
                }
                commits.prove(reading.at, &reading.window, ledger)?;
            }
            Turns::Input { order, .. } => {
                let Some(place) = order.next_place()? else {
                    return match &self.old {
                        Some(old) if !old.is_used_up() => Err(old.damaged("other rows than the ledger says")),
                        _ => Ok(false),
                    };
                };
                let mut reading = self.frames.0.borrow_mut();
                (reading.at, reading.end) = (place.at, place.at + place.amount);
            }
        }
        let at = self.frames.0.borrow().at;
        let stream = StreamReader::try_new(self.frames.clone(), None).map_err(|error| self.undecodable(at, &error))?;
        self.stream = Some(stream);
        Ok(true)
    }

    /// The next batch of the stream that is being read; None: it is over.
    fn of_stream(&mut self) -> Result<Option<Rows>, CommitError> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let (at, before) = (self.frames.0.borrow().at, self.frames.read());
        let batch = stream.next().transpose().map_err(|error| self.undecodable(at, &error))?;
        if batch.is_none() {
            self.stream = None;
            self.is_read_up(at)?;
        }
        Ok(batch.map(|batch| Rows { batch, bytes: self.frames.read() - before }))
    }

    /// In the order of the input a stream has all bytes of its place: what lay behind it would be left out.
    fn is_read_up(&self, at: u64) -> Result<(), CommitError> {
        let Reading { window, at: read, end, .. } = &*self.frames.0.borrow();
        match self.turns {
            Turns::Input { .. } if read < end => {
                Err(window.damaged(&format!("the rows that end at byte {at} should end at byte {end}")))
            }
            _ => Ok(()),
        }
    }

    fn undecodable(&self, at: u64, error: &ArrowError) -> CommitError {
        let text = format!("what is committed at byte {at} is no record batch of Arrow ({error})");
        self.frames.0.borrow().window.damaged(&text)
    }
}

impl Commits {
    /// Compares all commits up to the one that has this byte.
    fn prove(&mut self, at: u64, window: &Window, ledger: &LedgerReader) -> Result<(), CommitError> {
        while at >= self.proven {
            if self.ahead.is_empty() {
                self.ahead = ledger.groups_behind(self.last, GROUPS).map_err(CommitError::Ledger)?.into();
            }
            let group = self.ahead.pop_front().ok_or_else(|| window.damaged(&format!("no commit covers byte {at}")))?;
            (self.last, self.proven) = (group.id, group.offset + group.length);
            window.prove(&group)?;
        }
        Ok(())
    }
}

/// The old output, read from its first row to its last one.
struct Old {
    path: PathBuf,
    result: FileResult,
    batches: ParquetRecordBatchReader,
    /// What is left of the batch that was read last.
    rest: Option<RecordBatch>,
    /// Rows that were read, and those of them that were taken.
    read: u64,
    taken: u64,
}

impl Old {
    fn open(path: &Path, result: FileResult) -> Result<Old, CommitError> {
        let batches = File::open(path)
            .map_err(ParquetError::from)
            .and_then(|file| ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(OLD_ROWS).build())
            .map_err(|error| failed("read", path, io::Error::other(error)))?;
        Ok(Old { path: path.to_path_buf(), result, batches, rest: None, read: 0, taken: 0 })
    }

    /// The next rows, at most so many and at least one.
    fn take(&mut self, most: u64) -> Result<Rows, CommitError> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => self.next_batch()?,
        };
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(batch.num_rows());
        if count < batch.num_rows() {
            self.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        let before = self.bytes_taken();
        self.taken += count as u64;
        Ok(Rows { batch: batch.slice(0, count), bytes: self.bytes_taken() - before })
    }

    fn next_batch(&mut self) -> Result<RecordBatch, CommitError> {
        let batch = self.batches.next().transpose();
        let batch = batch.map_err(|error| failed("read", &self.path, io::Error::other(error)))?;
        let rows = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        self.read += rows;
        match batch {
            Some(batch) if rows > 0 && self.read <= self.result.rows => Ok(batch),
            _ => Err(self.damaged(&format!("not the {} rows that the ledger says", self.result.rows))),
        }
    }

    fn is_used_up(&self) -> bool {
        self.taken == self.result.rows
    }

    /// The bytes of the file that its rows so far are, as if all rows were alike.
    fn bytes_taken(&self) -> u64 {
        let FileResult { len, rows, .. } = self.result;
        (u128::from(len) * u128::from(self.taken) / u128::from(rows.max(1))) as u64
    }

    fn damaged(&self, has: &str) -> CommitError {
        failed("read", &self.path, io::Error::new(io::ErrorKind::InvalidData, format!("it has {has}")))
    }
}

/// What is committed, read by one stream after the other.
#[derive(Clone)]
struct Frames(Rc<RefCell<Reading>>);

struct Reading {
    window: Window,
    /// The next byte, and the first one that isn't there to be read.
    at: u64,
    end: u64,
    /// Bytes that were read.
    read: u64,
}

impl Frames {
    fn read(&self) -> u64 {
        self.0.borrow().read
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reading = &mut *self.0.borrow_mut();
        let most = buffer.len().min(usize::try_from(reading.end - reading.at).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let bytes = reading.window.read(reading.at, most)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        let read = bytes.len();
        (reading.at, reading.read) = (reading.at + read as u64, reading.read + read as u64);
        Ok(read)
    }
}
