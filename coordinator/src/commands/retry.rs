//! `fanfold retry --failed`: another chance for what is out of tries.

use fanfold_shared::report::{During, ExitCode, Result};

use crate::registry::Registry;
use crate::run;
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
}

/// Runs the rest of the job.
///
/// # Errors
/// The job can't be found or taken up; see [`run::retry_failed`].
pub fn run(args: &Args) -> Result<ExitCode> {
    let dir = Registry::of_user().find(&args.job)?;
    let orders = signals::orders().during("take signals in", "this process")?;
    run::retry_failed(&dir, &args.overrides, &orders)
}
