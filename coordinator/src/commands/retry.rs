//! `fanfold retry --failed`: another chance for what is out of tries.

use std::io::Write;
use std::sync::Arc;

use fanfold_shared::report::{During, ExitCode, Result};
use serde_json::json;

use super::client::{ServiceArgs, Target};
use super::fleet::{self, FleetArgs};
use super::written;
use crate::run::{self, FleetJob, FleetRun, Purpose};
use crate::signals;

/// Give what is out of tries another chance, and go on with a job that Failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mini-batches out of tries; rows of short returns are in already and stay
    #[arg(long, required = true)]
    failed: bool,
    /// A job id, the beginning of one, or a job directory
    #[arg(value_name = "JOB")]
    job: String,
    /// Set a key that may change, e.g. `--set run_invocation_timeout=300`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Ask the service at this address; its token is in FANFOLD_TOKEN, or in the file that FANFOLD_TOKEN_FILE names
    #[arg(long, value_name = "URL", env = "FANFOLD_SERVICE", hide_env_values = true)]
    service: Option<String>,
}

/// Runs the rest of the job.
///
/// # Errors
/// The job can't be found or taken up; see [`run::retry_failed`].
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let dir = match ServiceArgs::at(args.service.clone()).find(&args.job)? {
        Target::Dir(dir) => dir,
        Target::Service(client, job) => {
            let view = client.order(&job, "retry", &json!({"set": args.overrides}))?;
            return Ok(written(writeln!(out, "{} {}", view.status.job_id, view.status.state))?);
        }
    };
    let orders = signals::orders().during("take signals in", "this process")?;
    if !args.fleet.is_given() {
        return run::retry_failed(&dir, &args.overrides, &orders);
    }
    let link = args.fleet.link("retry")?;
    fleet::reach(&link)?;
    let job = FleetJob::Dir(dir, args.overrides.clone());
    let on_state = Arc::new(|_, _: Option<&str>| ());
    let outcome =
        run::run_on_fleet(&link, FleetRun { job, purpose: Purpose::RetryFailed, orders, on_state, quiet: false });
    link.broker.close();
    outcome
}
