//! What the path of an input stands for: a file, a folder or a pattern.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::items::Fingerprint;
use fanfold_shared::job::{Input, InputType, MLTABLE};
use fanfold_shared::report::IoError;
use fanfold_shared::uri::Uri;

use super::cloud::{Cloud, Objects};
use super::empty;
use super::glob::{self, Pattern};
use super::notes::Notes;
use super::walk::{Identities, Walk};
use super::{Cancel, ListError};

/// An input, looked at. Names of its files are relative to its root.
pub(super) enum Source {
    /// One file: its folder and its name.
    File(PathBuf, String),
    /// A folder: all files in it and below it.
    Folder(PathBuf),
    /// A folder, and which files below it.
    Glob(PathBuf, Box<Pattern>, String),
    /// At an address.
    Cloud(Objects),
}

/// Is told of each file: its name, and of objects what is known of it.
pub(super) type Visit<'a> = dyn FnMut(&[u8], Option<Fingerprint>) -> Result<(), ListError> + 'a;

/// What all inputs of a job are looked at with.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    /// Identities of the job itself, to be left out.
    pub(super) excluded: &'a Identities,
    /// Asked regularly; true stops.
    pub(super) cancel: &'a Cancel<'a>,
    /// Files called `MLTable` say what the data is, and are none of it.
    pub(super) of_mltable: bool,
    /// What the files are to be, as far as it is known.
    pub(super) input_type: InputType,
    /// Opens addresses.
    pub(super) cloud: &'a Cloud,
}

/// Whether a file of an MLTable is the file `MLTable` itself, which is never data.
fn is_the_mltable(look: Look<'_>, name: &[u8]) -> bool {
    look.of_mltable && name.rsplit(|byte| *byte == b'/').next() == Some(MLTABLE.as_bytes())
}

impl Source {
    /// Looks at what `input` names. A path that exists is taken as it is, even with a wildcard in its name.
    pub(super) fn resolve(input: &Input, look: Look<'_>) -> Result<Source, ListError> {
        if Uri::is_meant(&input.path) {
            return Objects::resolve(input, look).map(Source::Cloud);
        }
        // Without the trailing slash, `.` and doubled slashes that users type.
        let path: PathBuf = Path::new(&input.path).components().collect();
        let name = || input.name.clone();
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Source::resolve_pattern(input, path);
            }
            Err(source) => {
                let source = IoError { operation: "examine", path, source };
                return Err(ListError::Unreadable { input: name(), source });
            }
        };
        if found.is_dir() {
            if look.excluded.contain(&found) {
                return Err(ListError::OwnDirectory { input: name(), path });
            }
            return Ok(Source::Folder(path));
        }
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(file)) if found.is_file() => Ok(Source::File(parent.to_path_buf(), file.to_string())),
            _ => Err(ListError::Special { input: name(), path }),
        }
    }

    fn resolve_pattern(input: &Input, path: PathBuf) -> Result<Source, ListError> {
        let missing =
            |path: PathBuf| ListError::Missing { input: input.name.clone(), hint: empty::nearest(&path), path };
        let Some((root, rest)) = glob::take_apart(&input.path) else { return Err(missing(path)) };
        let pattern = Pattern::new(&rest, false).map_err(|source| ListError::Pattern {
            input: input.name.clone(),
            pattern: input.path.clone(),
            source,
        })?;
        if !root.is_dir() {
            return Err(missing(root));
        }
        Ok(Source::Glob(root, Box::new(pattern), rest))
    }

    /// The folder that names are relative to.
    pub(super) fn root(&self) -> &Path {
        match self {
            Source::File(root, _) | Source::Folder(root) | Source::Glob(root, ..) => root,
            Source::Cloud(objects) => objects.root(),
        }
    }

    /// Its objects, if it is at an address.
    pub(super) fn objects(&self) -> Option<&Objects> {
        match self {
            Source::Cloud(objects) => Some(objects),
            Source::File(..) | Source::Folder(..) | Source::Glob(..) => None,
        }
    }

    /// [`Source::for_each_file`], with what is known of each: of objects their fingerprint.
    pub(super) fn for_each_known(
        &self,
        input: &str,
        look: Look<'_>,
        notes: &mut Notes,
        visit: &mut Visit<'_>,
    ) -> Result<(), ListError> {
        match self {
            Source::Cloud(objects) => {
                objects.for_each(look.cancel, &mut |name, known| match is_the_mltable(look, name) {
                    true => Ok(()),
                    false => visit(name, known),
                })
            }
            Source::File(..) | Source::Folder(..) | Source::Glob(..) => {
                self.for_each_file(input, look, notes, &mut |name| visit(name, None))
            }
        }
    }

    /// Calls `visit` with the name of every file of the input called `input`, in no particular order.
    pub(super) fn for_each_file(
        &self,
        input: &str,
        look: Look<'_>,
        notes: &mut Notes,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), ListError>,
    ) -> Result<(), ListError> {
        let visit = &mut |name: &[u8]| match is_the_mltable(look, name) {
            true => Ok(()),
            false => visit(name),
        };
        let walk = |enter| Walk { input, root: self.root(), excluded: look.excluded, enter, cancel: look.cancel };
        match self {
            Source::File(_, name) => visit(name.as_bytes()),
            Source::Folder(_) => walk(&|_, _| true).run(notes, visit),
            Source::Glob(_, pattern, _) => walk(&|depth, name| pattern.enters(depth, name))
                .run(notes, &mut |name| if pattern.matches(name) { visit(name) } else { Ok(()) }),
            Source::Cloud(objects) => objects.for_each(look.cancel, &mut |name, _| visit(name)),
        }
    }
}
