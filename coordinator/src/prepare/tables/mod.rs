//! From a table to its slices: each file is read once, and where a mini-batch of it begins and ends is written down
//! (`docs/design/tables.md`).

mod parquet;
mod pieces;
mod records;
mod remote;
mod text;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use fanfold_shared::items::{Fingerprint, Slice};
use fanfold_shared::job::{InputType, JobSpec, MiniBatchSize, ReadCsv};
use fanfold_store::Client;

use super::ListError;

/// Takes a slice of a file and the number of its rows.
pub(super) type Take<'a> = dyn FnMut(Slice, u64) -> Result<(), ListError> + 'a;

/// How the tables of a job are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    kind: InputType,
    size: MiniBatchSize,
    read_csv: &'a ReadCsv,
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
}

impl<'a> Tables<'a> {
    /// None: the job has none.
    pub(super) fn of(spec: &'a JobSpec) -> Option<Tables<'a>> {
        let tables = Tables { kind: spec.input_type, size: spec.mini_batch_size, read_csv: &spec.read_csv };
        spec.input_type.is_table().then_some(tables)
    }

    /// Reads a file and hands on its slices, in order. `cancel` is asked at every piece.
    ///
    /// # Errors
    /// It can't be read, or is no table of this kind.
    pub(super) fn slices(
        &self,
        of: TableFile<'_>,
        cancel: &dyn Fn() -> bool,
        take: &mut Take<'_>,
    ) -> Result<(), ListError> {
        if let Some((client, known)) = &of.object {
            return remote::slices(self, &of, client, *known, cancel, take);
        }
        let mut file = File::open(of.path).map_err(|error| of.unreadable("open", error))?;
        let mut head = [0; 8];
        let read = fill(&mut file, &mut head).map_err(|error| of.unreadable("read", error))?;
        file.rewind().map_err(|error| of.unreadable("read", error))?;
        let head = &head[..read];
        if self.kind == InputType::Parquet {
            return parquet::slices(&of, &file, head, self.size, take);
        }
        let compression = text::Compression::of(&of, head)?;
        text::slices(self, &of, text::From::File(file), compression, cancel, take)
    }

    /// How many rows a file has.
    ///
    /// # Errors
    /// As [`Tables::slices`].
    pub(super) fn rows(&self, of: TableFile<'_>, cancel: &dyn Fn() -> bool) -> Result<u64, ListError> {
        let mut all = 0;
        self.slices(of, cancel, &mut |_, rows| {
            all += rows;
            Ok(())
        })?;
        Ok(all)
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
    fn unreadable(&self, operation: &'static str, source: io::Error) -> ListError {
        ListError::unreadable(self.input, operation, self.path, source)
    }

    fn refuse(&self, what: impl Into<String>, hint: impl Into<String>) -> ListError {
        ListError::Table { path: self.path.to_path_buf(), what: what.into(), hint: hint.into() }
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
