//! The pass that turns what is committed into one Parquet file, while the job is Finalizing.
//!
//! It reads the streams in the order of their commits, and writes row groups to a file of its own, beside the output, which is given
//! its name only when it is whole and on disk (`finish.rs`). Whatever dies meanwhile, what is committed is where it was, and the next
//! start makes the pass again. It holds one record batch, and one row group as Parquet has it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use fanfold_shared::failpoint;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::super::CommitError;
use super::super::output::crc_of;
use super::super::rewrite::{FileResult, Hashed, Progress, Step, failed, new_path, there_is_room};
use super::TableSchema;
use crate::ledger::{GroupRow, LedgerReader};

/// A row group ends when it has so many rows, or was made of so many bytes.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: u64 = 128 << 20;
/// Rows that are read at once of a Parquet file.
const OLD_ROWS: usize = 1 << 16;
/// After so many bytes whoever drives the pass is asked.
const STEP_BYTES: u64 = 32 << 20;
/// Commits that are asked for at once.
const GROUPS: u32 = 256;
/// Bytes of one read or write.
const CHUNK: usize = 1 << 20;

/// What the pass reads and writes.
pub struct Opened<'a> {
    /// `<name>.partial`.
    pub partial: &'a Path,
    /// The committed length, and the part of it that is in the old output and not in `.partial`.
    pub committed: u64,
    /// The output as it was when mini-batches were opened again: its rows come first.
    pub old: Option<(&'a Path, FileResult)>,
    /// The columns; None: no row was ever committed.
    pub schema: Option<&'a TableSchema>,
}

/// See the module documentation.
pub struct TablePass {
    partial: PathBuf,
    frames: Frames,
    /// The stream that is being read.
    stream: Option<StreamReader<Frames>>,
    old: Option<(PathBuf, FileResult, ParquetRecordBatchReader)>,
    old_rows: u64,
    schema: SchemaRef,
    path: PathBuf,
    writer: Option<ArrowWriter<Hashed>>,
    base: u64,
    committed: u64,
    /// Commits that are next to be compared with their checksums; the last one that was; and up to where that goes.
    groups_read: VecDeque<GroupRow>,
    last_group: i64,
    proven: u64,
    /// Row groups that are written, and the bytes that the next one was made of.
    groups: usize,
    group_bytes: u64,
    rows: u64,
}

/// Begins the pass, if there is room for as much as it reads.
///
/// # Errors
/// [`CommitError::DiskFull`], and whatever keeps a file from being opened.
pub fn open(opened: &Opened<'_>) -> Result<TablePass, CommitError> {
    let path = new_path(opened.partial);
    // Of a start that died in the middle of it.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, error)),
        _ => {}
    }
    let base = opened.old.as_ref().map_or(0, |(_, old)| old.frames);
    let needed = opened.committed - base + opened.old.as_ref().map_or(0, |(_, old)| old.len);
    there_is_room(&path, "the Parquet file", needed)?;
    let frames = File::open(opened.partial).map_err(|error| failed("open", opened.partial, error))?;
    let schema = Arc::new(opened.schema.map_or_else(Schema::empty, TableSchema::of_file));
    let mut options = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_created_by(format!("fanfold {}", env!("CARGO_PKG_VERSION")));
    if let Some(pandas) = opened.schema.and_then(TableSchema::pandas) {
        options = options.set_key_value_metadata(Some(vec![KeyValue::new("pandas".into(), pandas.clone())]));
    }
    let file = File::create(&path).map_err(|error| failed("create", &path, error))?;
    let hashed = Hashed::new(file);
    let writer = ArrowWriter::try_new(hashed, schema.clone(), Some(options.build()))
        .map_err(|error| failed("write", &path, io::Error::other(error)))?;
    let old = match opened.old {
        None => None,
        Some((old, result)) => {
            let batches = File::open(old)
                .map_err(ParquetError::from)
                .and_then(|file| ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(OLD_ROWS).build());
            Some((old.to_path_buf(), result, batches.map_err(|error| failed("read", old, io::Error::other(error)))?))
        }
    };
    Ok(TablePass {
        partial: opened.partial.to_path_buf(),
        frames: Frames(Rc::new(RefCell::new((BufReader::with_capacity(CHUNK, frames), 0)))),
        stream: None,
        old,
        old_rows: 0,
        schema,
        path,
        writer: Some(writer),
        base,
        committed: opened.committed,
        groups_read: VecDeque::new(),
        last_group: 0,
        proven: 0,
        groups: 0,
        group_bytes: 0,
        rows: 0,
    })
}

impl TablePass {
    /// Does a part of it: some dozen MiB.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: the pass is over, and has left nothing behind; begin another one when there is room. Anything else
    /// needs a new start.
    pub fn step(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let stepped = self.step_on(ledger);
        if stepped.is_err() {
            self.writer = None;
            let _ = fs::remove_file(&self.path);
        }
        stepped
    }

    fn step_on(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        let mut stepped = 0;
        while stepped < STEP_BYTES {
            let Some((batch, bytes)) = self.next(ledger)? else { return self.end() };
            stepped += bytes;
            self.put(&batch, bytes)?;
        }
        Ok(Step::More(self.progress()))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let (of_old, old_len) = match &self.old {
            Some((_, old, _)) => (old.len * self.old_rows / old.rows.max(1), old.len),
            None => (0, 0),
        };
        Progress { done: of_old + self.frames.read(), of: old_len + self.committed - self.base }
    }

