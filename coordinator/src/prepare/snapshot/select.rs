//! Which files of the source make the snapshot.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfold_shared::job::JobSpec;
use fanfold_shared::report::{During, IoError};
use ignore::WalkBuilder;
use walkdir::WalkDir;

use super::leave_out::LeaveOut;
use super::settings::{self, SETTINGS};
use super::{SnapshotError, size};

/// Says what to leave out, as in the original: where it exists, `.gitignore` counts for nothing.
const AMLIGNORE: &str = ".amlignore";

/// What goes into a snapshot, sorted bytewise by name.
pub(super) struct Selection {
    pub(super) entries: Vec<Entry>,
    pub(super) notes: Vec<String>,
}

/// A file, link or folder of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the snapshot's root.
    pub(super) name: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        source: PathBuf,
        len: u64,
        executable: bool,
    },
    /// Relative to where the link lies.
    Link {
        target: PathBuf,
    },
    Folder,
}

impl Entry {
    fn file(name: PathBuf, source: PathBuf, found: &Metadata) -> Entry {
        let executable = found.permissions().mode() & 0o111 != 0;
        Entry { name, kind: Kind::File { source, len: found.len(), executable } }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.kind {
            Kind::File { len, .. } => *len,
            Kind::Link { .. } | Kind::Folder => 0,
        }
    }
}

/// Selects from the source of `spec`; `own` are the directories that the job writes to.
pub(super) fn select(spec: &JobSpec, own: &[PathBuf]) -> Result<Selection, SnapshotError> {
    let root = &spec.source_directory;
    let mut selection = match spec.whole_source_directory {
        true => Whole::new(spec, own)?.select()?,
        false => beside(spec)?,
    };
    selection.entries.sort_by(|a, b| bytes(&a.name).cmp(bytes(&b.name)));
    size::check(root, &selection.entries)?;
    let scripts = script_files(&spec.entry_script);
    if !selection.entries.iter().any(|entry| entry.kind != Kind::Folder && scripts.contains(&entry.name)) {
        let (entry_script, source_directory) = (spec.entry_script.clone(), root.clone());
        return Err(match scripts.iter().any(|script| root.join(script).is_file()) {
            true => SnapshotError::ScriptLeftOut { entry_script, source_directory },
            false => SnapshotError::ScriptMissing { entry_script, source_directory },
        });
    }
    settings::check(spec, &selection.entries, &scripts)?;
    Ok(selection)
}

/// What lies in a snapshot that is complete.
pub(super) fn stored(snapshot: &Path) -> Result<Vec<Entry>, SnapshotError> {
    let mut entries = Vec::new();
    for found in WalkDir::new(snapshot).min_depth(1) {
        let found = found.during("read", snapshot)?;
        let name = found.path().strip_prefix(snapshot).expect("below where the walk began").to_path_buf();
        entries.push(if found.file_type().is_symlink() {
            Entry { name, kind: Kind::Link { target: fs::read_link(found.path()).during("read", found.path())? } }
        } else if found.file_type().is_dir() {
            Entry { name, kind: Kind::Folder }
        } else {
            let metadata = found.metadata().during("examine", found.path())?;
            Entry::file(name, found.into_path(), &metadata)
        });
    }
    entries.sort_by(|a, b| bytes(&a.name).cmp(bytes(&b.name)));
    Ok(entries)
}

fn bytes(name: &Path) -> &[u8] {
    name.as_os_str().as_bytes()
}

/// The files that `entry_script` may mean: a path, or a dotted module.
pub(super) fn script_files(entry_script: &str) -> [PathBuf; 3] {
    let module = entry_script.replace('.', "/");
    let path = Path::new(entry_script).components().filter(|part| *part != std::path::Component::CurDir).collect();
    [path, PathBuf::from(format!("{module}.py")), Path::new(&module).join("__init__.py")]
}

/// The script, the `.py` files beside it, and its settings.
fn beside(spec: &JobSpec) -> Result<Selection, SnapshotError> {
    let folder = Path::new(&spec.entry_script).parent().unwrap_or(Path::new(""));
    let place = spec.source_directory.join(folder);
    let mut entries = Vec::new();
    for found in fs::read_dir(&place).during("list", &place).map_err(SnapshotError::Unreadable)? {
        let found = found.during("list", &place).map_err(SnapshotError::Unreadable)?;
        let name = folder.join(found.file_name());
        let python = name.extension().is_some_and(|extension| extension == "py");
        if !python && found.file_name() != SETTINGS {
            continue;
        }
        // What a link leads to is copied: the rest of the folder is not there for it to lead to.
        if let Ok(metadata) = fs::metadata(found.path())
            && metadata.is_file()
        {
            entries.push(Entry::file(name, found.path(), &metadata));
        }
    }
    Ok(Selection { entries, notes: Vec::new() })
}

/// The whole source directory, but for what is left out.
struct Whole {
    root: PathBuf,
    /// The root without symbolic links, to tell what lies inside.
    real_root: PathBuf,
    leave_out: Arc<LeaveOut>,
    entries: Vec<Entry>,
    special: BTreeSet<PathBuf>,
    notes: Vec<String>,
}

impl Whole {
    fn new(spec: &JobSpec, own: &[PathBuf]) -> Result<Whole, SnapshotError> {
        let root = spec.source_directory.clone();
        let real_root = fs::canonicalize(&root).during("find", &root).map_err(SnapshotError::Unreadable)?;
        let leave_out = Arc::new(LeaveOut::new(spec, own));
        Ok(Whole { root, real_root, leave_out, entries: Vec::new(), special: BTreeSet::new(), notes: Vec::new() })
    }

