//! What the files of a list look like.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ItemsError;
use crate::durable;
use crate::failpoint;
use crate::report::During;
use crate::split::Split;

/// The version of the files. A change that an older program can't read counts it up.
pub(super) const VERSION: u32 = 2;

/// The most bytes that an item may have. A block is loaded whole, so this bounds memory.
pub const MAX_ITEM_BYTES: usize = 1024 * 1024;

/// A block is closed when it has so many items …
pub(super) const BLOCK_ITEMS: u32 = 4096;
/// … or when the next item would make it longer than this.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;

const SPILL_PREFIX: &str = "sort-";

/// Where whoever makes the list in `dir` may spill its `n`-th sorted run. What is left there, the next attempt removes.
pub fn spill_file(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("{SPILL_PREFIX}{n}.tmp"))
}

pub(super) fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

pub(super) fn index(dir: &Path) -> PathBuf {
    dir.join("index")
}

pub(super) fn manifest(dir: &Path) -> PathBuf {
    dir.join("manifest.json")
}

pub(super) fn slices(dir: &Path) -> PathBuf {
    dir.join("slices")
}

pub(super) fn slices_log(dir: &Path) -> PathBuf {
    dir.join("slices.log")
}

pub(super) fn groups(dir: &Path) -> PathBuf {
    dir.join("groups")
}

pub(super) fn origins(dir: &Path) -> PathBuf {
    dir.join("origins")
}

pub(super) fn fingerprints(dir: &Path) -> PathBuf {
    dir.join("fingerprints")
}

/// Whether the list in `dir` has all its names: then it is this job's for good, if perhaps its slices still grow.
pub fn is_listed(dir: &Path) -> bool {
    manifest(dir).exists()
}

/// Removes what an interrupted attempt to make a list left in `dir`. Only our own names, in case `dir` is not ours alone.
pub(super) fn remove_stale(dir: &Path) -> Result<(), ItemsError> {
    for entry in fs::read_dir(dir).during("read", dir)? {
        let path = entry.during("read", dir)?.path();
        let spilled = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SPILL_PREFIX));
        let slices = [slices(dir), slices_log(dir), groups(dir), origins(dir)];
        let ours = [data(dir), index(dir), fingerprints(dir), durable::building(&manifest(dir))];
        if spilled || ours.contains(&path) || slices.contains(&path) {
            fs::remove_file(&path).during("remove", &path)?;
        }
    }
    Ok(())
}

/// The manifest's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: u32,
    pub(super) separator: u8,
    /// Entries of the list.
    pub(super) items: u64,
    /// The entries are files, and the items are their rows.
    pub(super) rows: bool,
    pub(super) data_len: u64,
    pub(super) blocks: u64,
    pub(super) index_crc32: u32,
    pub(super) split: Split,
}

/// The manifest as it lies on disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    list: Manifest,
    /// Of `list` as JSON without white space: a flipped bit in a root would otherwise go unnoticed.
    crc32: u32,
}

impl Manifest {
    /// Writes it: with that the list is one.
    pub(super) fn publish(self, dir: &Path) -> Result<(), ItemsError> {
        failpoint!("items_before_manifest");
        self.write(dir)?;
        // The directory may be new as well.
        durable::sync_dir(durable::parent(dir))?;
        failpoint!("items_after_manifest");
        Ok(())
    }

    fn write(self, dir: &Path) -> Result<(), ItemsError> {
        let sealed = Sealed { crc32: self.seal(), list: self };
        let json = serde_json::to_vec_pretty(&sealed).expect("a manifest is plain data");
        Ok(durable::replace(&manifest(dir), &json)?)
    }

    pub(super) fn read(dir: &Path) -> Result<Manifest, ItemsError> {
        /// Read first: the rest may look different in another version.
        #[derive(Deserialize)]
        struct Any {
            list: AnyList,
        }
        #[derive(Deserialize)]
        struct AnyList {
            version: u32,
        }

        let path = manifest(dir);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ItemsError::Incomplete { dir: dir.to_path_buf() });
            }
            Err(error) => return Err(error).during("read", &path)?,
        };
        let damaged = |what: String| ItemsError::Damaged { path: path.clone(), items: None, what };
        let any: Any = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if any.list.version != VERSION {
            return Err(ItemsError::Version { path, found: any.list.version });
        }
        let Sealed { list, crc32 } = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if list.seal() != crc32 {
            return Err(damaged("its checksum is wrong".into()));
        }
        Ok(list)
    }

    fn seal(&self) -> u32 {
        crc32fast::hash(&serde_json::to_vec(self).expect("a manifest is plain data"))
    }
}

/// One block in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockEntry {
    /// The number of its items.
    pub(super) items: u32,
    /// Its length, bytes.
    pub(super) len: u32,
    /// Its CRC-32.
    pub(super) crc32: u32,
}

impl BlockEntry {
    /// Its size in the index.
    pub(super) const SIZE: usize = 12;

    pub(super) fn encode(self) -> [u8; BlockEntry::SIZE] {
        let mut bytes = [0; BlockEntry::SIZE];
        bytes[0..4].copy_from_slice(&self.items.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.crc32.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; BlockEntry::SIZE]) -> BlockEntry {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        BlockEntry { items: word(0), len: word(4), crc32: word(8) }
    }
}
