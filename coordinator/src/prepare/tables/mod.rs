//! From a table to its slices: each file is read once, and where a mini-batch of it begins and ends is written down
//! (`docs/design/tables.md`).

mod head;
mod object;
mod parquet;
mod pieces;
mod records;
mod remote;
mod rows;
mod text;

pub(super) use object::ObjectFile;
pub(super) use parquet::is_plausible;
pub(super) use records::Dialect;
pub(super) use rows::Part;
pub(super) use text::Compression;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use fanfold_shared::items::{Fingerprint, Slice};
use fanfold_shared::job::{InputType, JobSpec, MiniBatchSize, ReadCsv};
use fanfold_store::Client;

use super::{Cancel, ListError};

/// Takes a slice of a file and the number of its rows.
pub(super) type Take<'a> = dyn FnMut(Slice, u64) -> Result<(), ListError> + 'a;

/// How the tables of a job are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    kind: InputType,
    size: MiniBatchSize,
    read_csv: &'a ReadCsv,
    /// Only the first file of the job has a header.
    header_in_first_file: bool,
}

/// One file of an input.
#[derive(Clone)]
pub(super) struct TableFile<'a> {
    /// The input's name in the job file.
    pub(super) input: &'a str,
    pub(super) path: &'a Path,
    /// Its entry in the list.
    pub(super) entry: u32,
    /// If it lies in the cloud: who reads it, and what the listing said of it.
    pub(super) object: Option<(Client, Fingerprint)>,
    /// It is the first of the job.
    pub(super) first: bool,
}

/// Where in a file its next slice begins.
#[derive(Clone, Copy, Debug)]
struct After {
    /// The end of the one before: a byte, or a row group.
    end: u64,
    header_len: u32,
    first_row: u64,
}

impl<'a> Tables<'a> {
    #[cfg(fuzzing)]
    pub(super) fn raw(kind: InputType, size: MiniBatchSize, read_csv: &'a ReadCsv) -> Tables<'a> {
        Tables { kind, size, read_csv, header_in_first_file: false }
    }

    /// None: the job has none.
    pub(super) fn of(spec: &'a JobSpec) -> Option<Tables<'a>> {
        let tables = Tables {
            kind: spec.input_type,
            size: spec.mini_batch_size,
            read_csv: &spec.read_csv,
            header_in_first_file: spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file),
        };
        spec.input_type.is_table().then_some(tables)
    }

    /// Reads a file and hands on its slices, in order; those behind `after`, if that is its last one with its rows. `cancel` is asked before, and of
    /// text at every piece.
    ///
    /// # Errors
    /// It can't be read, or is no table of this kind.
    pub(super) fn slices(
        &self,
        of: TableFile<'_>,
        after: Option<(&Slice, u64)>,
        cancel: &Cancel<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ListError> {
        cancel()?;
        let after = after.map(|(last, rows)| After {
            end: last.part.end,
            header_len: last.header_len,
            first_row: last.first_row + rows,
        });
        if let Some((client, known)) = &of.object {
            return remote::slices(self, &of, client, *known, after, cancel, take);
        }
        let mut file = File::open(of.path).map_err(|error| of.unreadable("open", error))?;
        let mut head = [0; 8];
        let read = fill(&mut file, &mut head).map_err(|error| of.unreadable("read", error))?;
        file.rewind().map_err(|error| of.unreadable("read", error))?;
        let head = &head[..read];
        if self.kind == InputType::Parquet {
            return parquet::slices(&of, &file, head, self.size, after, take);
        }
        let compression = text::Compression::of(&of, head)?;
        text::slices(self, &of, text::From::File(file), compression, after, cancel, take)
    }

    /// How many rows a file has.
    ///
    /// # Errors
    /// As [`Tables::slices`].
    pub(super) fn rows(&self, of: TableFile<'_>, cancel: &Cancel<'_>) -> Result<u64, ListError> {
        let mut all = 0;
        self.slices(of, None, cancel, &mut |_, rows| {
            all += rows;
            Ok(())
        })?;
        Ok(all)
    }

    /// How the records of text are told apart.
    pub(super) fn dialect(&self) -> Dialect {
        match self.kind {
            InputType::Jsonl => Dialect::JSONL,
            // Both are ASCII.
            _ => Dialect {
                delimiter: Some(self.read_csv.sep as u8),
                quote: self.read_csv.quotechar.map(|quote| quote as u8),
            },
        }
    }

    /// Whether a file begins with a header.
    fn has_header(&self, of: &TableFile<'_>) -> bool {
        self.kind.is_csv() && self.read_csv.header && (of.first || !self.header_in_first_file)
    }

    /// Whether a slice of so many rows and bytes is large enough.
    fn is_full(&self, rows: u64, bytes: u64) -> bool {
        match self.size {
            MiniBatchSize::Items(most) | MiniBatchSize::Rows(most) => rows >= most,
            MiniBatchSize::Bytes(most) => bytes >= most,
        }
    }
}

impl TableFile<'_> {
    pub(super) fn unreadable(&self, operation: &'static str, source: io::Error) -> ListError {
        ListError::unreadable(self.input, operation, self.path, source)
    }

    pub(super) fn refuse(&self, what: impl Into<String>, hint: impl Into<String>) -> ListError {
        ListError::Table { path: self.path.to_path_buf(), what: what.into(), hint: hint.into() }
    }
}

/// Whether a file that begins so is something else than text.
#[cfg(fuzzing)]
pub(super) fn is_no_text(head: &[u8]) -> bool {
    let file = TableFile { input: "", path: Path::new(""), entry: 0, object: None, first: true };
    !matches!(text::Compression::of(&file, head), Ok(text::Compression::None))
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
