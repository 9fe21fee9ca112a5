//! `fanfold cancel`, `pause` and `resume`.

use std::io::Write;
use std::time::{Duration, Instant};

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_shared::state::JobState;
use fanfold_worker::cloud::{CacheOptions, CacheSettings};
use serde_json::json;

use super::args::{JobArgs, cache_of};
use super::fleet::FleetArgs;
use super::target::{LOOK, Target};
use super::{status, written};
use crate::datasets::DatasetStore;
use crate::report::Coordinator;
use crate::run::{self, Asked, FleetJob, Orders, Purpose, RunRequest, Source, SubmitRequest};
use crate::service::ServiceError;
use crate::signals;
use crate::view::StatusView;

/// How long it is waited for that a job has come to rest.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `cancel` and `pause` take.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Write the job's status as JSON
    #[arg(long)]
    json: bool,
}

/// What `resume` takes.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write the job's status as JSON: of a job of a service at once, of another one when it is over, or stands still
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
    give(args, "cancel", Asked::Cancel, out)
}

/// Finishes what runs; then the job stands still.
///
/// # Errors
/// As [`cancel`].
pub fn pause(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    give(args, "pause", Asked::Pause, out)
}

/// Goes on with a job: a service's job there, any other one here, in the foreground.
///
/// # Errors
/// The job is over, or can't be taken up.
pub fn resume(args: &ResumeArgs, out: &mut dyn Write) -> Result<ExitCode> {
    match args.job.find()? {
        Target::Service(client, job) => {
            cache_of(&args.cache, true)?;
            let view = client.order(&job, "resume", &json!({}))?;
            let StatusView { status, .. } = &view;
            let told = match status.state {
                JobState::Paused => format!("{} goes on", status.job_id),
                state => format!("{} {state}", status.job_id),
            };
            answer(&view, &told, args.json, out)
        }
        Target::Dir(dir) => {
            let cache = cache_of(&args.cache, args.fleet.is_given())?;
            let orders = signals::orders().during("take signals in", "this process")?;
            let exit = go_on(&dir, cache, &args.fleet, &orders)?;
            status::at_the_end(&orders, args.json, exit, out)
        }
    }
}

fn give(args: &Args, verb: &'static str, asked: Asked, out: &mut dyn Write) -> Result<ExitCode> {
    let target = args.job.find()?;
    let view = match &target {
        Target::Service(client, job) => client.order(job, verb, &json!({}))?,
        Target::Dir(dir) => ask(dir, verb, asked)?,
    };
    let view = settled(&target, view)?;
    answer(&view, &told(&view, asked), args.json, out)
}

fn answer(view: &StatusView, told: &str, json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    Ok(written(if json { status::write_json(view, out) } else { writeln!(out, "{told}") })?)
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

/// As `fanfold run` does with the job's own copy of its job file; on the fleet, if one is named.
fn go_on(dir: &JobDir, cache: CacheSettings, fleet: &FleetArgs, orders: &Orders) -> Result<ExitCode> {
    let view = StatusView::of(dir).during("read", dir.status_json())?;
    if view.status.state.is_final() {
        let job = fanfold_shared::ids::JobId(view.status.job_id.clone());
        return Err(ServiceError::NotNow { job, state: view.status.state, verb: "resume" }.into());
    }
    let (job_file, job_dir, overrides) = (dir.job_yaml(), Some(dir.root().to_path_buf()), Vec::new());
    if fleet.is_given() {
        let datasets = DatasetStore::of_user();
        let request = SubmitRequest { source: Source::File(job_file), overrides, job_dir, id: None, datasets };
        return fleet.coordinate("resume", FleetJob::Request(request), Purpose::Run, orders.clone());
    }
    run::run(&RunRequest { job_file, job_dir, overrides, cache }, orders)
}

/// Waits a moment for the job to do what it was told.
fn settled(target: &Target, mut view: StatusView) -> Result<StatusView> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
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

fn told(view: &StatusView, asked: Asked) -> String {
    let (id, state) = (&view.status.job_id, view.status.state);
    match asked {
        Asked::Pause if state != JobState::Paused && !state.is_final() => {
            format!("{id} {state}: it comes to rest when what runs is finished")
        }
        Asked::Cancel if !state.is_final() => format!("{id} {state}: it was told, and has not ended yet"),
        _ => format!("{id} {state}"),
    }
}
