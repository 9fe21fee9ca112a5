//! The life of a job run from one command on one machine: submit → prepare → run → finalise.
//!
//! Every step is made so that the same command goes on after the program died in it: what is complete is recognised, what is
//! half done is made anew. Nothing of a former run is trusted but the ledger, the item list and the snapshot.

mod changed;
mod driver;
mod fleet;
mod link;
mod nodes;
mod observer;
mod orders;
mod places;
mod prepare;
mod requests;
mod reuse;
mod rewrite;
mod script;
mod since;
mod submit;
mod upload;
mod verdict;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfold_shared::backend::Backend;
use fanfold_shared::backend::embedded::Embedded;
use fanfold_shared::failpoint;
use fanfold_shared::items::Fingerprints;
use fanfold_shared::job::{JobSpec, OnFailure};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{AttemptError, ErrorKind};
use fanfold_shared::report::{ExitCode, Failure, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::counted;
use fanfold_worker::cloud::CacheSettings;
use fanfold_worker::logs::Level;
use fanfold_worker::node::{self, Node};
use fanfold_worker::slot::page::LeftRunning;

use crate::aggregate::{Aggregate, CommitError, Part, output_len};
use crate::report::{Comeback, Interruption, JobFacts, exit_code};
use driver::{Driver, Ending, Unsplit};
use link::Bound;
use nodes::{Nodes, Only};
use observer::{Audience, Observer};
use prepare::{Equipped, Prepared, TakeUp};
use requests::Requests;
use script::Script;
use submit::Submitted;
use upload::Uploaded;
use window::{Left, Shape, Window};

pub use fanfold_worker::equip::{at_work, inherited_mask, process_count};
pub use fleet::OF_THE_BROKER;
pub use link::{
    FleetJob, FleetLink, FleetRun, NewJob, OnState, Retried, Source, SubmitRequest, retried, run_on_fleet, submit_job,
};
pub(crate) use observer::item_names;
pub use orders::Orders;
pub use places::{output_dir, output_file, output_uri};
pub use prepare::Purpose;
pub use requests::{Asked, ask};
pub use reuse::{reuse, stand_in};
pub use script::{RetryScript, ScriptError, UNCHANGED};
pub use submit::{SubmitError, is_shared};
pub use upload::{check as check_upload, lost as lost_uploads};

/// What `fanfold run` was asked.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The job file.
    pub job_file: PathBuf,
    /// The job directory, if one was named.
    pub job_dir: Option<PathBuf>,
    /// `--set key=value`, in order.
    pub overrides: Vec<String>,
    /// Where files at addresses are kept.
    pub cache: CacheSettings,
}

/// Runs a job to its end, or as far as its orders and the world allow.
///
/// # Errors
/// What stops a job before it runs (its file, its inputs, its directory), or ends the program while it runs with everything
/// that was committed safe. How a job ended by itself is the exit code.
pub fn run(request: &RunRequest, orders: &Orders) -> Result<ExitCode> {
    let submitted = submit::submit(&request.job_file, &request.overrides, request.job_dir.as_deref())?;
    go_on(submitted, &request.job_file, &here(Purpose::Run, Script::Own, orders, request.cache.clone()), None)
}

/// Opens the mini-batches out of tries again and goes on with the job, which may be Failed or Completed, with its own copy of the script or
/// a new one. Keys that may change on continuing can be set. Files at addresses are kept in `cache`.
///
/// # Errors
/// As [`run`]; and [`ScriptError`].
pub fn retry_failed(
    dir: &JobDir,
    overrides: &[String],
    script: RetryScript,
    cache: CacheSettings,
    orders: &Orders,
) -> Result<ExitCode> {
    let submitted = submit::reopen(dir, overrides, None)?;
    let purpose = Purpose::RetryFailed(script);
    let script = script::choose(&submitted, script)?;
    go_on(submitted, &dir.job_yaml(), &here(purpose, script, orders, cache), None)
}

fn here(purpose: Purpose, script: Script, orders: &Orders, cache: CacheSettings) -> TakeUp<'_> {
    let own_script = purpose.is_retry();
    TakeUp { purpose, script, orders, comeback: Comeback::Here, own_script, audience: Audience::default(), cache }
}

fn go_on(submitted: Submitted, job_file: &Path, take_up: &TakeUp<'_>, bound: Option<&mut Bound>) -> Result<ExitCode> {
    let withdrawal = submitted.withdrawal.clone();
    take_up.orders.are_for(&submitted.dir);
    let heeds = Requests::heed(&submitted.dir, take_up.orders)?;
    let outcome = prepare::prepare(submitted, job_file, take_up);
    if !matches!(outcome, Ok(prepare::Outcome::Ready(_))) {
        withdrawal.withdraw();
    }
    let mut prepared = match outcome? {
        prepare::Outcome::Ready(prepared) => *prepared,
        prepare::Outcome::Over(exit) => return Ok(exit),
    };
    let ending = run_prepared(&mut prepared, take_up.orders, bound)?;
    let exit = finalise(&mut prepared, ending, take_up.orders);
    // Until here: to write a Parquet file may take minutes.
    drop(heeds);
    exit
}

