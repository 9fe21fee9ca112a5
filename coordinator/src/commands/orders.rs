//! `fanfold cancel`, `pause` and `resume`.

use std::io::Write;
use std::time::{Duration, Instant};

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_shared::state::JobState;
use serde_json::json;

use super::client::{LOOK, ServiceArgs, Target};
use super::{status, written};
use crate::report::Coordinator;
use crate::run::{self, Asked, RunRequest};
use crate::service::{ServiceError, StatusView};
use crate::signals;

/// How long it is waited for that a job has come to rest.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the verbs take.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A job id, the beginning of one, or a job directory
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    service: ServiceArgs,
    /// Write the job's status as JSON
    #[arg(long)]
    json: bool,
}

/// Nobody works on the job, so nobody hears.
#[derive(Debug, thiserror::Error)]
#[error("nobody works on job {job}, which is {state}: there is nothing to {verb}")]
struct Unheard {
    job: String,
    state: JobState,
    verb: &'static str,
}

impl Report for Unheard {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(format!("`fanfold resume {}` goes on with it; to be rid of it, remove its directory", self.job))
    }
}

/// Ends a job without a result, within seconds.
///
/// # Errors
/// The job is over, or nobody hears.
pub fn cancel(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    give(args, "cancel", Some(Asked::Cancel), out)
}

/// Finishes what runs; then the job stands still.
///
/// # Errors
/// As [`cancel`].
pub fn pause(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    give(args, "pause", Some(Asked::Pause), out)
}

/// Goes on with a job: a service's job there, any other one here.
///
/// # Errors
/// The job is over, or can't be taken up.
pub fn resume(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    give(args, "resume", None, out)
}

fn give(args: &Args, verb: &'static str, asked: Option<Asked>, out: &mut dyn Write) -> Result<ExitCode> {
    let target = args.service.find(&args.job)?;
    let view = match (&target, asked) {
        (Target::Service(client, job), _) => client.order(job, verb, &json!({}))?,
        (Target::Dir(dir), Some(asked)) => ask(dir, verb, asked)?,
        (Target::Dir(dir), None) => return resume_here(dir),
    };
    let view = settled(&target, view, asked)?;
    match args.json {
        true => Ok(written(status::write_json(&view, out))?),
        false => Ok(written(writeln!(out, "{}", told(&view, asked)))?),
    }
}

/// Leaves a request for whoever works on the job.
fn ask(dir: &JobDir, verb: &'static str, asked: Asked) -> Result<StatusView> {
    let view = StatusView::of(dir).during("read", dir.status_json())?;
    let (job, state) = (view.status.job_id.clone(), view.status.state);
    if state.is_final() {
        return Err(ServiceError::NotNow { job: fanfold_shared::ids::JobId(job), state, verb }.into());
    }
    if view.coordinator == Coordinator::Gone {
        return Err(Unheard { job, state, verb }.into());
    }
    run::ask(dir, asked)?;
    Ok(view)
}

/// In the foreground, as `fanfold run` does.
fn resume_here(dir: &JobDir) -> Result<ExitCode> {
    let view = StatusView::of(dir).during("read", dir.status_json())?;
    if view.status.state.is_final() {
        let job = fanfold_shared::ids::JobId(view.status.job_id.clone());
        return Err(ServiceError::NotNow { job, state: view.status.state, verb: "resume" }.into());
    }
    let orders = signals::orders().during("take signals in", "this process")?;
    let request =
        RunRequest { job_file: dir.job_yaml(), job_dir: Some(dir.root().to_path_buf()), overrides: Vec::new() };
    run::run(&request, &orders)
}

/// Waits a moment for the job to do what it was told.
fn settled(target: &Target, mut view: StatusView, asked: Option<Asked>) -> Result<StatusView> {
    let deadline = Instant::now() + PATIENCE;
    while asked.is_some() && Instant::now() < deadline {
        let state = view.status.state;
        let gone = view.coordinator == Coordinator::Gone;
        if state.is_final() || (state == JobState::Paused && gone) {
            break;
        }
        std::thread::sleep(LOOK.min(Duration::from_millis(100)));
        view = target.status()?;
    }
    Ok(view)
}

fn told(view: &StatusView, asked: Option<Asked>) -> String {
    let (id, state) = (&view.status.job_id, view.status.state);
    match asked {
        Some(Asked::Pause) if state != JobState::Paused && !state.is_final() => {
            format!("{id} {state}: it comes to rest when what runs is finished")
        }
        Some(Asked::Cancel) if !state.is_final() => format!("{id} {state}: it was told, and has not ended yet"),
        None if state == JobState::Paused => format!("{id} goes on"),
        _ => format!("{id} {state}"),
    }
}
