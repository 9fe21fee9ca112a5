//! `fanfold run`: a job from its file to its result, on this machine or on a fleet.

use std::io::Write;
use std::path::PathBuf;

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_worker::cloud::CacheOptions;

use super::args::{SetArgs, cache_of};
use super::fleet::FleetArgs;
use super::status;
use crate::datasets::DatasetStore;
use crate::run::{self, FleetJob, Orders, Purpose, RunRequest, Source, SubmitRequest};
use crate::signals;

/// Run a job, or go on with one that was interrupted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job file
    #[arg(value_name = "JOB.yaml")]
    job_file: PathBuf,
    /// Where the job lies; a directory with this job in it is continued [default: fanfold-jobs/<job id>]
    #[arg(long, value_name = "DIR")]
    job_dir: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
    /// GPUs that this job may use, e.g. `0,1`; the same as `--set gpus=…`
    #[arg(long, value_name = "LIST")]
    gpus: Option<String>,
    /// Run a new job even if an identical one is Completed
    #[arg(long)]
    no_reuse: bool,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write the job's status as JSON to standard output once it is over, or stands still
    #[arg(long)]
    json: bool,
}

/// Runs the job.
///
/// # Errors
/// What keeps the job from running, or ends the program; see [`run::run`] and [`FleetArgs::coordinate`].
pub fn run(args: Args, out: &mut dyn Write) -> Result<ExitCode> {
    let orders = signals::orders().during("take signals in", "this process")?;
    let json = args.json;
    let exit = run_job(args, &orders)?;
    status::at_the_end(&orders, json, exit, out)
}

fn run_job(args: Args, orders: &Orders) -> Result<ExitCode> {
    let cache = cache_of(&args.cache, args.fleet.is_given())?;
    let (job_file, job_dir, mut overrides) = (args.job_file, args.job_dir, args.set.overrides);
    let may_reuse = job_dir.is_none() && !args.no_reuse;
    overrides.extend(args.gpus.map(|gpus| format!("gpus={gpus:?}")));
    // A directory that is named is to hold this job.
    if may_reuse && let Some(exit) = run::reuse(&job_file, &overrides, args.fleet.is_given(), orders)? {
        return Ok(exit);
    }
    if args.fleet.is_given() {
        let datasets = DatasetStore::of_user();
        let request = SubmitRequest { source: Source::File(job_file), overrides, job_dir, id: None, datasets };
        return args.fleet.coordinate("run", FleetJob::Request(request), Purpose::Run, orders.clone());
    }
    run::run(&RunRequest { job_file, job_dir, overrides, cache }, orders)
}
