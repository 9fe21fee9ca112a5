//! One job on the fleet, as the command line and the service ask for it: the same life as an embedded job's, with nodes on other machines.

use std::path::PathBuf;
use std::sync::Arc;

use fanfold_shared::backend::rabbitmq::Broker;
use fanfold_shared::backend::redis::Store;
use fanfold_shared::fleet::SharedRoot;
use fanfold_shared::ids::JobId;
use fanfold_shared::job::JobSpec;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::state::JobState;

use super::Orders;
use super::prepare::Purpose;

/// What all jobs of a program share to be on the fleet. Clones share the connections.
#[derive(Clone)]
pub struct FleetLink {
    /// The connections to RabbitMQ.
    pub broker: Broker,
    /// Redis.
    pub store: Store,
    /// The directory that coordinator and workers share.
    pub shared: SharedRoot,
}

/// Called when the job comes into another state, with its cause; on the thread that runs the job.
pub type OnState = Arc<dyn Fn(JobState, Option<&str>) + Send + Sync>;

/// Which job.
#[derive(Clone, Debug)]
pub enum FleetJob {
    /// It is submitted now, or taken up where it lies if its directory holds it already.
    Request(SubmitRequest),
    /// It lies in this directory ([`submit_job`]), and is taken up as it is recorded there, with each `key=value` set.
    Dir(JobDir, Vec<String>),
}

/// What is to become a job.
#[derive(Clone, Debug)]
pub struct SubmitRequest {
    /// What to run.
    pub source: Source,
    /// `key=value` of each key that is set otherwise, in order.
    pub overrides: Vec<String>,
    /// The job directory; None: a new one under `fanfold-jobs` of the current directory.
    pub job_dir: Option<PathBuf>,
    /// The id of a job that is new; None: one is drawn.
    pub id: Option<JobId>,
}

/// See [`SubmitRequest`].
#[derive(Clone, Debug)]
pub enum Source {
    /// A job file.
    File(PathBuf),
    /// The text of one.
    Inline {
        /// YAML, so JSON as well.
        text: String,
        /// An absolute directory: relative paths start there.
        base: PathBuf,
    },
}

/// A job that was submitted and does not run yet.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Where it lies.
    pub dir: JobDir,
    /// What it is.
    pub spec: JobSpec,
    /// When it was first submitted, microseconds since the epoch.
    pub created_us: u64,
    /// The directory held this job before.
    pub continued: bool,
}

/// A job to be run on the fleet.
pub struct FleetRun {
    /// Which.
    pub job: FleetJob,
    /// What for.
    pub purpose: Purpose,
    /// What is asked of it meanwhile.
    pub orders: Orders,
    /// Who wants to know of its states.
    pub on_state: OnState,
    /// Nothing is written to the terminal.
    pub quiet: bool,
}

/// Checks a request, makes its job directory and records the job in it: from then on it is a job in state Queued. Nothing runs.
///
/// # Errors
/// The job file's, those of [`super::SubmitError`], a path that other machines can't see, or that another program holds the job.
pub fn submit_job(shared: &SharedRoot, request: &SubmitRequest) -> Result<NewJob> {
    let _ = (shared, request);
    unimplemented!()
}

/// Runs a job on the fleet to its end, or as far as its orders and the world allow. A broker that is away ends nothing: the job waits.
///
/// # Errors
/// What stops a job before it runs, or ends its coordinator with everything that was committed safe ([`super::run`]). How the job ended
/// by itself is the exit code.
pub fn run_on_fleet(link: &FleetLink, run: FleetRun) -> Result<ExitCode> {
    let _ = (link, run);
    unimplemented!()
}
