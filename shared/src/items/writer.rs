//! Makes the list: streaming, in the memory of one block.
//!
//! Order: blocks → fsync data → index → fsync index → manifest under another name → fsync → rename → fsync directory.
//! Whatever dies before the rename leaves no manifest, and the next [`ItemWriter::create`] starts over.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::format::{self, BLOCK_BYTES, BLOCK_ITEMS, BlockEntry, MAX_ITEM_BYTES, Manifest, VERSION};
use super::slices::SliceWriter;
use super::{Fingerprint, GrowingList, ItemReader, ItemsError, Slice};
use crate::failpoint;
use crate::report::During;
use crate::split::{Cut, Ends, Split};

/// Writes a list of items, in the order of their ordinals.
pub struct ItemWriter {
    dir: PathBuf,
    data: File,
    data_len: u64,
    separator: u8,
    items: u64,
    block: Vec<u8>,
    block_items: u32,
    max_block: (u32, usize),
    index: Vec<u8>,
    /// Where mini-batches differ in size.
    slices: Option<SliceWriter>,
    /// Items are rows of the entries.
    rows: bool,
    /// Of objects, and where the next one would be written.
    fingerprints: Option<BufWriter<File>>,
    fingerprinted: u64,
}

impl ItemWriter {
    /// Begins a list in `dir`, which is created if it is not there; what an interrupted attempt left is removed.
    /// `separator` is the byte that ends an item: no item may contain it. Fails if `dir` holds a complete list.
    pub fn create(dir: &Path, separator: u8) -> Result<ItemWriter, ItemsError> {
        ItemWriter::with_block_size(dir, separator, (BLOCK_ITEMS, BLOCK_BYTES))
    }

    pub(super) fn with_block_size(
        dir: &Path,
        separator: u8,
        max_block: (u32, usize),
    ) -> Result<ItemWriter, ItemsError> {
        if format::is_listed(dir) {
            return Err(ItemsError::AlreadyComplete { dir: dir.to_path_buf() });
        }
        fs::create_dir_all(dir).during("create", dir)?;
        format::remove_stale(dir)?;
        let path = format::data(dir);
        let data = File::create(&path).during("create", &path)?;
        Ok(ItemWriter {
            dir: dir.to_path_buf(),
            data,
            data_len: 0,
            separator,
            items: 0,
            block: Vec::with_capacity(max_block.1),
            block_items: 0,
            max_block,
            index: Vec::new(),
            slices: None,
            rows: false,
            fingerprints: None,
            fingerprinted: 0,
        })
    }

    /// The number of entries so far: the number of the next one.
    pub fn entries(&self) -> u64 {
        self.items
    }

    /// The entries are files, and the items are their rows.
    pub fn items_are_rows(&mut self) {
        self.rows = true;
    }

    /// The number of items in slices so far: the ordinal of the next one.
    pub fn sliced(&self) -> u64 {
        self.slices.as_ref().map_or(0, SliceWriter::rows)
    }

    /// Adds a mini-batch of `rows` items of the input with the number `input`, which lie in `slice`. With the first one mini-batches are what
    /// the slices say.
    pub fn push_slice(&mut self, slice: &Slice, rows: u64, input: usize) -> Result<(), ItemsError> {
        let slices = match self.slices.take() {
            Some(slices) => slices,
            None => SliceWriter::create(&self.dir)?,
        };
        self.slices.insert(slices).push(slice, rows, input)
    }

    /// Adds an entry whose fingerprint is known already: that of an object, as the listing told of it.
    pub fn push_known(&mut self, item: &[u8], fingerprint: Fingerprint) -> Result<(), ItemsError> {
        let path = format::fingerprints(&self.dir);
        let file = match self.fingerprints.take() {
            Some(file) => file,
            None => BufWriter::with_capacity(1 << 16, File::create(&path).during("create", &path)?),
        };
        let file = self.fingerprints.insert(file);
        // Entries without one stand between them as a hole.
        let at = self.items * Fingerprint::SIZE as u64;
        if self.fingerprinted != at {
            file.seek(SeekFrom::Start(at)).during("write", &path)?;
        }
        file.write_all(&fingerprint.encode()).during("write", &path)?;
        self.fingerprinted = at + Fingerprint::SIZE as u64;
        self.push(item)
    }