    fn select(mut self) -> Result<Selection, SnapshotError> {
        let leave_out = Arc::clone(&self.leave_out);
        let walk = WalkBuilder::new(&self.root)
            .standard_filters(false)
            .git_ignore(!self.root.join(AMLIGNORE).is_file())
            .require_git(false)
            .add_custom_ignore_filename(AMLIGNORE)
            .follow_links(false)
            .filter_entry(move |found| found.depth() == 0 || !leave_out.contains(found.path()))
            .build();
        for found in walk {
            let found = found.map_err(|error| self.unreadable(std::io::Error::other(error)))?;
            if let Some(error) = found.error() {
                self.notes.push(format!("snapshot: {error}"));
            }
            if found.depth() > 0 {
                self.take(found.path())?;
            }
            if self.entries.len() as u64 > size::MAX_FILES {
                break;
            }
        }
        let special = self.special.iter().map(|path| {
            format!(
                "snapshot: left out `{}`: it is not a regular file, or a link that leads back to itself",
                path.display()
            )
        });
        self.notes.extend(special);
        Ok(Selection { entries: self.entries, notes: self.notes })
    }

    fn take(&mut self, path: &Path) -> Result<(), SnapshotError> {
        let name = path.strip_prefix(&self.root).expect("below where the walk began").to_path_buf();
        let found = fs::symlink_metadata(path).during("examine", path).map_err(SnapshotError::Unreadable)?;
        if found.is_symlink() {
            return self.take_link(name, path);
        }
        if found.is_dir() {
            self.entries.push(Entry { name, kind: Kind::Folder });
        } else if found.is_file() {
            self.entries.push(Entry::file(name, path.to_path_buf(), &found));
        } else {
            self.special.insert(name);
        }
        Ok(())
    }

    fn take_link(&mut self, name: PathBuf, path: &Path) -> Result<(), SnapshotError> {
        let target = match fs::canonicalize(path) {
            // It leads nowhere; so does its copy.
            Err(_) => fs::read_link(path).during("read", path).map_err(SnapshotError::Unreadable)?,
            Ok(real) => match real.strip_prefix(&self.real_root) {
                // Spelt anew: an absolute link would lead out of the snapshot.
                Ok(inside) => relative(&name, inside),
                Err(_) => return self.take_outside(name, &real),
            },
        };
        self.entries.push(Entry { name, kind: Kind::Link { target } });
        Ok(())
    }

    /// Takes what lies at `real`, outside the source, under `name`.
    fn take_outside(&mut self, name: PathBuf, real: &Path) -> Result<(), SnapshotError> {
        let leave_out = Arc::clone(&self.leave_out);
        let walk = WalkDir::new(real).follow_links(true).into_iter();
        for found in walk.filter_entry(|found| found.depth() == 0 || !leave_out.contains(found.path())) {
            let found = match found {
                Ok(found) => found,
                Err(error) if error.loop_ancestor().is_some() || error.depth() > 0 && is_link(error.path()) => {
                    self.special
                        .insert(name.join(error.path().and_then(|path| path.strip_prefix(real).ok()).unwrap_or(real)));
                    continue;
                }
                Err(error) => return Err(self.unreadable(error)),
            };
            let below = found.path().strip_prefix(real).expect("below where the walk began");
            // Joining an empty path would add a slash.
            let name = if below == Path::new("") { name.clone() } else { name.join(below) };
            let metadata = found.metadata().map_err(|error| self.unreadable(error))?;
            if metadata.is_dir() {
                self.entries.push(Entry { name, kind: Kind::Folder });
            } else if metadata.is_file() {
                self.entries.push(Entry::file(name, found.into_path(), &metadata));
            } else {
                self.special.insert(name);
            }
            if self.entries.len() as u64 > size::MAX_FILES {
                break;
            }
        }
        Ok(())
    }

    fn unreadable(&self, error: impl Into<std::io::Error>) -> SnapshotError {
        // The walkers' own texts name the path.
        SnapshotError::Unreadable(IoError { operation: "list", path: self.root.clone(), source: error.into() })
    }
}

fn is_link(path: Option<&Path>) -> bool {
    path.is_some_and(Path::is_symlink)
}

/// The way from the link called `name` to `target`, both relative to the same root.
fn relative(name: &Path, target: &Path) -> PathBuf {
    let from: Vec<&OsStr> = name.parent().into_iter().flatten().collect();
    let to: Vec<&OsStr> = target.iter().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(OsStr::new(".."), from.len() - common);
    let path: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_finds_its_way_within_the_tree() {
        let way = |name: &str, target: &str| relative(Path::new(name), Path::new(target)).to_str().unwrap().to_string();
        assert_eq!(way("a", "b"), "b");
        assert_eq!(way("x/a", "b"), "../b");
        assert_eq!(way("x/y/a", "x/z/b"), "../z/b");
        assert_eq!(way("x/a", "x"), ".");
        assert_eq!(way("a", ""), ".");
        assert_eq!(way("x/a", ""), "..");
    }

    #[test]
    fn an_entry_script_is_a_path_or_a_module() {
        assert!(script_files("./sub/score.py").contains(&"sub/score.py".into()));
        assert!(script_files("package.main").contains(&"package/main.py".into()));
        assert!(script_files("package.main").contains(&"package/main/__init__.py".into()));
    }
}
