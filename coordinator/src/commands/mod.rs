//! The verbs of `fanfold`, one module each: `Args` says what it takes, `run` does it.
//!
//! Data goes to the writer that `run` is given (standard output), everything else to stderr.

pub mod errors;
pub mod logs;
pub mod ls;
pub mod status;

use std::io;

use fanfold_shared::report::{During, ExitCode, IoError};

/// The end of a verb that has written its data: a reader that had enough (`| head`) is no error.
fn written(outcome: io::Result<()>) -> Result<ExitCode, IoError> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Completed),
        outcome => outcome.during("write", "standard output").map(|()| ExitCode::Completed),
    }
}

/// [`written`] for what reads files as it writes: only an error of `out` itself may be a pipe that broke.
fn is_broken_pipe(error: &IoError) -> bool {
    error.source.kind() == io::ErrorKind::BrokenPipe
}
