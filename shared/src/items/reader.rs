//! Reads the list: by `pread`, from any number of threads, with the last blocks kept.
//!
//! A block is checked once, when it is loaded; after that a range of items is a copy out of it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::format::{self, BlockEntry, Manifest};
use super::slices::Slices;
use super::{Group, ItemsError, Origin, Slice, groups};
use crate::report::{During, IoError};
use crate::split::{Cut, Split, SplitInput};
use crate::uri::Uri;

/// Blocks kept: a few readers at different places, each reading forwards, do not push each other out.
const CACHED_BLOCKS: usize = 8;

/// A list of items.
pub struct ItemReader {
    dir: PathBuf,
    data: File,
    manifest: Manifest,
    places: Vec<Place>,
    /// What the root of each input is called, wherever it is on this machine.
    called: Vec<String>,
    /// Of tables.
    slices: Option<Slices>,
    /// The most recently used first.
    cache: Mutex<Vec<Arc<Block>>>,
}

/// Where a block lies.
struct Place {
    first_item: u64,
    offset: u64,
    len: u32,
    crc32: u32,
}

/// A block in memory, proven.
struct Block {
    items: Range<u64>,
    /// Where each item begins, and at the end where the last one ends.
    starts: Vec<u32>,
    bytes: Vec<u8>,
}

impl ItemReader {
    /// Opens the list in `dir`. Manifest and index are checked whole, blocks when they are read. Of a list that grows it has what is safe by
    /// now ([`ItemReader::grow`]).
    pub fn open(dir: &Path) -> Result<ItemReader, ItemsError> {
        let mut manifest = Manifest::read(dir)?;
        let Split { inputs, cut } = &mut manifest.split;
        let slices = match cut {
            Cut::Even { .. } => None,
            Cut::Listed(ends) => {
                let (slices, loaded) = Slices::open(dir, ends, inputs)?;
                *ends = loaded;
                Some(slices)
            }
        };
        ItemReader::with(dir, manifest, slices)
    }

    /// The names of a list that has no slices yet.
    pub(super) fn of_names(dir: &Path, manifest: Manifest) -> Result<ItemReader, ItemsError> {
        ItemReader::with(dir, manifest, None)
    }

    fn with(dir: &Path, manifest: Manifest, slices: Option<Slices>) -> Result<ItemReader, ItemsError> {
        let places = read_index(dir, &manifest)?;
        let path = format::data(dir);
        let data = File::open(&path).map_err(|error| missing_is_damage(error, &path))?;
        let len = data.metadata().during("examine", &path)?.len();
        if len != manifest.data_len {
            let what = format!("it has {len} bytes instead of {}", manifest.data_len);
            return Err(ItemsError::Damaged { path, items: None, what });
        }
        let called = manifest.split.inputs.iter().map(|input| input.root.clone()).collect();
        Ok(ItemReader { dir: dir.to_path_buf(), data, manifest, places, called, slices, cache: Mutex::default() })
    }

    /// Takes in the mini-batches that have become safe since; all clones of its split know them then. Of a complete list there are none.
    pub fn grow(&self) -> Result<(), ItemsError> {
        self.slices.as_ref().map_or(Ok(()), Slices::grow)
    }

    /// Takes in the end of a list that has grown until it was complete.
    pub fn complete(&self) -> Result<(), ItemsError> {
        self.grow()?;
        let split = Manifest::read(&self.dir)?.split;
        if let (Cut::Listed(ours), Cut::Listed(theirs)) = (&self.manifest.split.cut, split.cut)
            && ours.mini_batches() == theirs.mini_batches()
            && let Some(crc32) = theirs.slices_crc32()
        {
            ours.complete_with(crc32);
        }
        Ok(())
    }

    /// The split that was fixed with the list.
    pub fn split(&self) -> &Split {
        &self.manifest.split
    }

    /// The same files at other places, as another machine sees them: `place` turns the root of each input into this machine's.
    pub fn move_roots(&mut self, place: impl Fn(&str) -> String) {
        let local = |input: &&mut SplitInput| !input.root.is_empty() && !Uri::is_meant(&input.root);
        for input in self.manifest.split.inputs.iter_mut().filter(local) {
            input.root = place(&input.root);
        }
    }

    /// The number of entries: items, or of tables files.
    pub fn entries(&self) -> u64 {
        self.manifest.items
    }

    /// Whether the entries are files, and the items are their rows.
    pub fn has_rows(&self) -> bool {
        self.manifest.rows
    }

    /// Where the items of a mini-batch lie. None: all mini-batches have the same size.
    pub fn slice(&self, mini_batch: u64) -> Result<Option<Slice>, ItemsError> {
        self.slices.as_ref().map(|slices| slices.get(mini_batch)).transpose()
    }

    /// What a slice says that is of gathered rows.
    pub fn group(&self, slice: &Slice) -> Result<Group, ItemsError> {
        groups::read(&self.dir, slice.part.clone())
    }

