//! Mini-batches that differ in size: for each the files that it is of, and of a table where in its file its rows lie.
//!
//! A file of its own beside the list, 48 bytes a mini-batch, all numbers little-endian: `u64` the ordinal behind its last item, `u32` the
//! first file's entry in the list, `u32` how many files, `u32` the length of the file's header, `u32` nothing, `u64` the first row within the
//! file, `u64` and `u64` where it begins and ends ([`Slice::part`]). It is checked whole when it is opened; the manifest holds its checksum.
//!
//! A list may be used while it grows: then `slices.log` says how many slices are safe on the disk, in records of 16 bytes, of which the last
//! counts: `u64` how many, `u32` their CRC-32, `u32` the CRC-32 of these 12 bytes. It is written after the slices are synced, and synced itself
//! before anybody acts on it. What lies behind in either file was never promised, and is cut off when the writer goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::reader::missing_is_damage;
use super::{ItemsError, format};
use crate::durable;
use crate::report::During;
use crate::split::{Ends, SplitInput};
use crate::{failpoint, failpoint_error};

/// Bytes of a slice in the file, and of a record in its log.
const SIZE: usize = 48;
const LOGGED: usize = 16;

/// Where the items of a mini-batch lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first file's entry in the list.
    pub entry: u32,
    /// How many files; several are taken whole. 0: the rows come from anywhere, and were gathered ([`Slice::group`]).
    pub files: u32,
    /// Bytes of the file's header, from its beginning; 0: it has none.
    pub header_len: u32,
    /// How many rows of the file come before.
    pub first_row: u64,
    /// From where to where: bytes; of Parquet files row groups. Of a file that can't be begun in the middle, 0 to [`WHOLE`]. Of gathered rows
    /// bytes of the file they were gathered in.
    pub part: Range<u64>,
}

/// The end of a slice that is a whole file, however long that is when it is read.
pub const WHOLE: u64 = u64::MAX;

impl Slice {
    /// Files as they are.
    pub fn whole(entry: u32, files: u32) -> Slice {
        Slice { entry, files, header_len: 0, first_row: 0, part: 0..WHOLE }
    }

    /// Rows that were gathered ([`Group`](super::Group)), of an input that begins with `entry`.
    pub fn group(entry: u32, part: Range<u64>) -> Slice {
        Slice { entry, files: 0, header_len: 0, first_row: 0, part }
    }

    /// Whether its rows were gathered.
    pub fn is_group(&self) -> bool {
        self.files == 0
    }

    /// Its entries in the list; of gathered rows none.
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
#[derive(Debug)]
pub(super) struct SliceWriter {
    dir: PathBuf,
    file: BufWriter<File>,
    /// Open as soon as others read the list while it grows.
    log: Option<File>,
    crc32: crc32fast::Hasher,
    ends: Ends,
    rows: u64,
    /// Slices that are not safe yet.
    fresh: u64,
}

impl SliceWriter {
    pub(super) fn create(dir: &Path) -> Result<SliceWriter, ItemsError> {
        let path = format::slices(dir);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).during("create", &path)?;
        let file = BufWriter::with_capacity(1 << 16, file);
        let (crc32, ends) = (crc32fast::Hasher::new(), Ends::growing());
        Ok(SliceWriter { dir: dir.to_path_buf(), file, log: None, crc32, ends, rows: 0, fresh: 0 })
    }

    /// Goes on with a list that grew when its writer ended: behind what is safe.
    pub(super) fn resume(dir: &Path, inputs: &[SplitInput]) -> Result<SliceWriter, ItemsError> {
        let path = format::slices(dir);
        let safe = Safe::of(dir)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).during("open", &path)?;
        let mut load = Load::new(inputs);
        load.up_to(&path, &file, safe.mini_batches)?;
        load.proves(&path, safe.crc32)?;
        file.set_len(safe.mini_batches * SIZE as u64).during("cut", &path)?;
        file.seek(SeekFrom::End(0)).during("cut", &path)?;
        let mut writer = SliceWriter {
            dir: dir.to_path_buf(),
            file: BufWriter::with_capacity(1 << 16, file),
            log: None,
            rows: load.last,
            crc32: load.crc32,
            ends: load.ends,
            fresh: 0,
        };
        writer.open_log(safe)?;
        Ok(writer)
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn rows_of(&self, input: usize) -> u64 {
        self.ends.items_of(input)
    }

