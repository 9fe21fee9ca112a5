//! `fanfold retry --failed`: another chance for what is out of tries, with the job's script or with a new one.

use std::io::Write;

use fanfold_shared::report::{During, ExitCode, Result};
use fanfold_worker::cloud::CacheOptions;
use serde_json::json;

use super::args::{JobArgs, SetArgs, cache_of};
use super::client::Client;
use super::fleet::FleetArgs;
use super::target::Target;
use super::{status, written};
use crate::run::{self, FleetJob, Purpose, RetryScript, UNCHANGED};
use crate::signals;
use crate::view::StatusView;

/// Give what is out of tries another chance, and go on with a job that Failed.
#[derive(Debug, clap::Args)]
#[command(mut_arg("overrides", |set| set.help("Set a key that may change, e.g. `--set run_invocation_timeout=300`; may be repeated")))]
pub struct Args {
    /// The mini-batches out of tries; rows of short returns are in already and stay
    #[arg(long, required = true)]
    failed: bool,
    /// Run them, and all else that is left, with a copy of the script as it is now; rows that are in stay
    #[arg(long)]
    new_script: bool,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write the job's status as JSON: of a job of a service at once, of another one when it is over, or stands still
    #[arg(long)]
    json: bool,
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
            let view = order(&client, &job, args)?;
            let told = match args.json {
                true => status::write_json(&view, out),
                false => writeln!(out, "{} {}", view.status.job_id, view.status.state),
            };
            return Ok(written(told)?);
        }
    };
    let cache = cache_of(&args.cache, args.fleet.is_given())?;
    let orders = signals::orders().during("take signals in", "this process")?;
    let script = if args.new_script { RetryScript::New } else { RetryScript::Own };
    let exit = if args.fleet.is_given() {
        let job = FleetJob::Dir(dir, overrides.clone());
        args.fleet.coordinate("retry", job, Purpose::RetryFailed(script), orders.clone())?
    } else {
        run::retry_failed(&dir, overrides, script, cache, &orders)?
    };
    status::at_the_end(&orders, args.json, exit, out)
}

/// Asks a service.
fn order(client: &Client, job: &str, args: &Args) -> Result<StatusView> {
    let overrides = &args.set.overrides;
    if !args.new_script {
        // As services of versions without new scripts know it.
        return client.order(job, "retry", &json!({"set": overrides}));
    }
    let body = json!({"set": overrides, "new_script": true});
    let (view, taken) = client.retry_with_new_script(job, &body)?;
    if taken.is_none() {
        eprintln!("{UNCHANGED}");
    }
    Ok(view)
}