    /// Where a gathered row came from.
    pub fn origin(&self, ordinal: u64) -> Result<Origin, ItemsError> {
        groups::origin(&self.dir, ordinal)
    }

    /// Calls `visit` with the rows, each in its file, that the gathered rows with these ordinals came from.
    pub fn for_each_origin(&self, ordinals: Range<u64>, visit: impl FnMut(Origin)) -> Result<(), ItemsError> {
        groups::for_each_origin(&self.dir, ordinals, visit)
    }

    /// The files that rows are gathered in, and their origins.
    pub fn group_files(&self) -> (PathBuf, PathBuf) {
        (format::groups(&self.dir), format::origins(&self.dir))
    }

    /// The entries that the mini-batches are of.
    pub fn entries_of(&self, mini_batches: Range<u64>) -> Result<Range<u64>, ItemsError> {
        if mini_batches.is_empty() {
            return Ok(0..0);
        }
        let last = mini_batches.end - 1;
        Ok(match (self.slice(mini_batches.start)?, self.slice(last)?) {
            (Some(first), Some(last)) => first.entries().start..last.entries().end,
            _ => self.split().mini_batch(mini_batches.start).1.start..self.split().mini_batch(last).1.end,
        })
    }

    /// The byte that ends each item.
    pub fn separator(&self) -> u8 {
        self.manifest.separator
    }

    /// The items of `range` as they are stored (names of files relative to their root), each ended by the separator.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, ItemsError> {
        let mut out = Vec::new();
        self.for_each_block(range, |block, part| {
            out.extend_from_slice(block.slice(part));
        })?;
        Ok(out)
    }

    /// Appends the items of `range` to `out` as the script gets them: names of files absolute, under `root`; lines (where
    /// `root` is empty) as they are. Each is ended by the separator.
    pub fn read_joined(&self, range: Range<u64>, root: &Path, out: &mut Vec<u8>) -> Result<(), ItemsError> {
        let root = prefix(root.as_os_str().as_bytes());
        self.for_each_block(range, |block, part| {
            if root.is_empty() {
                return out.extend_from_slice(block.slice(part));
            }
            out.reserve(block.slice(part.clone()).len() + count(&part) * root.len());
            for ordinal in part {
                out.extend_from_slice(&root);
                out.extend_from_slice(block.slice(ordinal..ordinal + 1));
            }
        })
    }

    /// Calls `visit` with the ordinal and the bytes of each item of `range`, without the separator.
    pub fn for_each(&self, range: Range<u64>, mut visit: impl FnMut(u64, &[u8])) -> Result<(), ItemsError> {
        self.for_each_block(range, |block, part| part.for_each(|ordinal| visit(ordinal, block.item(ordinal))))
    }

    /// One item as it is stored, without the separator.
    pub fn item(&self, ordinal: u64) -> Result<Vec<u8>, ItemsError> {
        let mut item = Vec::new();
        self.for_each(ordinal..ordinal + 1, |_, bytes| item.extend_from_slice(bytes))?;
        Ok(item)
    }

    /// The absolute paths of the files of `range`; lines as they are.
    pub fn paths(&self, range: Range<u64>) -> Result<Vec<PathBuf>, ItemsError> {
        let mut paths = Vec::with_capacity(count(&range));
        self.for_each(range, |ordinal, name| {
            paths.push(Path::new(&self.input_of(ordinal).root).join(OsStr::from_bytes(name)));
        })?;
        Ok(paths)
    }

    /// What entries are called wherever they are told of, in `errors.jsonl` and beside rows: by path or address, as the machine that
    /// listed them has it; lines as they are.
    pub fn called(&self, entries: Range<u64>) -> Result<Vec<Vec<u8>>, ItemsError> {
        let prefixes: Vec<Vec<u8>> = self.called.iter().map(|root| prefix(root.as_bytes())).collect();
        let mut called = Vec::with_capacity(count(&entries));
        self.for_each(entries, |entry, name| {
            called.push([&prefixes[self.input_number(entry)], name].concat());
        })?;
        Ok(called)
    }

    /// The input that an entry belongs to.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn input_of(&self, entry: u64) -> &SplitInput {
        &self.manifest.split.inputs[self.input_number(entry)]
    }

    fn input_number(&self, entry: u64) -> usize {
        let inputs = &self.manifest.split.inputs;
        inputs.iter().position(|input| input.entries.contains(&entry)).expect("the split covers every entry")
    }

    /// Calls `visit` with each block that `range` touches and the ordinals in it.
    fn for_each_block(&self, range: Range<u64>, mut visit: impl FnMut(&Block, Range<u64>)) -> Result<(), ItemsError> {
        if range.start > range.end || range.end > self.entries() {
            return Err(ItemsError::Beyond { dir: self.dir.clone(), range, items: self.entries() });
        }
        let mut next = range.start;
        while next < range.end {
            let block = self.block_of(next)?;
            let end = block.items.end.min(range.end);
            visit(&block, next..end);
            next = end;
        }
        Ok(())
    }

    fn block_of(&self, ordinal: u64) -> Result<Arc<Block>, ItemsError> {
        if let Some(block) = self.cached(ordinal) {
            return Ok(block);
        }
        // Loaded outside the lock: a slow disk holds up only who needs this block. Two may load the same one; no matter.
        let at = self.places.partition_point(|place| place.first_item <= ordinal) - 1;
        let block = Arc::new(self.load(at)?);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.truncate(CACHED_BLOCKS - 1);
        cache.insert(0, Arc::clone(&block));
        Ok(block)
    }

    fn cached(&self, ordinal: u64) -> Option<Arc<Block>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(|block| block.items.contains(&ordinal))?;
        cache[..=at].rotate_right(1);
        Some(Arc::clone(&cache[0]))
    }

    fn load(&self, at: usize) -> Result<Block, ItemsError> {
        let place = &self.places[at];
        let end = self.places.get(at + 1).map_or(self.manifest.items, |next| next.first_item);
        let items = place.first_item..end;
        let path = format::data(&self.dir);
        let damaged = |what: String| ItemsError::Damaged { path: path.clone(), items: Some(items.clone()), what };

        let mut bytes = vec![0; place.len as usize];
        match self.data.read_exact_at(&mut bytes, place.offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged("it has become shorter".into()));
            }
            outcome => outcome.during("read", &path)?,
        }
        if crc32fast::hash(&bytes) != place.crc32 {
            return Err(damaged("the checksum of a block is wrong".into()));
        }
        let mut starts = Vec::with_capacity(count(&items) + 1);
        starts.push(0);
        let separator = self.manifest.separator;
        starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == separator).map(|(at, _)| at as u32 + 1));
        if starts.len() as u64 != items.end - items.start + 1 || starts.last() != Some(&place.len) {
            return Err(damaged("a block does not hold the items that the index says".into()));
        }
        Ok(Block { items, starts, bytes })
    }
}

