//! The files of an output directory, in the order in which they are uploaded.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, IoError, Result};
use walkdir::WalkDir;

use super::UploadError;

/// A file.
pub(super) struct LocalFile {
    pub path: PathBuf,
    /// Below the output directory.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// All files below a directory, by their names; the output file is the last: where it is, all is.
pub(super) struct Files<'a> {
    dir: &'a Path,
    last: Option<&'a Path>,
}

impl<'a> Files<'a> {
    pub(super) fn below(dir: &'a Path, last: Option<&'a Path>) -> Files<'a> {
        Files { dir, last }
    }

    /// How many there are, and their bytes.
    pub(super) fn count(&self) -> Result<(u64, u64)> {
        self.each().try_fold((0, 0), |(files, bytes), file| Ok((files + 1, bytes + file?.len)))
    }

    /// One after the other: what a million files take is what a directory of them takes.
    pub(super) fn each(&self) -> impl Iterator<Item = Result<LocalFile>> {
        let is_last = |path: &Path| Some(path) == self.last;
        let walk = WalkDir::new(self.dir).min_depth(1).sort_by_file_name().into_iter();
        let others = walk.filter_map(move |entry| {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.depth() == 0 => return None,
                Err(error) => {
                    let path = error.path().unwrap_or(self.dir).to_path_buf();
                    return Some(Err(IoError { operation: "list", path, source: error.into() }.into()));
                }
            };
            (!is_last(entry.path())).then(|| self.file(entry.into_path())).and_then(Result::transpose)
        });
        let last = self.last.and_then(|last| self.file(last.to_path_buf()).transpose());
        others.chain(last)
    }

    /// None: it is a folder, or nothing that has bytes.
    fn file(&self, path: PathBuf) -> Result<Option<LocalFile>> {
        let found = fs::metadata(&path).during("look at", &path)?;
        if !found.is_file() {
            return Ok(None);
        }
        let name = path.strip_prefix(self.dir).expect("it lies below");
        let refused = |why| UploadError::Name { path: path.clone(), why };
        let text = name.to_str().ok_or_else(|| refused("its name is not UTF-8, as names in the cloud are"))?;
        if name.as_os_str().as_bytes().iter().any(u8::is_ascii_control) {
            return Err(refused("its name holds a control character, which names in the cloud do not").into());
        }
        Ok(Some(LocalFile { name: text.to_string(), len: found.len(), path }))
    }
}
