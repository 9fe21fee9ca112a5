//! The Python host program, embedded, so that it fits the worker that starts it. It is written where the next process finds it again, and with
//! it what Python compiled of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::ids;
use fanfold_shared::report::{During, Result};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../python/", $name)))),*] };
}

/// The files, relative to `worker/python`.
const FILES: [(&str, &str); 24] = embedded![
    "host/fanfold_host.py",
    "host/_fanfold/__init__.py",
    "host/_fanfold/columns.py",
    "host/_fanfold/culprit.py",
    "host/_fanfold/failure.py",
    "host/_fanfold/frames.py",
    "host/_fanfold/groups.py",
    "host/_fanfold/keys.py",
    "host/_fanfold/loop.py",
    "host/_fanfold/main.py",
    "host/_fanfold/memory.py",
    "host/_fanfold/profiling.py",
    "host/_fanfold/reader.py",
    "host/_fanfold/rows.py",
    "host/_fanfold/salvage.py",
    "host/_fanfold/script.py",
    "host/_fanfold/slices.py",
    "host/_fanfold/spool.py",
    "host/_fanfold/streams.py",
    "host/_fanfold/tables.py",
    "host/_fanfold/trouble.py",
    "host/_fanfold/wire.py",
    "azureml_user/__init__.py",
    "azureml_user/parallel_run/__init__.py",
];

/// With this begins what the host says in its own name on the script's stderr.
pub const SAYS: &str = "fanfold: ";
/// With these codes it leaves after it said why it can't go on: its pipes are gone, or it has a bug.
pub const EXIT_CODES: [i32; 2] = [3, 70];

/// Sees to it that the host program is there, in `cache` under a name that follows from its text, else in `dir`; returns the file to start.
///
/// # Errors
/// The files can't be written, in neither place.
pub fn install(cache: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    let mut text = blake3::Hasher::new();
    FILES.iter().for_each(|(name, file)| {
        text.update(name.as_bytes()).update(&(file.len() as u64).to_le_bytes()).update(file.as_bytes());
    });
    let name = text.finalize().to_hex()[..16].to_string();
    // A cache that is read-only or full only costs each process the time to compile.
    let cached = cache.and_then(|cache| write(&cache.join("host").join(name)).ok());
    cached.map_or_else(|| write(dir), Ok)
}

/// Makes sure that the program `host` ([`install`]) still is where it was: caches are emptied, and jobs last for days.
///
/// # Errors
/// It is gone and can't be written again.
pub fn keep(host: &Path) -> io::Result<()> {
    let dir = host.parent().expect("it lies in a directory");
    match FILES.iter().all(|(name, _)| dir.join(place(name)).exists()) {
        true => Ok(()),
        false => write(dir).map(drop).map_err(|failure| io::Error::other(failure.one_line())),
    }
}

/// The package that scripts import lies beside the host: the folder of the program is where Python looks first.
fn place(name: &str) -> &str {
    name.strip_prefix("host/").unwrap_or(name)
}

/// Writes what is not there as it should be, each file whole or not at all: others may be starting from it.
fn write(dir: &Path) -> Result<PathBuf> {
    for (name, text) in FILES {
        let path = dir.join(place(name));
        if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            continue;
        }
        let parent = path.parent().expect("a file under dir");
        fs::create_dir_all(parent).during("create", parent)?;
        let new = path.with_extension(format!("{}.tmp", ids::suffix(8)));
        fs::write(&new, text).during("write", &new)?;
        fs::rename(&new, &path).during("rename", &new)?;
    }
    Ok(dir.join("fanfold_host.py"))
}

/// A path of the job directory as JSON carries it. Job directories are UTF-8: others are refused at submission.
pub fn path_text(path: &Path) -> serde_json::Value {
    serde_json::Value::String(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_again_mended_and_does_without_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, node) = (dir.path().join("cache"), dir.path().join("node"));
        let host = install(Some(&cache), &node).unwrap();
        assert!(host.starts_with(&cache) && !node.exists(), "{}", host.display());
        let one = host.with_file_name("_fanfold").join("wire.py");
        let whole = fs::read(&one).unwrap();
        fs::write(&one, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(install(Some(&cache), &node).unwrap(), host);
        assert_eq!(fs::read(&one).unwrap(), whole);
        let package = FILES.iter().filter(|(name, _)| name.starts_with("host/_fanfold/")).count();
        assert_eq!(fs::read_dir(one.parent().unwrap()).unwrap().count(), package, "nothing else is left there");
        fs::remove_dir_all(&cache).unwrap();
        keep(&host).unwrap();
        assert_eq!(fs::read(&one).unwrap(), whole, "somebody emptied the cache");
        // No directory can be made under a file.
        for cache in [None, Some(one.as_path())] {
            assert_eq!(install(cache, &node).unwrap(), node.join("fanfold_host.py"));
        }
    }
}