    /// The last slice and the number of its rows.
    pub(super) fn last(&mut self) -> Result<Option<(Slice, u64)>, ItemsError> {
        let Some(last) = self.ends.mini_batches().checked_sub(1) else { return Ok(None) };
        let (path, mut bytes) = (format::slices(&self.dir), [0; SIZE]);
        self.file.flush().during("write", &path)?;
        self.file.get_ref().read_exact_at(&mut bytes, last * SIZE as u64).during("read", &path)?;
        let (slice, _) = Slice::decode(&bytes);
        Ok(Some((slice, self.ends.items(last))))
    }

    /// Adds a slice of the input with this number.
    pub(super) fn push(&mut self, slice: &Slice, rows: u64, input: usize) -> Result<(), ItemsError> {
        let ordinal = self.rows;
        if !self.ends.push(ordinal + rows, input) {
            return Err(ItemsError::Unlistable { ordinal, what: "its mini-batch has no rows" });
        }
        self.rows += rows;
        self.fresh += 1;
        let bytes = slice.encode(self.rows);
        self.crc32.update(&bytes);
        Ok(self.file.write_all(&bytes).during("write", format::slices(&self.dir))?)
    }

    /// Makes sure that there is a log from now on, which ends as `safe` says.
    pub(super) fn open_log(&mut self, safe: Safe) -> Result<(), ItemsError> {
        let path = format::slices_log(&self.dir);
        let mut log =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).during("create", &path)?;
        log.set_len(safe.records * LOGGED as u64).during("cut", &path)?;
        log.seek(SeekFrom::End(0)).during("cut", &path)?;
        if safe.records > 0 {
            // A sync of it that failed has made the kernel forget that it is not on the disk; and who died before the sync never asked.
            log.write_all_at(&safe.encode(), (safe.records - 1) * LOGGED as u64).during("write", &path)?;
            log.sync_data().during("sync", &path)?;
        }
        durable::sync_dir(&self.dir)?;
        self.log = Some(log);
        Ok(())
    }

    /// Makes all slices safe, and says so in the log. False: they were already.
    ///
    /// # Panics
    /// If there is no log.
    pub(super) fn save(&mut self) -> Result<bool, ItemsError> {
        if self.fresh == 0 {
            return Ok(false);
        }
        let (path, log) = (format::slices(&self.dir), self.log.as_mut().expect("a list that grows has one"));
        self.file.flush().during("write", &path)?;
        failpoint_error!("items_stretch_sync").and_then(|()| self.file.get_ref().sync_data()).during("sync", &path)?;
        failpoint!("items_stretch_synced");
        let safe = Safe { records: 0, mini_batches: self.ends.mini_batches(), crc32: self.crc32.clone().finalize() };
        let path = format::slices_log(&self.dir);
        log.write_all(&safe.encode()).during("write", &path)?;
        failpoint_error!("items_stretch_log").and_then(|()| log.sync_data()).during("sync", &path)?;
        failpoint!("items_stretch_logged");
        self.fresh = 0;
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<Ends, ItemsError> {
        let (path, ends) = (format::slices(&self.dir), self.ends);
        let file = self.file.into_inner().map_err(|error| error.into_error()).during("write", &path)?;
        file.sync_all().during("sync", &path)?;
        ends.complete_with(self.crc32.finalize());
        Ok(ends)
    }
}

/// How far a list that grows is safe.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Safe {
    /// Records of the log, of which it is the last one.
    records: u64,
    mini_batches: u64,
    crc32: u32,
}

impl Safe {
    /// The record that says so.
    fn encode(self) -> [u8; LOGGED] {
        let mut record = [0; LOGGED];
        record[..8].copy_from_slice(&self.mini_batches.to_le_bytes());
        record[8..12].copy_from_slice(&self.crc32.to_le_bytes());
        let crc32 = crc32fast::hash(&record[..12]);
        record[12..].copy_from_slice(&crc32.to_le_bytes());
        record
    }

    /// What the log says. A record that is torn was never promised.
    fn of(dir: &Path) -> Result<Safe, ItemsError> {
        let path = format::slices_log(dir);
        let log = std::fs::read(&path).map_err(|error| missing_is_damage(error, &path))?;
        let (records, _) = log.as_chunks::<LOGGED>();
        let mut safe = Safe::default();
        for record in records {
            let half = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
            if crc32fast::hash(&record[..12]) != half(12) {
                break;
            }
            let mini_batches = u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
            safe = Safe { records: safe.records + 1, mini_batches, crc32: half(8) };
        }
        Ok(safe)
    }
}

/// Loads the ends of slices, in stretches.
#[derive(Debug)]
struct Load {
    ends: Ends,
    crc32: crc32fast::Hasher,
    last: u64,
    /// The number of the input that the last one is of, and the entries behind each input.
    input: usize,
    entries: Vec<u64>,
}

