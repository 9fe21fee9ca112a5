//! `fanfold retry --failed`: another chance for what is out of tries.

use std::io::Write;

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_worker::cloud::CacheOptions;
use serde_json::json;

use super::args::{JobArgs, SetArgs, cache_of};
use super::fleet::FleetArgs;
use super::target::Target;
use super::written;
use crate::run::{self, FleetJob, Purpose};
use crate::signals;

/// Give what is out of tries another chance, and go on with a job that Failed.
#[derive(Debug, clap::Args)]
#[command(mut_arg("overrides", |set| set.help("Set a key that may change, e.g. `--set run_invocation_timeout=300`; may be repeated")))]
pub struct Args {
    /// The mini-batches out of tries; rows of short returns are in already and stay
    #[arg(long, required = true)]
    failed: bool,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Runs the rest of the job.
///
/// # Errors
/// The job can't be found or taken up; see [`run::retry_failed`] and [`FleetArgs::coordinate`].
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let overrides = &args.set.overrides;
    let dir = match args.job.find()? {
        Target::Dir(dir) => dir,
        Target::Service(client, job) => {
            cache_of(&args.cache, true)?;
            let view = client.order(&job, "retry", &json!({"set": overrides}))?;
            return Ok(written(writeln!(out, "{} {}", view.status.job_id, view.status.state))?);
        }
    };
    let cache = cache_of(&args.cache, args.fleet.is_given())?;
    let orders = signals::orders().during("take signals in", "this process")?;
    if !args.fleet.is_given() {
        return run::retry_failed(&dir, overrides, cache, &orders);
    }
    args.fleet.coordinate("retry", FleetJob::Dir(dir, overrides.clone()), Purpose::RetryFailed, orders)
}
