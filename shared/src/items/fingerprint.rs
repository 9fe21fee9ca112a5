//! Size and modification time of each file as the job first saw it.
//!
//! Taken in stretches while the job runs, never before its first mini-batch: a million `stat` calls would make everybody wait.
//! 16 bytes an item, written without `fsync`: what a power cut takes back is not taken (zeros), and is taken again.
//! What was taken stays: an item that changes while the job is paused is still found out.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;

use super::check::{StatBuffer, Trouble};
use super::{ItemReader, ItemsError, format};
use crate::report::During;
use crate::uri::Uri;

/// Items that are looked at and written together.
const STRETCH: u64 = 1024;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// It was not looked at yet.
    NotTaken,
    /// It could not be examined when it was looked at. That is no verdict: it may be readable elsewhere, or by now.
    Unknown,
    /// It was there.
    File {
        /// Its length, bytes.
        size: u64,
        /// When it was last modified, nanoseconds since the epoch.
        mtime_ns: i64,
    },
}

impl Fingerprint {
    /// Its size on disk.
    pub const SIZE: usize = 16;

    /// That of an object: what stands for its time is the hash of its ETag, or else its time, as it says whether it is the same one.
    pub fn of_object(size: u64, etag: Option<&str>, modified_us: i64) -> Fingerprint {
        let mtime_ns = match etag {
            Some(etag) => {
                // Listings of some servers leave the quotes out that answers have.
                let hash = blake3::hash(etag.trim_start_matches("W/").trim_matches('"').as_bytes());
                i64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
            }
            // Listings and answers may differ below a second.
            None => modified_us.div_euclid(1_000_000).saturating_mul(1_000_000_000),
        };
        Fingerprint::File { size, mtime_ns }
    }

    /// As it is stored. The first word is the size plus 2, so that the zeros of a hole in the file mean "not taken".
    pub fn encode(self) -> [u8; Fingerprint::SIZE] {
        let (word, mtime_ns) = match self {
            Fingerprint::NotTaken => (0, 0),
            Fingerprint::Unknown => (1, 0),
            Fingerprint::File { size, mtime_ns } => (size + 2, mtime_ns),
        };
        let mut bytes = [0; Fingerprint::SIZE];
        bytes[..8].copy_from_slice(&word.to_le_bytes());
        bytes[8..].copy_from_slice(&mtime_ns.to_le_bytes());
        bytes
    }

    /// Reads back what [`Fingerprint::encode`] gave.
    pub fn decode(bytes: &[u8; Fingerprint::SIZE]) -> Fingerprint {
        let (word, mtime) = bytes.split_at(8);
        let mtime_ns = i64::from_le_bytes(mtime.try_into().expect("eight bytes"));
        match u64::from_le_bytes(word.try_into().expect("eight bytes")) {
            0 => Fingerprint::NotTaken,
            1 => Fingerprint::Unknown,
            word => Fingerprint::File { size: word - 2, mtime_ns },
        }
    }
}

impl From<&FileStat> for Fingerprint {
    fn from(stat: &FileStat) -> Fingerprint {
        let mtime_ns = stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec);
        Fingerprint::File { size: stat.st_size as u64, mtime_ns }
    }
}

impl From<&Metadata> for Fingerprint {
    fn from(found: &Metadata) -> Fingerprint {
        let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        Fingerprint::File { size: found.len(), mtime_ns }
    }
}

/// The fingerprints of a list's items.
#[derive(Debug)]
pub struct Fingerprints {
    path: PathBuf,
    file: File,
    items: u64,
}

impl Fingerprints {
    /// Opens those of the list in `dir`, which has `items` items, to take them; there is one taker.
    pub fn create(dir: &Path, items: u64) -> Result<Fingerprints, ItemsError> {
        let path = format::fingerprints(dir);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        Ok(Fingerprints { file: file.during("open", &path)?, path, items })
    }

