//! Which Python runs the script: an interpreter that is there, or a virtual environment that is built once per content.
//!
//! An environment is named by a hash of everything that decides what is in it, lies in the user's cache, and is shared by all
//! jobs. It is complete if and only if its marker file is there, which is written last, after everything else is on disk;
//! whatever dies before that leaves a folder that the next builder removes. One builder at a time: a lock for each name.
//! Built in place, since a virtual environment holds its own path.

mod build;
mod dtypes;
mod error;
mod interpreter;
mod requirements;
mod run;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use fanfold_shared::job::Environment;

pub use dtypes::unknown_dtype;
pub use error::EnvironmentError;

/// The interpreter for a job's processes.
///
/// [`Environment::Python`] is looked for and not started: its processes report their version themselves. For
/// [`Environment::Requirements`] the virtual environment is built unless it is there: minutes, perhaps. What pip says
/// goes line by line to `progress` and is appended to `log`; so do the waits for another builder. Setting `cancel` kills pip.
///
/// Variables `PIP_*` are passed on and are no part of the environment's name: changing an index does not rebuild.
/// The calling thread must live until this returns.
pub fn prepare(
    environment: &Environment,
    log: &Path,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, EnvironmentError> {
    match environment {
        Environment::Python(python) => interpreter::find(python),
        Environment::Requirements { lines, python, base } => {
            let cache = user_cache().ok_or(EnvironmentError::NoCache)?.join("environments");
            build::prepare(&build::Wanted { cache: &cache, lines, python, base, log }, cancel, progress)
        }
    }
}

/// What decides which code a job's processes load, as one word: the interpreter of this machine with its packages by name and version, or
/// what the requirements and the files that they name say, and the interpreter they are for. Nothing is built.
///
/// # Errors
/// There is no such interpreter, or the requirements can't be read.
pub fn identity(environment: &Environment) -> Result<String, EnvironmentError> {
    Ok(match environment {
        Environment::Python(python) => {
            let (interpreter, packages) = interpreter::ask_with_packages(interpreter::find(python)?)?;
            word(&["python", &interpreter.path.to_string_lossy(), &interpreter.identity, &packages])
        }
        Environment::Requirements { lines, python, base } => {
            let interpreter = interpreter::ask(interpreter::find(python)?)?;
            word(&["requirements", &interpreter.identity, &requirements::read(lines, base)?.content])
        }
    })
}

/// The same as far as the job says it, for a job that runs on machines whose interpreters can't be asked from here.
///
/// # Errors
/// The requirements can't be read.
pub fn declared_identity(environment: &Environment) -> Result<String, EnvironmentError> {
    Ok(match environment {
        Environment::Python(python) => word(&["declared python", &python.to_string_lossy()]),
        Environment::Requirements { lines, python, base } => {
            let content = requirements::read(lines, base)?.content;
            word(&["declared requirements", &python.to_string_lossy(), &content])
        }
    })
}

fn word(parts: &[&str]) -> String {
    blake3::hash(parts.join("\0").as_bytes()).to_hex().to_string()
}

/// `$XDG_CACHE_HOME/fanfold`, where the XDG rules allow only an absolute path; under `~/.cache` without it. None: no home either.
pub(crate) fn user_cache() -> Option<PathBuf> {
    cache_directory(|name| std::env::var_os(name).map(PathBuf::from))
}

fn cache_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let home = || {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        absolute("HOME").or_else(|| user.map(|user| user.dir))
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("fanfold"))
}

#[cfg(test)]
pub(crate) mod tests;
