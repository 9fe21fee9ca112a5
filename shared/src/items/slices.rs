//! Mini-batches that differ in size: for each the files that it is of, and of a table where in its file its rows lie.
//!
//! A file of its own beside the list, 48 bytes a mini-batch, all numbers little-endian: `u64` the ordinal behind its last item, `u32` the
//! first file's entry in the list, `u32` how many files, `u32` the length of the file's header, `u32` nothing, `u64` the first row within the
//! file, `u64` and `u64` where it begins and ends ([`Slice::part`]). It is checked whole when it is opened; the manifest holds its checksum.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{ItemsError, format};
use crate::report::During;
use crate::split::{Ends, EndsBuilder};

/// Bytes of a slice in the file.
const SIZE: usize = 48;

/// Where the items of a mini-batch lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first file's entry in the list.
    pub entry: u32,
    /// How many files, at least 1; several are taken whole.
    pub files: u32,
    /// Bytes of the file's header, from its beginning; 0: it has none.
    pub header_len: u32,
    /// How many rows of the file come before.
    pub first_row: u64,
    /// From where to where: bytes; of Parquet files row groups. Of a file that can't be begun in the middle, 0 to [`WHOLE`].
    pub part: Range<u64>,
}

/// The end of a slice that is a whole file, however long that is when it is read.
pub const WHOLE: u64 = u64::MAX;

impl Slice {
    /// Files as they are.
    pub fn whole(entry: u32, files: u32) -> Slice {
        Slice { entry, files, header_len: 0, first_row: 0, part: 0..WHOLE }
    }

    /// Its entries in the list.
    pub fn entries(&self) -> Range<u64> {
        self.entry.into()..u64::from(self.entry) + u64::from(self.files)
    }

    fn encode(&self, end: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&end.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.entry.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.files.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.header_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_row.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.part.start.to_le_bytes());
        bytes[40..].copy_from_slice(&self.part.end.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> (Slice, u64) {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let slice = Slice {
            entry: half(8),
            files: half(12),
            header_len: half(16),
            first_row: word(24),
            part: word(32)..word(40),
        };
        (slice, word(0))
    }
}

/// Writes the slices in the order of mini-batches.
pub(super) struct SliceWriter {
    path: PathBuf,
    file: BufWriter<File>,
    crc32: crc32fast::Hasher,
    ends: EndsBuilder,
    rows: u64,
}

impl SliceWriter {
    pub(super) fn create(dir: &Path) -> Result<SliceWriter, ItemsError> {
        let path = format::slices(dir);
        let file = BufWriter::with_capacity(1 << 16, File::create(&path).during("create", &path)?);
        Ok(SliceWriter { path, file, crc32: crc32fast::Hasher::new(), ends: EndsBuilder::default(), rows: 0 })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn push(&mut self, slice: &Slice, rows: u64) -> Result<(), ItemsError> {
        let ordinal = self.rows;
        if !self.ends.push(ordinal + rows) {
            return Err(ItemsError::Unlistable { ordinal, what: "its mini-batch has no rows, or too many" });
        }
        self.rows += rows;
        let bytes = slice.encode(self.rows);
        self.crc32.update(&bytes);
        Ok(self.file.write_all(&bytes).during("write", &self.path)?)
    }

    pub(super) fn finish(self) -> Result<Ends, ItemsError> {
        let SliceWriter { path, file, crc32, ends, .. } = self;
        let file = file.into_inner().map_err(|error| error.into_error()).during("write", &path)?;
        file.sync_all().during("sync", &path)?;
        Ok(ends.finish(crc32.finalize()))
    }
}

/// The slices of a list that is complete.
#[derive(Debug)]
pub(super) struct Slices {
    path: PathBuf,
    file: File,
    mini_batches: u64,
}

impl Slices {
    /// Opens and checks them; returns the ends of the mini-batches as well.
    pub(super) fn open(dir: &Path, known: &Ends) -> Result<(Slices, Ends), ItemsError> {
        let path = format::slices(dir);
        let damaged = |what: String| ItemsError::Damaged { path: path.clone(), items: None, what };
        let file = File::open(&path).map_err(|error| super::reader::missing_is_damage(error, &path))?;
        let mut reader = BufReader::with_capacity(1 << 18, &file);
        let (mut crc32, mut ends) = (crc32fast::Hasher::new(), EndsBuilder::default());
        let mut bytes = [0; SIZE];
        for _ in 0..known.mini_batches() {
            reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => damaged("it has become shorter".into()),
                _ => damaged(error.to_string()),
            })?;
            crc32.update(&bytes);
            if !ends.push(Slice::decode(&bytes).1) {
                return Err(damaged("its mini-batches do not follow each other".into()));
            }
        }
        let found = ends.finish(crc32.finalize());
        if found != *known {
            return Err(damaged("its checksum is wrong".into()));
        }
        let mini_batches = known.mini_batches();
        drop(reader);
        Ok((Slices { file, mini_batches, path }, found))
    }

    /// That of one mini-batch.
    pub(super) fn get(&self, mini_batch: u64) -> Result<Slice, ItemsError> {
        if mini_batch >= self.mini_batches {
            let dir = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
            return Err(ItemsError::Beyond { dir, range: mini_batch..mini_batch + 1, items: self.mini_batches });
        }
        let mut bytes = [0; SIZE];
        self.file.read_exact_at(&mut bytes, mini_batch * SIZE as u64).during("read", &self.path)?;
        Ok(Slice::decode(&bytes).0)
    }
}