    /// The next rows, and how many bytes they are.
    fn next(&mut self, ledger: &LedgerReader) -> Result<Option<(RecordBatch, u64)>, CommitError> {
        if let Some((path, old, batches)) = &mut self.old
            && self.old_rows < old.rows
        {
            let batch = batches.next().transpose().map_err(|error| failed("read", path, io::Error::other(error)))?;
            let rows = batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            if rows == 0 || self.old_rows + rows > old.rows {
                let text = format!("it has not got the {} rows that the ledger says", old.rows);
                return Err(failed("read", path, io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            self.old_rows += rows;
            return Ok(batch.map(|batch| (batch, old.len * rows / old.rows)));
        }
        loop {
            let before = self.frames.read();
            if self.stream.is_none() && before == self.committed - self.base {
                return Ok(None);
            }
            self.prove(self.base + before, ledger)?;
            let batch = self.of_stream().map_err(|error| {
                let at = self.base + before;
                let text = format!("what is committed at byte {at} is no record batch of Arrow ({error})");
                failed("read", &self.partial, io::Error::new(io::ErrorKind::InvalidData, text))
            })?;
            if let Some(batch) = batch {
                return Ok(Some((batch, self.frames.read() - before)));
            }
        }
    }

    /// Compares what is about to be read with the checksum of its commit: who decodes it may trust it, and damage on the disk becomes
    /// nobody's result.
    fn prove(&mut self, at: u64, ledger: &LedgerReader) -> Result<(), CommitError> {
        while at >= self.proven {
            if self.groups_read.is_empty() {
                self.groups_read = ledger.groups_behind(self.last_group, GROUPS).map_err(CommitError::Ledger)?.into();
            }
            let group = self.groups_read.pop_front().ok_or_else(|| {
                let text = format!("no commit covers byte {at}");
                failed("read", &self.partial, io::Error::new(io::ErrorKind::InvalidData, text))
            })?;
            (self.last_group, self.proven) = (group.id, group.offset + group.length);
            if group.offset < self.base {
                continue;
            }
            let found = crc_of(self.frames.0.borrow().0.get_ref(), group.offset - self.base, group.length);
            let found = found.map_err(|error| failed("read", &self.partial, error))?;
            if found != group.crc32 {
                let text = format!(
                    "the {} bytes from byte {} on don't have the checksum of their commit",
                    group.length, group.offset
                );
                return Err(failed("read", &self.partial, io::Error::new(io::ErrorKind::InvalidData, text)));
            }
        }
        Ok(())
    }

    /// The next batch of the stream that is being read, or of a new one; None: that one is over.
    fn of_stream(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(StreamReader::try_new(self.frames.clone(), None)?),
        };
        let batch = stream.next().transpose()?;
        if batch.is_none() {
            self.stream = None;
        }
        Ok(batch)
    }

    fn put(&mut self, batch: &RecordBatch, bytes: u64) -> Result<(), CommitError> {
        let batch = fitted(batch, &self.schema).map_err(|error| {
            let text = format!("rows behind row {} don't have the columns of the output ({error})", self.rows);
            failed("read", &self.partial, io::Error::new(io::ErrorKind::InvalidData, text))
        })?;
        let writer = self.writer.as_mut().expect("the pass has not failed");
        let mut written = writer.write(&batch);
        self.rows += batch.num_rows() as u64;
        self.group_bytes += bytes;
        if written.is_ok() && self.group_bytes >= GROUP_BYTES {
            written = writer.flush();
        }
        let groups = writer.flushed_row_groups().len();
        if groups > self.groups {
            (self.groups, self.group_bytes) = (groups, 0);
        }
        written.map_err(|error| self.refused(error))?;
        failpoint!("table_half_written");
        Ok(())
    }

    /// The footer, and all of it on disk.
    fn end(&mut self) -> Result<Step, CommitError> {
        let writer = self.writer.as_mut().expect("the pass has not failed");
        if let Err(error) = writer.finish() {
            return Err(self.refused(error));
        }
        let written = writer.inner_mut().end(&self.path, self.rows, self.committed)?;
        self.writer = None;
        Ok(Step::Done(written))
    }

    fn refused(&mut self, error: ParquetError) -> CommitError {
        // What the file system said is wrapped more than once.
        let said = self.writer.as_mut().and_then(|writer| writer.inner_mut().error.take());
        failed("write to", &self.path, said.unwrap_or_else(|| io::Error::other(error)))
    }
}

impl Drop for TablePass {
    fn drop(&mut self) {
        // Given up in the middle: half a file is of no use, and may be large.
        if self.writer.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// With the columns of the output, in their order and of their types.
pub(super) fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // What would not fit was refused when it was committed: here nothing may silently become null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |name: &str, data_type| -> Result<ArrayRef, ArrowError> {
        let array = batch
            .column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("there is no column `{name}`")))?;
        match array.data_type() == data_type {
            true => Ok(array.clone()),
            // Whatever type it was given, it has no value.
            false if array.null_count() == array.len() || array.logical_null_count() == array.len() => {
                Ok(new_null_array(data_type, array.len()))
            }
            false => cast_with_options(array, data_type, &options),
        }
    };
    let columns =
        schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}

/// `.partial`, read from its beginning by one stream after the other; and how many bytes were.
#[derive(Clone)]
struct Frames(Rc<RefCell<(BufReader<File>, u64)>>);

impl Frames {
    fn read(&self) -> u64 {
        self.0.borrow().1
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, read) = &mut *self.0.borrow_mut();
        let bytes = file.read(buffer)?;
        *read += bytes as u64;
        Ok(bytes)
    }
}
