//! Errors as the user meets them: what, where, why, how to fix; and the exit codes.
//!
//! Each module has its own `thiserror` type whose text is a lowercase fragment without its cause; it implements
//! [`Report`] to add advice and the exit code. [`Failure`] carries any of them upwards, [`Failure::print`] writes it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The exit codes of `fanfold` (spec section 5). No other code leaves the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The job is Completed (or the command did what it says).
    Completed = 0,
    /// The job is Failed.
    Failed = 1,
    /// Bad usage, job file or input; nothing was written over.
    Usage = 2,
    /// The job was canceled.
    Canceled = 3,
    /// Broker, Redis or coordinator not reachable.
    Unreachable = 4,
    /// Completed, but items failed and the job set no threshold.
    ItemsFailed = 5,
    /// A bug of ours.
    Bug = 70,
    /// Interrupted by Ctrl-C (128 + SIGINT).
    Interrupted = 130,
    /// Interrupted by SIGTERM (128 + SIGTERM).
    Terminated = 143,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        (code as u8).into()
    }
}

/// An error that can tell the user how to go on.
pub trait Report: Error + Any + Send + Sync {
    /// The exit code that says whose fault it was.
    fn exit_code(&self) -> ExitCode;

    /// Advice, printed last: what to change, or what to run.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The file with the details, where there is one.
    fn log(&self) -> Option<&Path> {
        None
    }
}

/// Any reported error, on its way to `main`.
pub struct Failure(Box<dyn Report>);

impl<E: Report> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(Box::new(error))
    }
}

impl Failure {
    /// See [`Report::exit_code`].
    pub fn exit_code(&self) -> ExitCode {
        self.0.exit_code()
    }

    /// See [`Report::hint`].
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// Whether the error is an `E`.
    pub fn is<E: Report>(&self) -> bool {
        let any: &dyn Any = &*self.0;
        any.is::<E>()
    }

    /// Whether it is room on a disk that was wanting, wherever below.
    pub fn is_disk_full(&self) -> bool {
        let mut cause = self.0.source();
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_disk_full) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The error itself, if it is an `E`.
    ///
    /// # Errors
    /// It is another one: here it is again.
    pub fn downcast<E: Report>(self) -> Result<E, Failure> {
        match self.is::<E>() {
            true => {
                let any: Box<dyn Any> = self.0;
                Ok(*any.downcast().expect("it was asked just now"))
            }
            false => Err(self),
        }
    }

    /// The message and its chain of causes on one line, for places that have one line (status, logs).
    pub fn one_line(&self) -> String {
        let mut text = self.0.to_string();
        for cause in self.causes() {
            text.push_str(": ");
            text.push_str(&cause);
        }
        text
    }

    /// The chain of causes. Some libraries repeat the text of the cause in front of it or behind it: it is told once.
    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            match causes.last() {
                Some(last) if text.ends_with(last) || last.ends_with(&text) => {}
                _ => causes.push(text),
            }
            cause = error.source();
        }
        causes
    }

    /// Writes the error, its causes, its log and its hint, in the form that `style.md` shows.
    pub fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        writeln!(out, "error: {}", self.0)?;
        for cause in self.causes() {
            writeln!(out, "  cause: {cause}")?;
        }
        if let Some(log) = self.0.log() {
            writeln!(out, "  log:   {}", log.display())?;
        }
        if let Some(hint) = self.0.hint() {
            writeln!(out, "hint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

/// The result of anything that can end in front of the user.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// An operation on a file that the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct IoError {
    /// What was tried, as a verb: `read`, `create`.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// Whether it is room that was wanting.
    pub fn is_disk_full(&self) -> bool {
        is_disk_full(&self.source)
    }
}

/// Whether it is room that was wanting: to be waited for, or made, and then tried again.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Report for IoError {
    fn exit_code(&self) -> ExitCode {
        match self.source.kind() {
            // The path is at fault, and the user chose it.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                ExitCode::Usage
            }
            _ => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.source.kind() {
            _ if self.is_disk_full() => {
                Some("make room on that file system, then run the same command again: nothing is lost".into())
            }
            io::ErrorKind::PermissionDenied => Some("check the owner and the mode of that path".into()),
            io::ErrorKind::ReadOnlyFilesystem => Some("choose a job directory on a writable file system".into()),
            _ => None,
        }
    }
}

/// Adds the operation and the path to an I/O error: `fs::read(path).during("read", path)?`.
pub trait During<T> {
    /// Names what was tried on which path.
    fn during(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|error| IoError { operation, path: path.as_ref().to_path_buf(), source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_what_why_and_how_to_fix() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let failure = Failure::from(IoError { operation: "read", path: "job.yaml".into(), source: refused });
        let mut text = Vec::new();
        failure.print(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error: cannot read `job.yaml`\n  cause: permission denied\nhint: check the owner and the mode of that path\n"
        );
    }
}
