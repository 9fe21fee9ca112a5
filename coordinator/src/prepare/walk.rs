//! Goes through a folder and everything below it, without looking at the files themselves.
//!
//! The kind of an entry comes with its name (`d_type`), so a regular file costs no system call of its own. Memory is
//! bounded by the depth: a folder is entered when it is met, not remembered for later. The order is the file system's.
//!
//! All files count, hidden ones included, as in the original's FileDataset. Symbolic links are followed; one whose
//! target can't be reached is listed as well, to fail as an item with its reason rather than to be missing without a word.

use std::collections::HashSet;
use std::fs::{self, FileType, Metadata, ReadDir};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fanfold_shared::report::IoError;

use super::notes::{LeftOut, Notes};
use super::{Cancel, ListError};

/// Folders within folders: each holds a descriptor while it is read.
const MAX_DEPTH: usize = 256;

/// Entries between two looks at whether to stop.
const CANCEL_EVERY: u64 = 1024;

/// What identifies a file or directory whatever its path.
type Identity = (u64, u64);

/// Files and directories known by what they are, not by how they are spelt.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities(HashSet<Identity>);

impl Identities {
    /// Those of `paths` that exist.
    pub(super) fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Identities {
        let found = paths.into_iter().filter_map(|path| fs::metadata(path).ok());
        Identities(found.map(|found| identity(&found)).collect())
    }

    /// Whether `found` is one of them.
    pub(super) fn contain(&self, found: &Metadata) -> bool {
        self.0.contains(&identity(found))
    }
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// What a walk needs to know.
pub(super) struct Walk<'a> {
    /// The input's name, for errors.
    pub(super) input: &'a str,
    /// Where it begins.
    pub(super) root: &'a Path,
    /// Not entered (but for the root itself).
    pub(super) excluded: &'a Identities,
    /// Whether to enter a folder, by its depth (1: directly below the root) and its name.
    pub(super) enter: &'a dyn Fn(usize, &[u8]) -> bool,
    /// Asked regularly; true stops the walk.
    pub(super) cancel: &'a Cancel<'a>,
}

/// A folder being read.
struct Frame {
    entries: ReadDir,
    /// The length of its relative name in [`State::name`].
    name_len: usize,
    identity: Identity,
}

/// Where the walk is.
struct State<'n> {
    stack: Vec<Frame>,
    /// The relative name of the current entry.
    name: Vec<u8>,
    notes: &'n mut Notes,
    seen: u64,
}

/// What to do with an entry.
enum Entry {
    File,
    Folder(Metadata),
    Nothing,
}

impl Walk<'_> {
    /// Calls `visit` with the name, relative to the root, of every file.
    pub(super) fn run(
        &self,
        notes: &mut Notes,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<(), ListError> {
        let found = fs::metadata(self.root).map_err(|error| self.unreadable("examine", self.root, error))?;
        let entries = fs::read_dir(self.root).map_err(|error| self.unreadable("list", self.root, error))?;
        notes.folders += 1;
        let root = Frame { entries, name_len: 0, identity: identity(&found) };
        let mut state = State { stack: vec![root], name: Vec::new(), notes, seen: 0 };
        while let Some(frame) = state.stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                state.stack.pop();
                continue;
            };
            state.name.truncate(frame.name_len);
            let entry = entry.map_err(|error| self.unreadable("list", &self.path(&state.name), error))?;
            let file_name = entry.file_name();
            if frame.name_len > 0 {
                state.name.push(b'/');
            }
            state.name.extend_from_slice(file_name.as_bytes());
            state.seen += 1;
            if state.seen.is_multiple_of(CANCEL_EVERY) {
                (self.cancel)()?;
            }
            // A file system that does not tell kinds costs a system call here.
            let Ok(kind) = entry.file_type() else { continue };
            match self.judge(kind, &mut state, file_name.as_bytes())? {
                Entry::File => visit(&state.name)?,
                Entry::Folder(found) => self.descend(&mut state, &found)?,
                Entry::Nothing => {}
            }
        }
        Ok(())
    }

    fn judge(&self, kind: FileType, state: &mut State<'_>, file_name: &[u8]) -> Result<Entry, ListError> {
        if kind.is_file() {
            return Ok(Entry::File);
        }
        let may_enter = || (self.enter)(state.stack.len(), file_name);
        if kind.is_dir() && !may_enter() {
            return Ok(Entry::Nothing);
        }
        let path = self.path(&state.name);
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(_) if kind.is_symlink() => return Ok(Entry::File),
            // Removed since its folder was read: as if it had never been there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entry::Nothing),
            Err(error) => return Err(self.unreadable("examine", &path, error)),
        };
        if found.is_file() {
            return Ok(Entry::File);
        }
        let left_out = if !found.is_dir() {
            LeftOut::Special
        } else if !may_enter() {
            return Ok(Entry::Nothing);
        } else if self.excluded.contain(&found) {
            LeftOut::Own
        } else if kind.is_symlink() && state.stack.iter().any(|frame| frame.identity == identity(&found)) {
            LeftOut::Loop
        } else {
            return Ok(Entry::Folder(found));
        };
        state.notes.leave_out(left_out, &path);
        Ok(Entry::Nothing)
    }

    fn descend(&self, state: &mut State<'_>, found: &Metadata) -> Result<(), ListError> {
        let path = self.path(&state.name);
        if state.stack.len() > MAX_DEPTH {
            return Err(ListError::TooDeep { input: self.input.to_string(), path, limit: MAX_DEPTH });
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.ends_with("lost+found") => {
                state.notes.leave_out(LeftOut::LostFound, &path);
                return Ok(());
            }
            Err(error) => return Err(self.unreadable("list", &path, error)),
        };
        state.notes.folders += 1;
        state.stack.push(Frame { entries, name_len: state.name.len(), identity: identity(found) });
        Ok(())
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(name))
    }

    fn unreadable(&self, operation: &'static str, path: &Path, source: io::Error) -> ListError {
        let source = IoError { operation, path: path.to_path_buf(), source };
        ListError::Unreadable { input: self.input.to_string(), source }
    }
}
