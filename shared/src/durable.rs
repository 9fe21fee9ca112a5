//! Files that survive a power cut: whole and old, or whole and new, never between.
//!
//! A rename is atomic for whoever looks, but only `fsync` of the file (before) and of its directory (after) makes it so
//! for whoever starts after a power cut.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::report::{During, IoError};

/// Makes what was created, renamed or removed in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), IoError> {
    File::open(dir).and_then(|dir| dir.sync_all()).during("sync", dir)
}

/// Puts `bytes` at `path`, replacing what is there: durable when it returns, and never half there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let building = building(path);
    let mut file = File::create(&building).during("create", &building)?;
    file.write_all(bytes).during("write", &building)?;
    file.sync_all().during("sync", &building)?;
    drop(file);
    fs::rename(&building, path).during("rename", &building)?;
    sync_dir(parent(path))
}

/// Makes every file and directory under `dir`, and `dir` itself, durable. Symbolic links are not followed.
pub fn sync_tree(dir: &Path) -> Result<(), IoError> {
    for entry in fs::read_dir(dir).during("read", dir)? {
        let entry = entry.during("read", dir)?;
        let (path, kind) = (entry.path(), entry.file_type().during("examine", entry.path())?);
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path).and_then(|file| file.sync_all()).during("sync", &path)?;
        }
    }
    sync_dir(dir)
}

/// Where something that belongs at `path` is built before it is renamed: `<path>.building`.
pub fn building(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".building");
    PathBuf::from(name)
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        sync_tree(dir.path()).unwrap();
    }

    #[test]
    fn a_refusal_names_the_path() {
        let error = replace(Path::new("/proc/nothing/here"), b"").unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/proc/nothing/here.building`");
    }
}
