//! `fanfold submit`: gives a job to a service.

use std::io::Write;
use std::path::{Path, PathBuf};

use fanfold_shared::fleet::{JobRequest, JobSource, SharedRoot};
use fanfold_shared::job;
use fanfold_shared::report::{During, ExitCode, Result};
use serde_json::Value;

use super::args::{ServiceArgs, SetArgs};
use super::dataset::OfService;
use super::target::Target;
use super::{watch, written};
use crate::api::Receipt;
use crate::terminal;

/// Give a job to a service, which runs it on its fleet.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file, under the directory that the fleet shares
    #[arg(value_name = "JOB.yaml")]
    job_file: PathBuf,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    service: ServiceArgs,
    /// Where this machine has the shared directory, if not where the service has it
    #[arg(long, value_name = "DIR", env = "FANFOLD_SHARED")]
    shared: Option<PathBuf>,
    /// The same key again makes no second job, but names the first one
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Wait until the job is over, and exit as `fanfold run` would
    #[arg(long)]
    wait: bool,
    /// Write what the service answers, as JSON, instead of the id
    #[arg(long)]
    json: bool,
}

/// Submits the job, and writes its id to `out`.
///
/// # Errors
/// The job file is wrong, or the service does not take it.
pub fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode> {
    let client = args.service.needed("submit")?;
    if args.job_file.exists() {
        // Faults are told here with their lines, as `plan` does; what is not on this machine, the service looks at.
        job::load_for_fleet(&args.job_file, &args.set.overrides, &OfService(&client))?;
    }
    let job_file = travels(&args.job_file, args.shared.as_deref())?;
    let request = JobRequest { source: JobSource::File { job_file }, set: args.set.overrides };
    // Sent twice by a network that stutters, it is one job.
    let key = args.key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let answer: Value = client.post(&["v1", "jobs"], Some(&key), &request)?;
    let document = format!("{answer:#}");
    let Receipt { job_id, duplicate, .. } = client.understand(answer)?;
    if duplicate {
        terminal::tell(&format!("{job_id} is the job of an earlier request with this key"));
    }
    let told = if args.json { &document } else { &job_id };
    let code = written(writeln!(out, "{told}").and_then(|()| out.flush()))?;
    match args.wait {
        true => watch::follow(&Target::Service(client, job_id), false, &mut std::io::stderr()),
        false => Ok(code),
    }
}

/// The path as the service understands it: relative to the shared directory where that is known here, else absolute.
fn travels(job_file: &Path, shared: Option<&Path>) -> Result<PathBuf> {
    let absolute = std::path::absolute(job_file).during("find", job_file)?;
    match shared {
        Some(shared) => {
            let shared = SharedRoot::find(shared).during("find the shared directory", shared)?;
            Ok(shared.relative(&absolute).map_err(crate::service::ServiceError::from)?)
        }
        None => Ok(absolute),
    }
}
