//! A list whose names are complete while its slices are still being made.
//!
//! Order: names durable → slices. As long as nobody uses the list it has no manifest, and is begun anew if the program dies. Once it is opened
//! to others: log → manifest (its slices grow) → slices, sync → log, sync, again and again → manifest (complete). Whatever dies in
//! between, the next start goes on behind what the log says is safe ([`GrowingList::resume`]); so does its maker when something of it could
//! not be written, once the writer that failed is dropped.

use std::path::{Path, PathBuf};

use super::format::Manifest;
use super::slices::{Safe, SliceWriter};
use super::{ItemReader, ItemsError, Slice};
use crate::failpoint;
use crate::split::{Cut, Split};

/// See the module documentation. There is one writer.
#[derive(Debug)]
pub struct GrowingList {
    dir: PathBuf,
    manifest: Manifest,
    slices: SliceWriter,
    is_open: bool,
}

impl GrowingList {
    pub(super) fn new(dir: PathBuf, manifest: Manifest) -> Result<GrowingList, ItemsError> {
        let slices = SliceWriter::create(&dir)?;
        Ok(GrowingList { dir, manifest, slices, is_open: false })
    }

    /// Goes on with the list in `dir`, which was opened to others and not finished; nobody else writes to it any more. None: it is complete.
    pub fn resume(dir: &Path) -> Result<Option<GrowingList>, ItemsError> {
        let manifest = Manifest::read(dir)?;
        if manifest.split.is_complete() {
            return Ok(None);
        }
        let slices = SliceWriter::resume(dir, &manifest.split.inputs)?;
        Ok(Some(GrowingList { dir: dir.to_path_buf(), manifest, slices, is_open: true }))
    }

    /// Its names, to be read while slices are added. It has no slices.
    pub fn names(&self) -> Result<ItemReader, ItemsError> {
        ItemReader::of_names(&self.dir, self.manifest.clone())
    }

    /// The number of rows so far: the ordinal of the next one.
    pub fn rows(&self) -> u64 {
        self.slices.rows()
    }

    /// The number of rows so far of the input with this number.
    pub fn rows_of(&self, input: usize) -> u64 {
        self.slices.rows_of(input)
    }

    /// The last slice and the number of its rows.
    pub fn last(&mut self) -> Result<Option<(Slice, u64)>, ItemsError> {
        self.slices.last()
    }

    /// Adds a mini-batch of `rows` items of the input with the number `input`, which lie in `slice`.
    pub fn push(&mut self, slice: &Slice, rows: u64, input: usize) -> Result<(), ItemsError> {
        self.slices.push(slice, rows, input)
    }

    /// Whether others may read it.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Opens it to others, with what is in it so far. From here on it is this job's for good.
    pub fn open(&mut self) -> Result<(), ItemsError> {
        if !self.is_open {
            self.slices.open_log(Safe::default())?;
            self.slices.save()?;
            self.manifest.clone().publish(&self.dir)?;
            self.is_open = true;
        }
        Ok(())
    }

    /// Makes what was added safe, and known to those who read it. False: there was nothing new.
    ///
    /// # Panics
    /// If it is not open.
    pub fn save(&mut self) -> Result<bool, ItemsError> {
        self.slices.save()
    }

    /// Completes the list.
    pub fn finish(mut self) -> Result<ItemReader, ItemsError> {
        if self.is_open {
            // Who has it open reads on by the log.
            self.slices.save()?;
        }
        let ends = self.slices.finish()?;
        failpoint!("items_slices_synced");
        let split = Split { cut: Cut::Listed(ends), ..self.manifest.split }.with_items();
        Manifest { split, ..self.manifest }.publish(&self.dir)?;
        ItemReader::open(&self.dir)
    }
}