/// Starts the node, or binds those of the fleet, drives the job, and waits until nothing of them is left.
fn run_prepared(prepared: &mut Prepared, orders: &Orders, bound: Option<&mut Bound>) -> Result<Ending> {
    // Everything is settled: a former run died at the end. Its state stays what it is, as only Finalizing says that a file under
    // the final name is ours.
    let Some(equipment) = prepared.equipment.take() else { return Ok(Ending::Settled) };
    if orders.count() > 0 {
        return Ok(asked_to_stop(orders));
    }
    let Some(suspects) = take_blame(prepared)? else { return Ok(asked_to_stop(orders)) };
    if until_there_is_room(prepared, |aggregate| aggregate.set_state(JobState::Running, None))?.is_none() {
        return Ok(asked_to_stop(orders));
    }
    prepared.observer.state(JobState::Running, None);
    let Equipped { equipment, fingerprints } = equipment;
    let left = Left { spent: prepared.aggregate.all_spent(), parts: prepared.aggregate.next_parts(), suspects };
    let split = prepared.aggregate.split().clone();
    let Some(equipment) = equipment else {
        let bound = bound.expect("a job without a node of its own is bound to a fleet");
        let Some(mut nodes) = bound.nodes(prepared, orders)? else { return Ok(asked_to_stop(orders)) };
        let window = Window::new(Shape::FLEET, &split, nodes.slots(), left);
        let ending = drive(prepared, orders, bound.backend(), &mut nodes, window, fingerprints);
        bound.settle(nodes, ending.is_ok());
        return ending;
    };
    let backend = Arc::new(Embedded::new());
    let processes = equipment.plan.processes;
    let window = Window::new(Shape::EMBEDDED, &split, u64::from(processes), left);
    let handle = Node::start(prepared.dir.clone(), places::node_id(), equipment, backend.clone() as Arc<dyn Backend>)?;
    let mut nodes = Only::new(handle, backend.clone(), processes);
    drive(prepared, orders, backend, &mut nodes, window, fingerprints)
}

fn drive(
    prepared: &mut Prepared,
    orders: &Orders,
    backend: Arc<dyn Backend>,
    nodes: &mut dyn Nodes,
    window: Window,
    fingerprints: Option<Fingerprints>,
) -> Result<Ending> {
    let driver = Driver {
        spec: &prepared.spec,
        aggregate: &mut prepared.aggregate,
        backend,
        nodes,
        observer: &mut prepared.observer,
        orders,
        window,
        fingerprints,
        splitting: prepared.splitting.take(),
    };
    driver.run()
}

/// Decides what a former run's death means for the mini-batches that its pages show as running, durably, before anything
/// runs again: those that ran beside others become suspects, and the one that ran alone is charged (`docs/design/ledger.md`).
///
/// It may die before it forgets the pages, and then sees them again. So it goes by what they say and by nothing that it changes:
/// a suspect stays one, and an attempt is charged once. None: there is no room to record it, and the user does not wait.
fn take_blame(prepared: &mut Prepared) -> Result<Option<Vec<u64>>> {
    let node = places::node_id();
    let left = node::left_running(&prepared.dir.node(&node));
    let split = prepared.aggregate.split();
    let unsettled = left.into_iter().filter(|left| {
        left.mini_batch < split.mini_batches()
            && !prepared.aggregate.settled().contains(&split.mini_batch(left.mini_batch).1)
    });
    let (culprits, others): (Vec<_>, Vec<_>) = unsettled.partition(|left| left.alone);
    let known: Vec<u64> = prepared.aggregate.suspects().map(|suspect| suspect.mini_batch).collect();
    let fresh: Vec<u64> =
        others.iter().map(|left| left.mini_batch).filter(|mini_batch| !known.contains(mini_batch)).collect();
    let died_alone = AttemptError {
        kind: ErrorKind::NodeLost,
        message: "the program (or its machine) died while this mini-batch ran alone".into(),
        traceback: String::new(),
        stderr: String::new(),
        of_all: false,
    };
    let mut parts = vec![Part::Suspects { mini_batches: &fresh }];
    for &LeftRunning { mini_batch, attempt, .. } in &culprits {
        parts.push(Part::Failed { node: &node, process: None, mini_batch, attempt, error: &died_alone });
    }
    if !fresh.is_empty() || !culprits.is_empty() {
        let Some(committed) = until_there_is_room(prepared, |aggregate| aggregate.commit(&parts))? else {
            return Ok(None);
        };
        let text = format!(
            "a former run died with {} running, which will run alone",
            counted((others.len() + culprits.len()) as u64, "mini-batch")
        );
        prepared.observer.log(Level::Warning, &text);
        prepared.observer.committed(&prepared.aggregate, &committed);
    }
    failpoint!("blame_before_forget");
    node::forget_pages(&prepared.dir.node(&node))?;
    Ok(Some(prepared.aggregate.suspects().map(|suspect| suspect.mini_batch).collect()))
}

