//! Files that survive a power cut: whole and old, or whole and new, never between.
//!
//! A rename is atomic for whoever looks, but only `fsync` of the file (before) and of its directory (after) makes it so
//! for whoever starts after a power cut.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
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

/// Puts `bytes` at `path` unless something is there: then nothing changes, and it says false. Of several who try at once, in
/// one program or in many, exactly one succeeds. Durable when it returns, never half there, and nobody may write to it.
pub fn create_new(path: &Path, bytes: &[u8]) -> Result<bool, IoError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = OsString::from(path);
    name.push(format!(".{}", uuid::Uuid::now_v7()));
    let building = building(Path::new(&name));
    let mut file =
        File::options().write(true).create_new(true).mode(0o444).open(&building).during("create", &building)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).during("write", &building);
    drop(file);
    // A rename would replace what is there; a second name for a file is refused where there is one.
    let linked = written.and_then(|()| match fs::hard_link(&building, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true).during("create", path),
    });
    // Nobody looks at it by that name.
    let _ = fs::remove_file(&building);
    let linked = linked?;
    sync_dir(parent(path)).map(|()| linked)
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
    fn of_several_who_create_a_file_one_succeeds_and_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.json");
        let made: Vec<(String, bool)> = std::thread::scope(|scope| {
            let make =
                |at: usize| (format!("made by {at}"), create_new(&path, format!("made by {at}").as_bytes()).unwrap());
            let threads: Vec<_> = (0..8).map(|at| scope.spawn(move || make(at))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<&String> = made.iter().filter(|(_, won)| *won).map(|(text, _)| text).collect();
        assert_eq!(winners, [&fs::read_to_string(&path).unwrap()]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
    }

    #[test]
    fn a_refusal_names_the_path() {
        let error = replace(Path::new("/proc/nothing/here"), b"").unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/proc/nothing/here.building`");
    }
}