    /// Opens those of the list in `dir`, which has `items` items, to read them: those that are taken meanwhile show up.
    pub fn open(dir: &Path, items: u64) -> Result<Fingerprints, ItemsError> {
        let path = format::fingerprints(dir);
        Ok(Fingerprints { file: File::open(&path).during("open", &path)?, path, items })
    }

    /// Looks at the files of `range`, but for those already taken. Lines have none: then this does nothing.
    pub fn take(&self, reader: &ItemReader, range: Range<u64>) -> Result<(), ItemsError> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + STRETCH);
            self.take_stretch(reader, start..end, self.get(start..end)?)?;
            start = end;
        }
        Ok(())
    }

    /// Looks at the file of one entry, whether that was done before or not: nothing was made of it yet.
    pub fn take_anew(&self, reader: &ItemReader, entry: u64) -> Result<(), ItemsError> {
        self.take_stretch(reader, entry..entry + 1, vec![Fingerprint::NotTaken])
    }

    /// Looks at those files of `range` whose `fingerprints` are not taken.
    fn take_stretch(
        &self,
        reader: &ItemReader,
        range: Range<u64>,
        mut fingerprints: Vec<Fingerprint>,
    ) -> Result<(), ItemsError> {
        if !fingerprints.contains(&Fingerprint::NotTaken) {
            return Ok(());
        }
        for input in &reader.split().inputs {
            let part = range.start.max(input.entries.start)..range.end.min(input.entries.end);
            // Those of objects came with the listing.
            if part.is_empty() || input.root.is_empty() || Uri::is_meant(&input.root) {
                continue;
            }
            let mut stat = StatBuffer::new(Path::new(&input.root));
            reader.for_each(part, |ordinal, name| {
                let fingerprint = &mut fingerprints[(ordinal - range.start) as usize];
                if *fingerprint == Fingerprint::NotTaken {
                    *fingerprint = stat.look(name).as_ref().map_or(Fingerprint::Unknown, Fingerprint::from);
                }
            })?;
        }
        let bytes: Vec<u8> = fingerprints.iter().flat_map(|fingerprint| fingerprint.encode()).collect();
        let offset = range.start * Fingerprint::SIZE as u64;
        Ok(self.file.write_all_at(&bytes, offset).during("write", &self.path)?)
    }

    /// Makes those that were taken safe.
    pub fn sync(&self) -> Result<(), ItemsError> {
        Ok(self.file.sync_data().during("sync", &self.path)?)
    }

    /// Those of `range`, in order.
    pub fn get(&self, range: Range<u64>) -> Result<Vec<Fingerprint>, ItemsError> {
        if range.start > range.end || range.end > self.items {
            let dir = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
            return Err(ItemsError::Beyond { dir, range, items: self.items });
        }
        let mut bytes = vec![0; (range.end - range.start) as usize * Fingerprint::SIZE];
        let mut filled = 0;
        // The file ends where taking has come to: what lies behind is not taken.
        while filled < bytes.len() {
            let offset = range.start * Fingerprint::SIZE as u64 + filled as u64;
            match self.file.read_at(&mut bytes[filled..], offset) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => drop(outcome.during("read", &self.path)?),
            }
        }
        bytes[filled - filled % Fingerprint::SIZE..].fill(0);
        let (words, _) = bytes.as_chunks::<{ Fingerprint::SIZE }>();
        Ok(words.iter().map(Fingerprint::decode).collect())
    }
}

/// What a look at a file now says against what was known of it; None: nothing.
pub(super) fn compare(known: Fingerprint, now: &FileStat) -> Option<Trouble> {
    let Fingerprint::File { size, mtime_ns } = known else { return None };
    let Fingerprint::File { size: size_now, mtime_ns: mtime_now } = Fingerprint::from(now) else { return None };
    if size != size_now {
        return Some(Trouble::SizeChanged { was: size, is: size_now });
    }
    // In microseconds: two mounts of one file system (SMB, FUSE) need not agree on what is finer.
    let (was, is) = (mtime_ns.div_euclid(1000), mtime_now.div_euclid(1000));
    (was != is).then_some(Trouble::Modified { was_us: was, is_us: is })
}
