//! What files an input has, by their names, sizes and times: whether they are still those that were registered.
//!
//! No file is opened. What is remembered of each is 16 bytes, so that a million files take 16 MB.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use fanfold_shared::items::Fingerprint;
use fanfold_shared::job::{Contents, Input, InputType};

use super::cloud::Cloud;
use super::notes::Notes;
use super::source::{Look, Source};
use super::walk::Identities;
use super::{Cancel, ListError, empty};

/// The files of the path, folder or pattern `path`, which messages call the input `name`. Directories in `excluded` are left
/// out; `cancel` is asked every few thousand files.
///
/// # Errors
/// It is not there, has no files or can't be read.
pub fn contents(name: &str, path: &str, excluded: &[PathBuf], cancel: &Cancel<'_>) -> Result<Contents, ListError> {
    let excluded = Identities::new(excluded);
    let look =
        Look { excluded: &excluded, cancel, of_mltable: false, input_type: InputType::Files, cloud: &Cloud::default() };
    let source = Source::resolve(&Input { name: name.into(), path: path.into(), dataset: None }, look)?;
    let mut notes = Notes::default();
    let mut bytes = 0;
    let mut files: Vec<[u8; 16]> = Vec::new();
    source.for_each_known(name, look, &mut notes, &mut |file, known| {
        let mut hasher = blake3::Hasher::new();
        if let Some(Fingerprint::File { size, mtime_ns: version }) = known {
            bytes += size;
            hasher.update(&size.to_le_bytes()).update(&version.to_le_bytes());
        } else if known.is_none()
                // One that can't be looked at is a file all the same, and will fail as one.
            && let Ok(found) = fs::metadata(source.root().join(OsStr::from_bytes(file)))
        {
            bytes += found.len();
            for number in [found.len(), found.mtime() as u64, found.mtime_nsec() as u64] {
                hasher.update(&number.to_le_bytes());
            }
        }
        hasher.update(file);
        let hash = hasher.finalize();
        files.push(hash.as_bytes()[..16].try_into().expect("it has 32"));
        if files.len().is_multiple_of(4096) { cancel() } else { Ok(()) }
    })?;
    if files.is_empty() {
        return Err(empty::explain(name, InputType::Files, &source, &notes, look));
    }
    // The order of a file system means nothing.
    files.sort_unstable();
    let fingerprint = blake3::hash(files.as_flattened()).to_hex().to_string();
    Ok(Contents { files: files.len() as u64, bytes, fingerprint })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn names_sizes_and_times_count_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let write = |folder: &str, name: &str, text: &str, time| {
            let path = dir.path().join(folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let look = |folder: &str| {
            contents("x", dir.path().join(folder).to_str().unwrap(), &[], &|| Ok(())).map_err(|error| error.to_string())
        };
        for folder in ["one", "two"] {
            write(folder, "a", "1", then);
            write(folder, "sub/b", "23", then);
        }
        let one = look("one").unwrap();
        assert_eq!((one.files, one.bytes, one.fingerprint.len()), (2, 3, 64));
        assert_eq!(look("two"), Ok(one.clone()), "the folder's own name is none of it");
        write("two", "a", "7", then);
        assert_eq!(look("two"), Ok(one.clone()), "files are not opened");
        write("two", "a", "7", then + Duration::from_nanos(1));
        assert_ne!(look("two"), Ok(one.clone()));
        write("two", "a", "12", then);
        assert_ne!(look("two"), Ok(one.clone()));
        fs::rename(dir.path().join("one/a"), dir.path().join("one/c")).unwrap();
        let renamed = look("one").unwrap();
        assert_eq!((renamed.files, renamed.bytes), (one.files, one.bytes));
        assert_ne!(renamed.fingerprint, one.fingerprint);

        fs::create_dir(dir.path().join("empty")).unwrap();
        assert!(look("empty").unwrap_err().contains("holds no files"));
        assert!(look("none").unwrap_err().contains("does not exist"));
        assert_eq!(look("one/*").unwrap().files, 1);
    }
}
