//! The pass that turns what is committed into one Parquet file, while the job is Finalizing.
//!
//! It reads the streams in the order of their commits, or of the input (`source.rs`), and writes row groups to a file of its own, beside the output, which is
//! given its name only when it is whole and on disk (`finish.rs`). Whatever dies meanwhile, what is committed is where it was, and the next
//! start makes the pass again. It holds one record batch, and one row group as Parquet has it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use fanfold_shared::failpoint;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::TableSchema;
use super::source::{Rows, Source};
use crate::aggregate::CommitError;
use crate::aggregate::ordered::Kept;
use crate::aggregate::rewrite::{FileResult, Hashed, Step, begin_file, failed};
use crate::ledger::LedgerReader;

/// A row group ends when it has so many rows, or was made of so many bytes.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: u64 = 128 << 20;
/// After so many bytes whoever drives the pass is asked.
const STEP_BYTES: u64 = 32 << 20;

/// What the pass reads and writes.
pub struct Opened<'a> {
    /// `<name>.partial`.
    pub partial: &'a Path,
    /// The committed length.
    pub committed: u64,
    /// The output as it was when mini-batches were opened again: what was committed by then is in it, and not in `.partial`.
    pub old: Option<(&'a Path, FileResult)>,
    /// The columns; None: no row was ever committed.
    pub schema: Option<&'a TableSchema>,
    /// The rows come in the order of the input; None: as they were committed.
    pub ordered: Option<Kept<'a>>,
}

impl Opened<'_> {
    /// The committed length that is in the old output.
    pub fn base(&self) -> u64 {
        self.old.as_ref().map_or(0, |(_, old)| old.frames)
    }
}

/// See the module documentation.
pub struct TablePass {
    source: Source,
    partial: PathBuf,
    committed: u64,
    schema: SchemaRef,
    path: PathBuf,
    /// None: the pass is over.
    writer: Option<ArrowWriter<Hashed>>,
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
    let source = Source::open(opened)?;
    let needed = opened.committed - opened.base() + opened.old.as_ref().map_or(0, |(_, old)| old.len);
    let (path, hashed) = begin_file(opened.partial, "the Parquet file", needed)?;
    let schema = Arc::new(opened.schema.map_or_else(Schema::empty, TableSchema::of_file));
    let mut options = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_created_by(format!("fanfold {}", env!("CARGO_PKG_VERSION")));
    if let Some(pandas) = opened.schema.and_then(TableSchema::pandas) {
        options = options.set_key_value_metadata(Some(vec![KeyValue::new("pandas".into(), pandas.clone())]));
    }
    let writer = ArrowWriter::try_new(hashed, schema.clone(), Some(options.build()))
        .map_err(|error| failed("write", &path, io::Error::other(error)))?;
    Ok(TablePass {
        source,
        partial: opened.partial.to_path_buf(),
        committed: opened.committed,
        schema,
        path,
        writer: Some(writer),
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
        if self.source.prepare(ledger)? {
            return Ok(Step::More(self.source.progress()));
        }
        let mut stepped = 0;
        while stepped < STEP_BYTES {
            let Some(rows) = self.source.next(ledger)? else { return self.end() };
            stepped += rows.bytes;
            self.put(&rows)?;
        }
        Ok(Step::More(self.source.progress()))
    }

    fn put(&mut self, Rows { batch, bytes }: &Rows) -> Result<(), CommitError> {
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
