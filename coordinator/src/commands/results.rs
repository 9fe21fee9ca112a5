//! `fanfold results`: the output of a job.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_shared::state::JobState;

use super::client::{ServiceArgs, Target, copy};
use super::written;
use crate::aggregate::partial_path;
use crate::service::{ServiceError, StatusView};

/// Print the output file of a job, or copy it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A job id, the beginning of one, or a job directory
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    service: ServiceArgs,
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
    match args.service.find(&args.job)? {
        Target::Dir(dir) => {
            let (path, length) = proven(&StatusView::of(&dir).during("read", dir.status_json())?, args.partial)?;
            let file = File::open(&path).during("open", &path)?;
            give(&mut file.take(length), &path, args.output.as_deref(), out)
        }
        Target::Service(client, job) => {
            let query: &[(&str, &str)] = if args.partial { &[("partial", "true")] } else { &[] };
            let (mut body, _) = client.stream(&["v1", "jobs", &job, "results"], query)?;
            give(&mut body, Path::new(client.url()), args.output.as_deref(), out)
        }
    }
}

/// Writes what comes from `source` to the file that was named, or to `out`.
fn give(from: &mut dyn Read, source: &Path, to: Option<&Path>, out: &mut dyn Write) -> Result<ExitCode> {
    let Some(to) = to else { return Ok(written(copy(from, out).map(drop))?) };
    let mut file = File::create_new(to).during("create", to)?;
    let copied = copy(from, &mut file).and_then(|_| file.sync_all());
    if copied.is_err() {
        // Half a result must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied.during("copy the result of", source)?;
    Ok(ExitCode::Completed)
}

/// The file with the results, and how much of it is proven.
fn proven(view: &StatusView, partial: bool) -> Result<(PathBuf, u64)> {
    let status = &view.status;
    let nothing = |what: &str| ServiceError::NoResult {
        job: fanfold_shared::ids::JobId(status.job_id.clone()),
        state: status.state,
        what: what.into(),
    };
    let Some(file) = &status.output.file else {
        return Err(nothing("its results are what its script stored (`summary_only`)").into());
    };
    let path = match (status.state, partial) {
        (JobState::Completed, _) => file.clone(),
        (_, false) => return Err(nothing("its result is not whole").into()),
        (_, true) => partial_path(file),
    };
    match path.exists() {
        true => Ok((path, status.output.bytes)),
        false => Err(nothing("it has no result yet").into()),
    }
}
