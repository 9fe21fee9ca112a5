//! What the ledger says of a Parquet file that was written: which one it is, and how much of what is committed is in it.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::output::crc_of;

/// A whole Parquet file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableResult {
    /// Its length, bytes.
    pub len: u64,
    /// The CRC-32 of all of it.
    pub crc32: u32,
    /// Its rows.
    pub rows: u64,
    /// The committed length whose rows it holds: what is committed later lies in `.partial`, from there on.
    pub frames: u64,
}

impl TableResult {
    /// Whether the file at `path` is this one, to the last byte.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        Ok(file.metadata()?.len() == self.len && crc_of(&file, 0, self.len)? == self.crc32)
    }
}