/// Reports, then the output's final name, then the final state: what is under its final name is complete.
fn finalise(prepared: &mut Prepared, ending: Ending, orders: &Orders) -> Result<ExitCode> {
    let cause = match ending {
        Ending::Interrupted | Ending::Canceled => {
            return pause(&mut prepared.aggregate, &mut prepared.observer, orders);
        }
        Ending::Unsplit(Unsplit { text, exit }) => {
            let state = JobState::Paused;
            let recorded = until_there_is_room(prepared, |aggregate| aggregate.set_state(state, Some(&text)))?;
            if recorded.is_some() {
                prepared.observer.state(state, Some(&text));
            }
            prepared.observer.finish(&prepared.aggregate, exit, "");
            return Ok(exit);
        }
        Ending::Failed(cause) => Some(cause),
        Ending::Settled => verdict_of_all(prepared)?,
    };
    // Without room, the state stays what it was in the ledger; the next start comes to the same end.
    let recorded = match &cause {
        Some(cause) => {
            let state = JobState::Failed;
            let recorded = until_there_is_room(prepared, |aggregate| aggregate.set_state(state, Some(&cause.text)))?;
            recorded.map(|()| prepared.observer.state(state, Some(&cause.text)))
        }
        None => match complete(prepared)? {
            Completion::Completed => Some(()),
            Completion::NoRoom => None,
            Completion::Refused(failure) => {
                upload::refused(prepared, &failure)?;
                prepared.observer.finish(&prepared.aggregate, ExitCode::Failed, "");
                return Ok(ExitCode::Failed);
            }
            Completion::Stopped => return pause(&mut prepared.aggregate, &mut prepared.observer, orders),
        },
    };
    // Without a record of the end there is no state that says how it was asked for.
    let interrupted = recorded.is_none().then(|| orders.interruption().unwrap_or(Interruption::Terminate));
    let exit = exit_code(
        prepared.aggregate.state(),
        prepared.aggregate.totals(),
        prepared.observer.facts().thresholds_set,
        interrupted,
    );
    if prepared.aggregate.state() == JobState::Failed {
        // Where what failed is looked for; a Completed job has had it before its output got its name.
        prepared.observer.job_report(&prepared.aggregate);
    }
    let traceback = cause.map(|cause| cause.traceback).unwrap_or_default();
    prepared.observer.finish(&prepared.aggregate, exit, &traceback);
    if prepared.aggregate.state() == JobState::Completed {
        // Last: nobody waits for it.
        let on_fleet = prepared.observer.facts().comeback.is_on_fleet();
        let totals = prepared.aggregate.totals();
        if let Ok(written) = output_len(prepared.aggregate.ledger(), totals) {
            reuse::finish(&prepared.spec, &prepared.dir, prepared.observer.items(), totals, written, on_fleet);
        }
    }
    Ok(exit)
}

/// What came of the end of a job.
enum Completion {
    Completed,
    /// There is no room for it, or the cloud does not answer, and the user does not wait.
    NoRoom,
    /// The output has its name here, and can't be uploaded.
    Refused(Failure),
    /// The user does not wait for the file that is made of what is committed. Nothing has the output's name yet, so any state may follow.
    Stopped,
}

/// Gives the output its final name, and uploads it where the job says so.
fn complete(prepared: &mut Prepared) -> Result<Completion> {
    let state = JobState::Finalizing;
    if until_there_is_room(prepared, |aggregate| aggregate.set_state(state, None))?.is_none() {
        return Ok(Completion::NoRoom);
    }
    prepared.observer.state(state, None);
    prepared.observer.show(&prepared.aggregate);
    failpoint!("finalizing");
    prepared.observer.job_report(&prepared.aggregate);
    if rewrite::write(prepared)?.is_none() {
        return Ok(Completion::Stopped);
    }
    if let Some(uri) = prepared.spec.output_uri.clone() {
        if until_there_is_room(prepared, Aggregate::place)?.is_none() {
            return Ok(Completion::NoRoom);
        }
        match upload::upload(prepared, &uri)? {
            Uploaded::All => (),
            Uploaded::Stopped => return Ok(Completion::NoRoom),
            Uploaded::Refused(failure) => return Ok(Completion::Refused(failure)),
        }
    }
    if until_there_is_room(prepared, Aggregate::finish)?.is_none() {
        return Ok(Completion::NoRoom);
    }
    prepared.observer.state(JobState::Completed, None);
    Ok(Completion::Completed)
}

