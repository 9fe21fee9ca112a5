//! What can go wrong before there is a Python to run.

use std::fmt;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{ExitCode, IoError, Report};

use super::interpreter::OLDEST;

/// Why a job has no Python.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A name without a slash that is in none of PATH's folders.
    #[error("no `{}` on PATH ({search})", python.display())]
    NotOnPath {
        /// The name.
        python: PathBuf,
        /// PATH.
        search: String,
        /// Another Python that is there.
        instead: Option<PathBuf>,
    },
    /// A path at which there is nothing.
    #[error("the interpreter `{}` does not exist", python.display())]
    NoSuchFile {
        /// The path.
        python: PathBuf,
    },
    /// A path at which there is something else.
    #[error("the interpreter `{}` is not an executable file", python.display())]
    NotExecutable {
        /// The path.
        python: PathBuf,
    },
    /// It runs, or does not even that, but not as a Python.
    #[error("`{}` does not work as a Python interpreter: {reason}", python.display())]
    NotPython {
        /// What was started.
        python: PathBuf,
        /// What it did.
        reason: String,
    },
    /// A Python that the host program does not run on.
    #[error("`{}` is Python {version}", python.display())]
    TooOld {
        /// What was started.
        python: PathBuf,
        /// As it says.
        version: String,
    },
    /// A Python that can't make virtual environments.
    #[error("Python {version} at `{}` has no module `{module}`, which virtual environments need", python.display())]
    MissingModule {
        /// Which interpreter.
        python: PathBuf,
        /// As it says.
        version: String,
        /// `venv` or `ensurepip`.
        module: &'static str,
    },
    /// A line that can't be part of a shared environment.
    #[error("requirement `{line}`: {reason}")]
    Requirement {
        /// The line.
        line: String,
        /// Why not.
        reason: String,
    },
    /// A step of the build failed.
    #[error("{step} {how} while building the job's environment")]
    Build {
        /// `pip install` or `python -m venv`.
        step: &'static str,
        /// `exited with code 1`.
        how: String,
        /// Its last lines.
        #[source]
        said: LastLines,
        /// All of its output.
        log: PathBuf,
    },
    /// Cut short on request.
    #[error("interrupted while preparing the job's environment")]
    Interrupted,
    /// Neither XDG_CACHE_HOME nor a home directory.
    #[error("there is no place for virtual environments: this user has no home directory")]
    NoCache,
    /// A file of the cache.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The end of an output, as the cause of an error.
#[derive(Debug)]
pub struct LastLines(pub Vec<String>);

impl fmt::Display for LastLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("it said nothing"),
            lines => f.write_str(&lines.join("\n    ")),
        }
    }
}

impl std::error::Error for LastLines {}

impl Report for EnvironmentError {
    fn exit_code(&self) -> ExitCode {
        match self {
            EnvironmentError::NotOnPath { .. }
            | EnvironmentError::NoSuchFile { .. }
            | EnvironmentError::NotExecutable { .. }
            | EnvironmentError::NotPython { .. }
            | EnvironmentError::TooOld { .. }
            | EnvironmentError::Requirement { .. } => ExitCode::Usage,
            EnvironmentError::MissingModule { .. } | EnvironmentError::Build { .. } | EnvironmentError::NoCache => {
                ExitCode::Failed
            }
            EnvironmentError::Interrupted => ExitCode::Interrupted,
            EnvironmentError::Io(error) => error.exit_code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            EnvironmentError::NotOnPath { instead: Some(instead), .. } => {
                Some(format!("there is `{}`: set `environment: {{python: {}}}`", instead.display(), instead.display()))
            }
            EnvironmentError::NotOnPath { instead: None, .. }
            | EnvironmentError::NoSuchFile { .. }
            | EnvironmentError::NotExecutable { .. }
            | EnvironmentError::NotPython { .. } => {
                Some("set `environment: {python: …}` to the path of a Python interpreter".into())
            }
            EnvironmentError::TooOld { .. } => {
                Some(format!("Python {}.{} or later is needed: set `environment: {{python: …}}`", OLDEST.0, OLDEST.1))
            }
            EnvironmentError::MissingModule { python, version, .. } => Some(venv_hint(python, version)),
            EnvironmentError::Requirement { line, .. } if line.starts_with("-e") || line.starts_with("--e") => {
                Some("name the folder without `-e`: it is installed as it is now, and again when it has changed".into())
            }
            EnvironmentError::Requirement { .. } => {
                Some("relative paths start at the folder of the requirements file".into())
            }
            EnvironmentError::Build { said, .. } => Some(build_hint(&said.0)),
            EnvironmentError::NoCache => Some("set XDG_CACHE_HOME to a folder that this user can write to".into()),
            EnvironmentError::Interrupted => None,
            EnvironmentError::Io(error) => error.hint(),
        }
    }

    fn log(&self) -> Option<&Path> {
        match self {
            EnvironmentError::Build { log, .. } => Some(log),
            _ => None,
        }
    }
}

/// Debian and Ubuntu have the module in a package of its own, named after the version, for their own interpreters.
fn venv_hint(python: &Path, version: &str) -> String {
    let minor: Vec<&str> = version.split('.').take(2).collect();
    let package = format!("python{}-venv", minor.join("."));
    if python.starts_with("/usr/bin") || python.starts_with("/bin") {
        format!("install it: `apt install {package}` on Debian and Ubuntu")
    } else {
        format!(
            "use an interpreter that has it (on Debian and Ubuntu, /usr/bin/python3 does after `apt install {package}`)"
        )
    }
}

fn build_hint(said: &[String]) -> String {
    let has = |texts: &[&str]| said.iter().any(|line| texts.iter().any(|text| line.contains(text)));
    if has(&["No space left on device", "Disk quota exceeded"]) {
        "make room for the environment, or set XDG_CACHE_HOME to a larger disk, and run the same command again".into()
    } else if has(&["NewConnectionError", "ConnectTimeout", "Temporary failure in name resolution", "SSLError"]) {
        "this machine does not reach the package index: set PIP_INDEX_URL or PIP_PROXY, or name local wheels".into()
    } else if has(&["No matching distribution found", "Could not find a version"]) {
        "check that line's spelling and version; some packages have no version for this Python".into()
    } else {
        "correct the requirements and run the same command again: the environment is built anew".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::report::Failure;

    #[test]
    fn a_failed_build_prints_the_last_lines_the_log_and_a_way_out() {
        let said = ["Collecting nunpy", "ERROR: No matching distribution found for nunpy"];
        let failure = Failure::from(EnvironmentError::Build {
            step: "`pip install`",
            how: "exited with code 1".into(),
            said: LastLines(said.map(String::from).to_vec()),
            log: "/cache/0123.failed.log".into(),
        });
        let mut text = Vec::new();
        failure.print(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error: `pip install` exited with code 1 while building the job's environment\n  \
             cause: Collecting nunpy\n    ERROR: No matching distribution found for nunpy\n  \
             log:   /cache/0123.failed.log\n\
             hint: check that line's spelling and version; some packages have no version for this Python\n"
        );
        assert_eq!(failure.exit_code(), ExitCode::Failed);
    }

    #[test]
    fn the_debian_package_is_named() {
        assert!(venv_hint(Path::new("/usr/bin/python3"), "3.11.2").contains("`apt install python3.11-venv`"));
    }
}
