//! `fanfold run`: a job from its file to its result, on this machine or on a fleet.

use std::path::PathBuf;
use std::sync::Arc;

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_worker::fleet::secrets;

use super::fleet::{self, FleetArgs};
use crate::run::{self, FleetJob, FleetRun, Orders, Purpose, RunRequest, Source, SubmitRequest};
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
    /// Set a key of the job file, e.g. `--set mini_batch_size=5`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// GPUs that this job may use, e.g. `0,1`; the same as `--set gpus=…`
    #[arg(long, value_name = "LIST")]
    gpus: Option<String>,
    /// Run the job even if an identical one has finished (today every job is run)
    #[arg(long)]
    no_reuse: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Runs the job.
///
/// # Errors
/// What keeps the job from running, or ends the program; see [`run::run`].
pub fn run(args: Args) -> Result<ExitCode> {
    let orders = signals::orders().during("take signals in", "this process")?;
    let mut overrides = args.overrides;
    overrides.extend(args.gpus.map(|gpus| format!("gpus={gpus:?}")));
    if args.fleet.is_given() {
        return on_fleet(&args.fleet, args.job_file, args.job_dir, overrides, orders);
    }
    run::run(&RunRequest { job_file: args.job_file, job_dir: args.job_dir, overrides }, &orders)
}

/// The same job with the nodes of a fleet; this program is its coordinator.
fn on_fleet(
    fleet: &FleetArgs,
    job_file: PathBuf,
    job_dir: Option<PathBuf>,
    overrides: Vec<String>,
    orders: Orders,
) -> Result<ExitCode> {
    // Workers and their scripts may run on this host, as the same user.
    secrets::keep();
    let link = fleet.link("run")?;
    fleet::reach(&link)?;
    let request = SubmitRequest { source: Source::File(job_file), overrides, job_dir, id: None };
    let on_state = Arc::new(|_, _: Option<&str>| ());
    let run = FleetRun { job: FleetJob::Request(request), purpose: Purpose::Run, orders, on_state, quiet: false };
    let outcome = run::run_on_fleet(&link, run);
    link.broker.close();
    outcome
}
