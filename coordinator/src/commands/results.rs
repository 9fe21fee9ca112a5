//! `fanfold results`: the output of a job.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, ExitCode, Result};

use super::args::JobArgs;
use super::target::Target;
use super::written;

/// Print the output file of a job, or copy it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Of a job that is not Completed: what is committed so far
    #[arg(long)]
    partial: bool,
    /// Write to this file, which must not exist
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints or copies the result.
///
/// # Errors
/// There is none (yet), or it can't be read or written.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut result: Box<dyn Read> = match args.job.find()? {
        Target::Service(client, job) => {
            let query: &[(&str, &str)] = if args.partial { &[("partial", "true")] } else { &[] };
            Box::new(client.stream(&["v1", "jobs", &job, "results"], query)?)
        }
        target => {
            let (file, length) = target.status()?.result(args.partial)?;
            Box::new(file.take(length))
        }
    };
    let Some(to) = &args.output else { return Ok(written(copy(&mut result, out))?) };
    let mut file = File::create_new(to).during("create", to)?;
    let copied = copy(&mut result, &mut file).and_then(|()| file.sync_all());
    if copied.is_err() {
        // Half a result must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied.during("copy the result of", Path::new(&args.job.job))?;
    Ok(ExitCode::Completed)
}

/// All of it, to the end.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    io::copy(from, to)?;
    to.flush()
}
