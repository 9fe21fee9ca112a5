//! The limit on a snapshot, and what to name when it is passed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::SnapshotError;
use super::select::{Entry, Kind};

/// As in the original. Every node copies the snapshot.
pub(super) const MAX_BYTES: u64 = 300 * MB;

/// Far beyond any source tree; selecting stops there.
pub(super) const MAX_FILES: u64 = 100_000;

const MB: u64 = 1024 * 1024;

/// How many of the largest are named.
const NAMED: usize = 5;

/// The largest files and folders, with their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Largest(pub Vec<(PathBuf, u64)>);

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, bytes)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}`{}` ({})", path.display(), shown(*bytes))?;
        }
        Ok(())
    }
}

/// Bytes for people: 1 MB is 1024 × 1024 bytes, as everywhere in the job file.
pub(super) fn shown(bytes: u64) -> String {
    match bytes {
        0..MB => format!("{} KB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MB", bytes as f64 / MB as f64),
    }
}

/// Refuses what is too large.
pub(super) fn check(source_directory: &Path, entries: &[Entry]) -> Result<(), SnapshotError> {
    let files = entries.iter().filter(|entry| !matches!(entry.kind, Kind::Folder)).count() as u64;
    let bytes = entries.iter().map(Entry::len).sum();
    if bytes <= MAX_BYTES && files < MAX_FILES {
        return Ok(());
    }
    let source_directory = source_directory.to_path_buf();
    Err(SnapshotError::TooLarge { source_directory, bytes, files, largest: largest(entries) })
}

/// The largest entries of the folder that the weight lies in: paths that help to write `.amlignore`.
fn largest(entries: &[Entry]) -> Largest {
    let mut children = children_of(Path::new(""), entries);
    loop {
        let total: u64 = children.iter().map(|child| child.bytes).sum();
        // One folder that holds nearly everything says little, unless what is in it is many small files.
        let heavy = children.first().filter(|child| child.is_folder && child.bytes > total / 10 * 9);
        match heavy.map(|heavy| children_of(&heavy.path, entries)) {
            Some(below) if below.first().is_some_and(|child| child.bytes > total / 10) => children = below,
            _ => return Largest(children.into_iter().take(NAMED).map(|child| (child.path, child.bytes)).collect()),
        }
    }
}

/// What lies directly in a folder.
struct Child {
    path: PathBuf,
    bytes: u64,
    is_folder: bool,
}

/// The largest first.
fn children_of(folder: &Path, entries: &[Entry]) -> Vec<Child> {
    let mut children: BTreeMap<&OsStr, Child> = BTreeMap::new();
    for entry in entries {
        let Ok(below) = entry.name.strip_prefix(folder) else { continue };
        let mut components = below.iter();
        let Some(name) = components.next() else { continue };
        let child =
            children.entry(name).or_insert_with(|| Child { path: folder.join(name), bytes: 0, is_folder: false });
        child.bytes += entry.len();
        child.is_folder |= components.next().is_some();
    }
    let mut children: Vec<_> = children.into_values().collect();
    children.sort_by_key(|child| std::cmp::Reverse(child.bytes));
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(files: &[(&str, u64)]) -> Vec<Entry> {
        let entry = |(name, len): &(&str, u64)| Entry {
            name: name.into(),
            kind: Kind::File { source: PathBuf::new(), len: *len, executable: false },
        };
        files.iter().map(entry).collect()
    }

    #[test]
    fn a_source_at_the_limit_passes_and_one_byte_more_names_the_largest() {
        let mut files = entries(&[("score.py", 1000), ("data/a.bin", MAX_BYTES - 1000)]);
        assert!(check(Path::new("/src"), &files).is_ok());
        files.extend(entries(&[("z", 1)]));
        let error = check(Path::new("/src"), &files).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the snapshot of `/src` would have 300.0 MB in 3 files (at most 300.0 MB in 100000 files); the largest: \
             `data/a.bin` (300.0 MB)"
        );
    }

    #[test]
    fn at_most_five_are_named_where_the_weight_lies() {
        let files = entries(&[
            ("score.py", 9),
            ("src/a/1", 40 * MB),
            ("src/a/2", 30 * MB),
            ("src/b", 90 * MB),
            ("src/c", 2 * MB),
            ("src/d", MB),
            ("src/e", 100),
            ("src/f", 1),
        ]);
        assert_eq!(
            largest(&files).to_string(),
            "`src/b` (90.0 MB), `src/a` (70.0 MB), `src/c` (2.0 MB), `src/d` (1.0 MB), `src/e` (1 KB)"
        );
        // Many small files: their folder is what to name.
        let names: Vec<String> = (0..100).map(|i| format!("cache/{i}")).collect();
        let small: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), MB)).collect();
        assert_eq!(largest(&entries(&small)).to_string(), "`cache` (100.0 MB)");
    }
}