impl Load {
    fn new(inputs: &[SplitInput]) -> Load {
        let entries = inputs.iter().map(|input| input.entries.end).collect();
        Load { ends: Ends::growing(), crc32: crc32fast::Hasher::new(), last: 0, input: 0, entries }
    }

    /// Loads from where it stands up to `mini_batches`.
    fn up_to(&mut self, path: &Path, mut file: &File, mini_batches: u64) -> Result<(), ItemsError> {
        let damaged = |what: String| ItemsError::Damaged { path: path.to_path_buf(), items: None, what };
        let from = self.ends.mini_batches();
        file.seek(SeekFrom::Start(from * SIZE as u64)).during("read", path)?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut bytes = [0; SIZE];
        for _ in from..mini_batches {
            reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged("it has become shorter".into()),
                _ => damaged(error.to_string()),
            })?;
            self.crc32.update(&bytes);
            let (slice, end) = Slice::decode(&bytes);
            while self.entries.get(self.input).is_some_and(|entries| u64::from(slice.entry) >= *entries) {
                self.input += 1;
            }
            if !self.ends.push(end, self.input) {
                return Err(damaged("its mini-batches do not follow each other".into()));
            }
            self.last = end;
        }
        Ok(())
    }

    fn proves(&self, path: &Path, crc32: u32) -> Result<(), ItemsError> {
        match self.crc32.clone().finalize() == crc32 {
            true => Ok(()),
            false => {
                let what = "its checksum is wrong".into();
                Err(ItemsError::Damaged { path: path.to_path_buf(), items: None, what })
            }
        }
    }
}

/// The slices of a list.
#[derive(Debug)]
pub(super) struct Slices {
    dir: PathBuf,
    file: File,
    ends: Ends,
    /// Of a list that was growing when it was opened.
    growth: Option<Mutex<Load>>,
}

impl Slices {
    /// Opens and checks them, as far as they are safe; returns the ends of the mini-batches as well. `known` is what the manifest says of them.
    pub(super) fn open(dir: &Path, known: &Ends, inputs: &[SplitInput]) -> Result<(Slices, Ends), ItemsError> {
        let path = format::slices(dir);
        let file = File::open(&path).map_err(|error| missing_is_damage(error, &path))?;
        let mut load = Load::new(inputs);
        let growth = match known.slices_crc32() {
            Some(crc32) => {
                load.up_to(&path, &file, known.mini_batches())?;
                load.proves(&path, crc32)?;
                load.ends.complete_with(crc32);
                None
            }
            None => {
                let safe = Safe::of(dir)?;
                load.up_to(&path, &file, safe.mini_batches)?;
                load.proves(&path, safe.crc32)?;
                Some(())
            }
        };
        let ends = load.ends.clone();
        let growth = growth.map(|()| Mutex::new(load));
        Ok((Slices { dir: dir.to_path_buf(), file, ends: ends.clone(), growth }, ends))
    }

    /// Takes in what has become safe since; complete is what it becomes when it is opened anew. Opened for this: what a network file system shows
    /// of a file that another machine writes to is as old as its opening.
    pub(super) fn grow(&self) -> Result<(), ItemsError> {
        let Some(growth) = &self.growth else { return Ok(()) };
        let mut load = growth.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let safe = Safe::of(&self.dir)?;
        if safe.mini_batches <= load.ends.mini_batches() {
            return Ok(());
        }
        let path = format::slices(&self.dir);
        let file = File::open(&path).map_err(|error| missing_is_damage(error, &path))?;
        load.up_to(&path, &file, safe.mini_batches)?;
        load.proves(&path, safe.crc32)
    }

    /// That of one mini-batch.
    pub(super) fn get(&self, mini_batch: u64) -> Result<Slice, ItemsError> {
        let mini_batches = self.ends.mini_batches();
        if mini_batch >= mini_batches {
            return Err(ItemsError::Beyond {
                dir: self.dir.clone(),
                range: mini_batch..mini_batch + 1,
                items: mini_batches,
            });
        }
        let mut bytes = [0; SIZE];
        let at = mini_batch * SIZE as u64;
        match self.file.read_exact_at(&mut bytes, at) {
            // It has grown since it was opened, and the machine does not know it yet.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.growth.is_some() => {
                let path = format::slices(&self.dir);
                let file = File::open(&path).during("open", &path)?;
                file.read_exact_at(&mut bytes, at).during("read", &path)?;
            }
            read => read.during("read", format::slices(&self.dir))?,
        }
        Ok(Slice::decode(&bytes).0)
    }
}
