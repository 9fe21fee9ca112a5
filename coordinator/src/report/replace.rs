//! Replacing a small file whole.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

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

/// The hidden name beside `path` under which its successor is made. Its only writer is the coordinator, whose lock makes it
/// the only one, so a fixed name is safe and leaves no litter.
pub(super) fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
