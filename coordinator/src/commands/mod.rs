//! The verbs of `fanfold`, one module each: `Args` says what it takes, `run` does it.
//!
//! Data goes to the writer that `run` is given (standard output), everything else to stderr.

pub mod args;
pub mod client;
pub mod completion;
pub mod dataset;
pub mod datastore;
pub mod doctor;
pub mod errors;
pub mod explain;
pub mod fleet;
pub mod job_file;
pub mod logs;
pub mod ls;
pub mod man;
pub mod nodes;
pub mod orders;
pub mod plan;
pub mod results;
pub mod retry;
pub mod run;
pub mod serve;
pub mod status;
pub mod submit;
pub mod target;
pub mod watch;

use std::io;

use fanfold_shared::report::{During, ExitCode, IoError, Result};

/// The end of a verb that has written its data: a reader that had enough (`| head`) is no error.
fn written(outcome: io::Result<()>) -> Result<ExitCode, IoError> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Completed),
        outcome => outcome.during("write", "standard output").map(|()| ExitCode::Completed),
    }
}

/// [`written`] for what reads files as it writes: only an error of `out` itself may be a pipe that broke.
fn piped(outcome: Result<()>) -> Result<ExitCode> {
    let Err(failure) = outcome else { return Ok(ExitCode::Completed) };
    match failure.downcast::<IoError>()? {
        error if error.source.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Completed),
        error => Err(error.into()),
    }
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
        Serve(super::serve::Args),
        Submit(super::submit::Args),
        Watch(super::watch::Args),
        Results(super::results::Args),
        Run(super::run::Args),
        Plan(super::plan::Args),
        Cancel(super::orders::Args),
        Pause(super::orders::Args),
        Resume(super::orders::ResumeArgs),
        Explain(super::explain::Args),
        Nodes(super::nodes::Args),
        Drain(super::nodes::DrainArgs),
        Retry(super::retry::Args),
        Dataset(super::dataset::Args),
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
            ("fanfold status score-1a --service http://127.0.0.1:7070 --ca ca.pem", true),
            ("fanfold serve --listen 0.0.0.0:7070 --insecure --standby --max-jobs 8", true),
            ("fanfold serve --max-jobs 0", false),
            ("fanfold serve --tls-cert c.pem", false),
            ("fanfold submit job.yaml --set a=1 --set b=2 --wait --key k", true),
            ("fanfold watch score-1a", true),
            ("fanfold results score-1a --partial -o out.txt", true),
            ("fanfold cancel score-1a", true),
            ("fanfold explain score-1a --json", true),
            ("fanfold nodes --json", true),
            ("fanfold drain gpu-01", true),
            ("fanfold drain", false),
            ("fanfold retry --failed score-1a", true),
            ("fanfold retry --failed --new-script score-1a --json", true),
            ("fanfold retry --failed score-1a --set a=1 --service https://h:7070 --ca ca.pem", true),
            ("fanfold retry --failed ./job --shared /mnt --broker amqp://h/ --redis redis://h/", true),
            ("fanfold resume ./job --shared /mnt --broker amqp://h/ --redis redis://h/", true),
            ("fanfold resume score-1a --service https://h:7070 --ca ca.pem --json", true),
            ("fanfold pause ./job --shared /mnt", false),
            ("fanfold run job.yaml --set a=1 --set b=2 --shared /mnt", true),
            ("fanfold dataset register iris --path a --path b --input-type csv --new-version --json", true),
            ("fanfold dataset register iris", false),
            ("fanfold dataset list --service http://127.0.0.1:7070 --json", true),
            ("fanfold dataset show iris:3", true),
            ("fanfold dataset", false),
            ("fanfold plan job.yaml --set a=1 --shared /mnt --broker amqp://h/ --redis redis://h/", true),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), accepted, "{line}");
        }
    }
}
