//! `<name>.partial` as the passes read it that make the output of it (`rewrite.rs`): at any place, and compared with the checksums of its commits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::CommitError;
use super::output::crc_of;
use super::rewrite::failed;
use crate::ledger::GroupRow;

/// Bytes that are read at once: rows of neighbours were mostly committed near each other.
const BYTES: usize = 256 << 10;

/// See the module documentation. All positions are committed ones.
pub(super) struct Window {
    path: PathBuf,
    file: File,
    /// The position of the file's first byte: what was committed before is in the old output.
    base: u64,
    /// What is in memory, and where it begins.
    held: Vec<u8>,
    at: u64,
}

impl Window {
    pub fn open(path: &Path, base: u64) -> Result<Window, CommitError> {
        let file = File::open(path).map_err(|error| failed("open", path, error))?;
        Ok(Window { path: path.to_path_buf(), file, base, held: Vec::new(), at: base })
    }

    /// Some of the bytes from `at` on, at most so many; none: the file ends there.
    pub fn read(&mut self, at: u64, most: usize) -> io::Result<&[u8]> {
        if !(self.at..self.at + self.held.len() as u64).contains(&at) {
            self.held.resize(BYTES, 0);
            let read = self.file.read_at(&mut self.held, at - self.base);
            // After an error nothing is held.
            self.held.truncate(*read.as_ref().unwrap_or(&0));
            self.at = at;
            read?;
        }
        let held = &self.held[(at - self.at) as usize..];
        Ok(&held[..held.len().min(most)])
    }

    /// Compares a commit with its checksum: damage on the disk becomes nobody's result. What came before the base is not here.
    pub fn prove(&self, group: &GroupRow) -> Result<(), CommitError> {
        if group.offset < self.base || group.length == 0 {
            return Ok(());
        }
        let found = crc_of(&self.file, group.offset - self.base, group.length);
        if found.map_err(|error| failed("read", &self.path, error))? == group.crc32 {
            return Ok(());
        }
        let GroupRow { offset, length, .. } = group;
        Err(self.damaged(&format!("the {length} bytes from byte {offset} on don't have the checksum of their commit")))
    }

    /// It is not what was committed.
    pub fn damaged(&self, what: &str) -> CommitError {
        failed("read", &self.path, io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// It can't be read.
    pub fn unreadable(&self, error: io::Error) -> CommitError {
        failed("read", &self.path, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_is_read_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let (path, base) = (dir.path().join("x.partial"), 1000);
        let bytes: Vec<u8> = (0..3 * BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut window = Window::open(&path, base).unwrap();
        for (from, len) in [(0, 10), (2 * BYTES, 20), (5, BYTES + 1), (BYTES, 2 * BYTES), (BYTES - 1, 2), (0, 0)] {
            let mut read = Vec::new();
            while read.len() < len {
                let some = window.read(base + (from + read.len()) as u64, len - read.len()).unwrap();
                assert!(!some.is_empty());
                read.extend_from_slice(some);
            }
            assert!(read == bytes[from..from + len], "{from}, {len}");
        }
        assert!(window.read(base + bytes.len() as u64, 1).unwrap().is_empty());
    }
}