fn asked_to_stop(orders: &Orders) -> Ending {
    if orders.is_canceled() { Ending::Canceled } else { Ending::Interrupted }
}

/// The job was told to stop: says so wherever there is room for it.
fn pause(aggregate: &mut Aggregate, observer: &mut Observer, orders: &Orders) -> Result<ExitCode> {
    let (state, cause) = match (orders.is_canceled(), orders.interruption()) {
        (true, _) => (JobState::Canceled, Some("canceled")),
        (false, Some(_)) => (JobState::Paused, Some("interrupted")),
        (false, None) => (JobState::Paused, Some("paused on request")),
    };
    match aggregate.set_state(state, cause) {
        // The next start needs no word of it: it goes on from any state but a final one.
        Ok(()) | Err(CommitError::DiskFull { .. }) => observer.state(state, cause),
        Err(error) => return Err(error.into()),
    }
    let thresholds_set = observer.facts().thresholds_set;
    let exit = exit_code(aggregate.state(), aggregate.totals(), thresholds_set, orders.interruption());
    observer.finish(aggregate, exit, "");
    Ok(exit)
}

/// The exit code of a job that was stopped before it was one.
fn stopped(orders: &Orders) -> ExitCode {
    match orders.interruption() {
        _ if orders.is_canceled() => ExitCode::Canceled,
        Some(interruption) => interruption.into(),
        None => ExitCode::Completed,
    }
}

/// The job can't be run. If that is its own fault (its environment can't be built) it is Failed, and `retry --failed` goes on once
/// that is mended; if it is that of what it was told or found (a GPU that others hold, a full disk), the same command goes on.
fn cannot_run(aggregate: &mut Aggregate, observer: &mut Observer, failure: &Failure) -> Result<ExitCode> {
    let exit = failure.exit_code();
    let state = match exit {
        ExitCode::Failed if !failure.is_disk_full() => JobState::Failed,
        _ => JobState::Paused,
    };
    let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let cause = format!("{failure}{hint}");
    match aggregate.set_state(state, Some(&cause)) {
        // As when it is paused.
        Ok(()) | Err(CommitError::DiskFull { .. }) => observer.state(state, Some(&cause)),
        Err(error) => return Err(error.into()),
    }
    observer.finish(aggregate, exit, "");
    Ok(exit)
}

/// Whether what all mini-batches came to is a failure.
fn verdict_of_all(prepared: &Prepared) -> Result<Option<verdict::Cause>> {
    let (spec, totals) = (&prepared.spec, prepared.aggregate.totals());
    let exceeded = verdict::thresholds(spec, totals, true);
    if exceeded.is_some() || !verdict::is_no_result(spec, totals) {
        return Ok(exceeded);
    }
    Ok(Some(verdict::no_result(prepared.aggregate.ledger().error_groups(1)?.first())))
}

/// Does something that needs room on the disk, waiting for it if need be: a full disk never fails a job. None: there is none,
/// and a signal says that the user does not wait any longer.
fn until_there_is_room<T>(
    prepared: &mut Prepared,
    mut work: impl FnMut(&mut Aggregate) -> Result<T, CommitError>,
) -> Result<Option<T>> {
    loop {
        match work(&mut prepared.aggregate) {
            Err(CommitError::DiskFull { .. }) if prepared.orders.count() > 0 => return Ok(None),
            Err(CommitError::DiskFull { path, source }) => {
                prepared.observer.blocked(&prepared.aggregate, &path, &source.to_string());
                std::thread::sleep(driver::DISK_FULL_RETRY);
            }
            outcome => return Ok(Some(outcome?)),
        }
    }
}

/// The facts that every report begins with.
fn facts(
    submitted: &Submitted,
    spec: &JobSpec,
    job_file: PathBuf,
    comeback: Comeback,
    settled_before: u64,
    started_us: u64,
) -> JobFacts {
    let output_dir = output_dir(spec, &submitted.dir);
    JobFacts {
        id: submitted.id.clone(),
        name: spec.name.clone(),
        dir: submitted.dir.clone(),
        job_file,
        comeback,
        output_file: places::output_file(spec, &submitted.dir),
        output_dir,
        output_uri: places::output_uri(spec),
        datasets: spec.datasets(),
        thresholds_set: spec.error_threshold >= 0
            || spec.allowed_failed_count.is_some()
            || spec.allowed_failed_percent.is_some(),
        bisects: spec.on_failure == OnFailure::Bisect,
        created_us: submitted.created_us,
        started_us,
        settled_before,
        pid: std::process::id(),
        host: node::host_name(),
        script: None,
    }
}
