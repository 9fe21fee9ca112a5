//! The Python host program, embedded: written beside each node, so that it fits the worker that started it.

use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, Result};

/// The files, relative to `worker/python`.
const FILES: [(&str, &str); 1] = [("fanfold_host.py", include_str!("../python/fanfold_host.py"))];

/// Writes the host program into `dir` and returns the file to start.
///
/// # Errors
/// The files can't be written.
pub fn install(dir: &Path) -> Result<PathBuf> {
    for (name, text) in FILES {
        let path = dir.join(name);
        let parent = path.parent().expect("a file under dir");
        fs::create_dir_all(parent).during("create", parent)?;
        fs::write(&path, text).during("write", &path)?;
    }
    Ok(dir.join(FILES[0].0))
}

/// A path of the job directory as JSON carries it. Job directories are UTF-8: others are refused at submission.
pub fn path_text(path: &Path) -> serde_json::Value {
    serde_json::Value::String(path.to_string_lossy().into_owned())
}
