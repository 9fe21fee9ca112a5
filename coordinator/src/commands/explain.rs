//! `fanfold explain`: why a job waits, or is not faster.

use std::io::Write;

use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::text::harmless;

use super::args::JobArgs;
use super::target::Target;
use super::written;
use crate::view::{Explained, Waiting, explain};

/// Say why a job waits, or what it is busy with.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Says why.
///
/// # Errors
/// The job's status can't be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let explained: Explained = match args.job.find()? {
        Target::Service(client, job) => client.get(&["v1", "jobs", &job, "explain"], &[])?,
        target => explain(&target.status()?, &Waiting::default()),
    };
    let outcome = match args.json {
        true => serde_json::to_writer_pretty(&mut *out, &explained).map_err(Into::into).and_then(|()| writeln!(out)),
        false => write_text(&explained, out),
    };
    Ok(written(outcome)?)
}

fn write_text(explained: &Explained, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{} {}", explained.job_id, explained.state)?;
    for reason in &explained.reasons {
        writeln!(out, "  {}", harmless(&reason.text).replace('\n', "\n  "))?;
    }
    Ok(())
}
