//! `fanfold results`: the output of a job.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_shared::state::JobState;
use serde_json::json;

use super::args::JobArgs;
use super::target::Target;
use super::written;
use crate::aggregate::partial_path;
use crate::view::StatusView;

/// The version of what `--json` writes.
const VERSION: u32 = 1;

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
    /// Say where the result is and how long, as JSON, instead of printing it
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// Prints or copies the result.
///
/// # Errors
/// There is none (yet), or it can't be read or written.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let target = args.job.find()?;
    if args.json {
        return about(&target, args.partial, out);
    }
    let mut result: Box<dyn Read> = match target {
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

/// Says where the result is, if there is one.
fn about(target: &Target, partial: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let StatusView { status, .. } = match target {
        Target::Service(client, job) => {
            let query: &[(&str, &str)] = if partial { &[("partial", "true")] } else { &[] };
            // It says whether there is one; nothing of it is read.
            drop(client.stream(&["v1", "jobs", job, "results"], query)?);
            target.status()?
        }
        target => {
            let view = target.status()?;
            view.result(partial)?;
            view
        }
    };
    let whole = status.state == JobState::Completed;
    let file = status.output.file.as_ref().map(|file| if whole { file.clone() } else { partial_path(file) });
    let about = json!({
        "version": VERSION,
        "job_id": status.job_id,
        "state": status.state,
        "whole": whole,
        "file": file,
        "uri": status.output.uri,
        "bytes": status.output.bytes,
        "rows": status.output.rows,
    });
    Ok(written(writeln!(out, "{about:#}"))?)
}

/// All of it, to the end.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    io::copy(from, to)?;
    to.flush()
}
