//! The Python host program, embedded: written beside each node, so that it fits the worker that started it.

use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, Result};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../python/", $name)))),*] };
}

/// The files, relative to `worker/python`.
const FILES: [(&str, &str); 12] = embedded![
    "host/fanfold_host.py",
    "host/_fanfold/__init__.py",
    "host/_fanfold/failure.py",
    "host/_fanfold/loop.py",
    "host/_fanfold/main.py",
    "host/_fanfold/profiling.py",
    "host/_fanfold/rows.py",
    "host/_fanfold/script.py",
    "host/_fanfold/streams.py",
    "host/_fanfold/wire.py",
    "azureml_user/__init__.py",
    "azureml_user/parallel_run/__init__.py",
];

/// With this begins what the host says in its own name on the script's stderr.
pub const SAYS: &str = "fanfold: ";
/// With these codes it leaves after it said why it can't go on: its pipes are gone, or it has a bug.
pub const EXIT_CODES: [i32; 2] = [3, 70];

/// Writes the host program into `dir` and returns the file to start.
///
/// # Errors
/// The files can't be written.
pub fn install(dir: &Path) -> Result<PathBuf> {
    for (name, text) in FILES {
        // The package that scripts import lies beside the host: the folder of the program is where Python looks first.
        let path = dir.join(name.strip_prefix("host/").unwrap_or(name));
        let parent = path.parent().expect("a file under dir");
        fs::create_dir_all(parent).during("create", parent)?;
        fs::write(&path, text).during("write", &path)?;
    }
    Ok(dir.join("fanfold_host.py"))
}

/// A path of the job directory as JSON carries it. Job directories are UTF-8: others are refused at submission.
pub fn path_text(path: &Path) -> serde_json::Value {
    serde_json::Value::String(path.to_string_lossy().into_owned())
}
