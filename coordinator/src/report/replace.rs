//! Replacing a small file whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

/// Puts `bytes` at `path` so that a reader sees the old content or the new, never a part. Not synced: after a power cut the
/// file may be the old one or empty, so this is for what can be made again. Makes the directory if it is missing.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = beside(path);
    let attempt = || fs::write(&tmp, bytes).and_then(|()| fs::rename(&tmp, path));
    let outcome = attempt().or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => fs::create_dir_all(parent).and_then(|()| attempt()),
        _ => Err(error),
    });
    if outcome.is_err() {
        // On a full disk the half-written file would take the room that the next try needs.
        let _ = fs::remove_file(&tmp);
    }
    outcome
}

/// Room on the disk for the successor of a file: with it the file can be replaced when the disk is full.
#[derive(Debug)]
pub(super) struct Reserved {
    file: File,
    tmp: PathBuf,
}

impl Reserved {
    /// Sets aside `room` bytes beside `path`. None: there is no such room, or the file system knows no such thing.
    pub fn beside(path: &Path, room: u64) -> Option<Reserved> {
        let tmp = beside(path);
        let file = File::create(&tmp).ok()?;
        let reserved = Reserved { file, tmp };
        fallocate(&reserved.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, room as i64).ok().map(|()| reserved)
    }

    /// Puts `bytes` at `path`, as [`replace_file`] does.
    pub fn replace(mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).and_then(|()| fs::rename(&self.tmp, path))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // After a rename there is nothing of that name.
        let _ = fs::remove_file(&self.tmp);
    }
}

/// The hidden name beside `path` under which its successor is made. Its only writer is the coordinator, whose lock makes it
/// the only one, so a fixed name is safe and leaves no litter.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_used_once_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let Some(reserved) = Reserved::beside(&path, 1 << 16) else {
            eprintln!("SKIPPED: this file system reserves nothing");
            return;
        };
        reserved.replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        drop(Reserved::beside(&path, 1 << 16));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/status.json");
        replace_file(&path, b"old").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(replace_file(Path::new("/proc/no/where"), b"").is_err());
    }
}