    /// Adds an item: at most [`MAX_ITEM_BYTES`] long, without the separator.
    pub fn push(&mut self, item: &[u8]) -> Result<(), ItemsError> {
        let refuse = |what| Err(ItemsError::Unlistable { ordinal: self.items, what });
        if item.len() > MAX_ITEM_BYTES {
            return refuse("it is longer than 1 MiB");
        }
        if item.contains(&self.separator) {
            return refuse("it contains the byte that separates items");
        }
        let full = self.block_items == self.max_block.0 || self.block.len() + item.len() + 1 > self.max_block.1;
        if full && self.block_items > 0 {
            self.flush()?;
        }
        self.block.extend_from_slice(item);
        self.block.push(self.separator);
        self.block_items += 1;
        self.items += 1;
        Ok(())
    }

    /// Completes the list. `split` must cover exactly the entries pushed, and the rows of tables; of these it is then cut where the slices end.
    ///
    /// # Panics
    /// If it does not.
    pub fn finish(mut self, mut split: Split) -> Result<ItemReader, ItemsError> {
        assert_eq!(split.entries(), self.items, "the split covers the entries");
        if let Some(slices) = self.slices.take() {
            assert_eq!(split.items(), slices.rows(), "the split covers the items");
            split.cut = Cut::Listed(slices.finish()?);
            failpoint!("items_slices_synced");
        } else {
            assert_eq!(split.items(), self.items, "the split covers the items");
        }
        let manifest = self.names(split)?;
        manifest.publish(&self.dir)?;
        ItemReader::open(&self.dir)
    }

    /// Completes the names of the list, to which slices are then added. `split` must cover exactly the entries pushed; it is cut where the slices
    /// will end.
    ///
    /// # Panics
    /// If it does not, or there are slices already.
    pub fn finish_names(mut self, split: Split) -> Result<GrowingList, ItemsError> {
        assert!(self.slices.is_none(), "slices follow the names");
        assert_eq!(split.entries(), self.items, "the split covers the entries");
        let manifest = self.names(Split { cut: Cut::Listed(Ends::growing()), ..split })?;
        GrowingList::new(self.dir, manifest)
    }

    /// Makes the names durable; they are a list once the manifest is written.
    fn names(&mut self, split: Split) -> Result<Manifest, ItemsError> {
        if let Some(fingerprints) = self.fingerprints.take() {
            let path = format::fingerprints(&self.dir);
            let file = fingerprints.into_inner().map_err(|error| error.into_error()).during("write", &path)?;
            // Unlike those of files they can't be taken again.
            file.sync_all().during("sync", &path)?;
        }
        self.flush()?;
        self.data.sync_all().during("sync", format::data(&self.dir))?;
        failpoint!("items_data_synced");
        let path = format::index(&self.dir);
        let mut index = File::create(&path).during("create", &path)?;
        index.write_all(&self.index).during("write", &path)?;
        index.sync_all().during("sync", &path)?;
        Ok(Manifest {
            version: VERSION,
            separator: self.separator,
            items: self.items,
            rows: self.rows,
            data_len: self.data_len,
            blocks: (self.index.len() / BlockEntry::SIZE) as u64,
            index_crc32: crc32fast::hash(&self.index),
            split,
        })
    }

    fn flush(&mut self) -> Result<(), ItemsError> {
        if self.block_items == 0 {
            return Ok(());
        }
        self.data.write_all(&self.block).during("write", format::data(&self.dir))?;
        failpoint!("items_block_written");
        let entry =
            BlockEntry { items: self.block_items, len: self.block.len() as u32, crc32: crc32fast::hash(&self.block) };
        self.index.extend_from_slice(&entry.encode());
        self.data_len += self.block.len() as u64;
        self.block.clear();
        self.block_items = 0;
        Ok(())
    }
}