impl Block {
    /// The bytes of the items of `range`, separators included.
    fn slice(&self, range: Range<u64>) -> &[u8] {
        let start = self.starts[(range.start - self.items.start) as usize];
        let end = self.starts[(range.end - self.items.start) as usize];
        &self.bytes[start as usize..end as usize]
    }

    fn item(&self, ordinal: u64) -> &[u8] {
        let bytes = self.slice(ordinal..ordinal + 1);
        &bytes[..bytes.len() - 1]
    }
}

impl fmt::Debug for ItemReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemReader").field("dir", &self.dir).field("entries", &self.entries()).finish_non_exhaustive()
    }
}

/// What stands before a relative name: `root` and a slash; nothing for an empty root.
pub(super) fn prefix(root: &[u8]) -> Vec<u8> {
    let mut prefix = root.to_vec();
    if !prefix.is_empty() && !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    prefix
}

fn count(range: &Range<u64>) -> usize {
    range.end.saturating_sub(range.start) as usize
}

fn read_index(dir: &Path, manifest: &Manifest) -> Result<Vec<Place>, ItemsError> {
    let path = format::index(dir);
    let bytes = fs::read(&path).map_err(|error| missing_is_damage(error, &path))?;
    let damaged = |what: String| ItemsError::Damaged { path: path.clone(), items: None, what };
    let expected = manifest.blocks * BlockEntry::SIZE as u64;
    if bytes.len() as u64 != expected {
        return Err(damaged(format!("it has {} bytes instead of {expected}", bytes.len())));
    }
    if crc32fast::hash(&bytes) != manifest.index_crc32 {
        return Err(damaged("its checksum is wrong".into()));
    }
    let (mut first_item, mut offset) = (0, 0);
    let (entries, _) = bytes.as_chunks::<{ BlockEntry::SIZE }>();
    let places = entries
        .iter()
        .map(|entry| {
            let entry = BlockEntry::decode(entry);
            let place = Place { first_item, offset, len: entry.len, crc32: entry.crc32 };
            first_item += u64::from(entry.items);
            offset += u64::from(entry.len);
            place
        })
        .collect();
    if first_item != manifest.items || offset != manifest.data_len || manifest.split.entries() != manifest.items {
        return Err(damaged("it does not agree with the manifest".into()));
    }
    Ok(places)
}

/// A complete list whose data is gone is damaged, not merely unreadable: the advice differs.
pub(super) fn missing_is_damage(error: io::Error, path: &Path) -> ItemsError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ItemsError::Damaged { path: path.to_path_buf(), items: None, what: "it is missing".into() }
        }
        _ => ItemsError::Io(IoError { operation: "open", path: path.to_path_buf(), source: error }),
    }
}
