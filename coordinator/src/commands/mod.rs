//! The verbs of `fanfold`, one module each: `Args` says what it takes, `run` does it.
//!
//! Data goes to the writer that `run` is given (standard output), everything else to stderr.

pub mod doctor;
pub mod errors;
pub mod fleet;
pub mod logs;
pub mod ls;
pub mod plan;
pub mod retry;
pub mod run;
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

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(Debug, Subcommand)]
    enum Verb {
        Ls(super::ls::Args),
        Status(super::status::Args),
        Errors(super::errors::Args),
        Logs(super::logs::Args),
    }

    #[test]
    fn verbs_take_what_they_say() {
        <Cli as clap::CommandFactory>::command().debug_assert();
        for (line, accepted) in [
            ("fanfold ls", true),
            ("fanfold ls score --json", true),
            ("fanfold status score-1a --json", true),
            ("fanfold status", false),
            ("fanfold errors score-1a --full --kind timeout --limit 0", true),
            ("fanfold errors score-1a --kind tiemout", false),
            ("fanfold logs score-1a", true),
            ("fanfold logs score-1a process000 --stderr --tail 10 -f", true),
            ("fanfold logs score-1a overview --json", false),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), accepted, "{line}");
        }
    }
}
