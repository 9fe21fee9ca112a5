//! What is never part of a snapshot, whatever the ignore files say.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::job::JobSpec;

use crate::prepare::glob::{self, Pattern};
use crate::prepare::walk::Identities;

/// Never part of a script: what git, Python and fanfold keep for themselves.
const NEVER: [&str; 3] = [".git", "__pycache__", "fanfold-jobs"];

/// A folder that holds one of these is a virtual environment or a job directory.
const MARKERS: [&str; 2] = ["pyvenv.cfg", ".fanfold"];

/// What is left out whatever the ignore files say.
pub(super) struct LeaveOut {
    known: Identities,
    patterns: Vec<(PathBuf, Pattern)>,
}

impl LeaveOut {
    pub(super) fn new(spec: &JobSpec, own: &[PathBuf]) -> LeaveOut {
        let inputs = spec.inputs.iter().map(|input| Path::new(&input.path));
        let beside = spec.side_inputs.values().chain(spec.models.values()).chain(own).map(PathBuf::as_path);
        let patterns = spec.inputs.iter().filter(|input| !Path::new(&input.path).exists()).filter_map(|input| {
            let (root, rest) = glob::take_apart(&input.path)?;
            Some((root, Pattern::new(&rest, false).ok()?))
        });
        LeaveOut { known: Identities::new(inputs.chain(beside)), patterns: patterns.collect() }
    }

    /// Whether `path` (following links) or everything below it is left out.
    pub(super) fn contains(&self, path: &Path) -> bool {
        if path.file_name().is_some_and(|name| NEVER.iter().any(|never| name == *never)) {
            return true;
        }
        let Ok(found) = fs::metadata(path) else { return false };
        if self.known.contain(&found) {
            return true;
        }
        if found.is_dir() {
            return MARKERS.iter().any(|marker| path.join(marker).exists());
        }
        self.patterns.iter().any(|(root, pattern)| {
            path.strip_prefix(root).is_ok_and(|name| pattern.matches(name.as_os_str().as_bytes()))
        })
    }
}
