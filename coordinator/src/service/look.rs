//! What is shown of a job: its status with what only its service can add, and why it is not faster.

use std::fs::File;
use std::io::ErrorKind;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::clock::{duration, rfc3339, wall_us};
use fanfold_shared::ids::JobId;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, grouped, rate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::{Intent, Job};
use super::{Missing, Service, ServiceError, supervise};
use crate::aggregate::partial_path;
use crate::report::{Coordinator, STATUS_VERSION, Status, coordinator_of, resume};

/// A process that has been in `init()` for so long is worth a word.
const INIT_SLOW: f64 = 30.0;
/// Without a result for so long, a job is worth a word.
const STILL: f64 = 60.0;
/// How a coordinator begins to say that it is blocked by the broker.
const OF_THE_BROKER: &str = "the broker ";

/// A job's status, and what only a reader can know.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusView {
    /// The file, or what stands in for it.
    pub status: Status,
    /// Whether somebody works on it.
    pub coordinator: Coordinator,
    /// Of the figures, seconds.
    pub age: f64,
}

impl StatusView {
    /// The status of the job in `dir`.
    ///
    /// # Errors
    /// It has none that can be read.
    pub fn of(dir: &JobDir) -> std::io::Result<StatusView> {
        // Before the status: what a coordinator that is gone said last is then in it.
        let coordinator = coordinator_of(dir);
        let status = Status::read(&dir.status_json())?;
        let age = wall_us().saturating_sub(status.updated) as f64 / 1e6;
        Ok(StatusView { status, coordinator, age })
    }

    /// What `fanfold status --json` and `GET /v1/jobs/{id}` say.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(&self.status).expect("strings and numbers");
        value["coordinator"] = self.coordinator.name().into();
        value["age_seconds"] = ((self.age * 10.0).round() / 10.0).into();
        value
    }

    /// Reads [`StatusView::to_json`].
    ///
    /// # Errors
    /// It is something else.
    pub fn from_json(value: Value) -> serde_json::Result<StatusView> {
        let coordinator = Coordinator::from_name(value["coordinator"].as_str().unwrap_or_default());
        let age = value["age_seconds"].as_f64().unwrap_or_default();
        Ok(StatusView { status: serde_json::from_value(value)?, coordinator, age })
    }

    /// The file with the job's result, or with `partial` what is committed of it so far; and how many bytes of it are proven.
    ///
    /// # Errors
    /// There is none (yet), or it can't be opened.
    pub fn result(&self, partial: bool) -> Result<(File, u64)> {
        let status = &self.status;
        let none = |what| ServiceError::NoResult { job: JobId(status.job_id.clone()), state: status.state, what };
        let completed = status.state == JobState::Completed;
        let path = match (&status.output.file, status.state) {
            (Some(file), JobState::Completed) => file.clone(),
            (Some(file), _) => partial_path(file),
            // What it will be is perhaps not known yet.
            (None, JobState::Queued | JobState::Preparing) => return Err(none(Missing::All).into()),
            (None, _) => return Err(none(Missing::Stored(status.output.dir.clone())).into()),
        };
        match File::open(&path) {
            Ok(_) if !completed && !partial => Err(none(Missing::Rest).into()),
            Ok(file) => Ok((file, status.output.bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(none(if completed { Missing::Gone(path) } else { Missing::All }).into())
            }
            outcome => Ok((outcome.during("open", &path)?, status.output.bytes)),
        }
    }
}

/// Why a job waits or is slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs: `queued`, `paused`, `over`, `preparing`, `finalizing`, `nodes`, `share`, `broker`, `blocked`, `init`, `failing`,
    /// `still`, `gone`, `working`.
    pub code: String,
    /// For people, with a figure.
    pub text: String,
}

/// What `fanfold explain --json` and `GET /v1/jobs/{id}/explain` say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The version of this form.
    pub version: u32,
    /// The job.
    pub job_id: String,
    /// Its state.
    pub state: JobState,
    /// The reasons, the first one first to be seen to.
    pub reasons: Vec<Reason>,
}

/// What a service knows beside the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Why the job is not begun.
    pub queued: Option<String>,
    /// Why the broker takes nothing.
    pub broker: Option<String>,
    /// The pool, the workers in it, and how many of them are free, as far as they are known.
    pub pool: Option<(String, Option<(usize, usize)>)>,
    /// The nodes that the job may have, because others wait.
    pub limit: Option<u32>,
}

/// Why the job is where it is: at least one reason, the most pressing first.
pub fn explain(view: &StatusView, waiting: &Waiting) -> Explained {
    let status = &view.status;
    let mut reasons = Vec::new();
    let mut say = |code: &str, text: String| reasons.push(Reason { code: code.into(), text });
    let because = status
        .cause
        .as_ref()
        .map(|cause| format!(": {}", cause.lines().next().unwrap_or_default()))
        .unwrap_or_default();
    let counts = &status.counts;
    let done = format!("{} of {}", grouped(counts.settled()), counted(counts.mini_batches, "mini-batch"));
    let active = !status.state.is_final() && status.state != JobState::Paused && status.state != JobState::Queued;
    if active && view.coordinator == Coordinator::Gone {
        let since = duration(view.age);
        say("gone", format!("nobody works on it: its coordinator has been gone for about {since}, {done} are settled"));
    }
    let broker = waiting.broker.as_ref().filter(|_| !status.state.is_final());
    // The service says the same of the broker, and for how long.
    if let Some(blocked) = status.blocked.as_ref().filter(|why| broker.is_none() || !why.starts_with(OF_THE_BROKER)) {
        say("blocked", blocked.clone());
    }
    if let Some(why) = broker {
        say("broker", format!("the broker takes nothing: {why}"));
    }
    match status.state {
        JobState::Completed | JobState::Failed | JobState::Canceled => {
            say("over", format!("it is {}{because}; {done} are settled", status.state))
        }
        JobState::Paused => say("paused", format!("it is Paused{because}; {done} are settled")),
        JobState::Queued => {
            let why = waiting
                .queued
                .clone()
                .or_else(|| status.cause.clone())
                .unwrap_or_else(|| "it is about to begin".into());
            say("queued", why);
        }
        JobState::Preparing => {
            let since = duration(view.status.updated.saturating_sub(status.started) as f64 / 1e6 + view.age);
            say("preparing", format!("its inputs are listed and its environment is built; it began {since} ago"));
        }
        JobState::Finalizing => say("finalizing", format!("{done} are settled; the output gets its name")),
        JobState::CancelRequested => say("canceling", "what runs is being ended".into()),
        JobState::Running => at_work(view, waiting, &done, &mut say),
    }
    Explained { version: 1, job_id: status.job_id.clone(), state: status.state, reasons }
}

fn at_work(view: &StatusView, waiting: &Waiting, done: &str, say: &mut dyn FnMut(&str, String)) {
    let (status, counts) = (&view.status, &view.status.counts);
    let now = status.updated;
    if status.nodes == 0
        && let Some(text) = why_no_nodes(status, waiting.pool.as_ref())
    {
        say("nodes", text);
    }
    if let Some(limit) = waiting.limit {
        say("share", format!("it may have {} while other jobs wait for some", counted(limit.into(), "node")));
    }
    let starting: Vec<_> = status.processes.iter().filter(|process| !process.ready).collect();
    let slowest = starting.iter().map(|process| now.saturating_sub(process.started) as f64 / 1e6).fold(0.0, f64::max);
    if !starting.is_empty() && slowest >= INIT_SLOW {
        let all = counted(status.processes.len() as u64, "process");
        say(
            "init",
            format!("{} of {all} are still in import or init(), the longest for {}", starting.len(), duration(slowest)),
        );
    }
    if counts.attempts >= 10 && counts.attempts_failed * 2 > counts.attempts {
        let first = status
            .errors
            .first()
            .map(|error| format!("; the first error: {}", fanfold_shared::text::one_line(&error.message, 200)));
        let (failed, all) = (grouped(counts.attempts_failed), counted(counts.attempts, "attempt"));
        say("failing", format!("{failed} of {all} failed{}", first.unwrap_or_default()));
    }
    let last = status.timing.last_commit_us.or(status.timing.first_handover_us);
    let still = last
        .map(|last| wall_us().saturating_sub(last) as f64 / 1e6)
        .filter(|still| *still >= STILL && status.nodes > 0);
    if let Some(still) = still {
        say("still", format!("no result has come for {}; {done} are settled", duration(still)));
    } else if status.nodes > 0 {
        let speed = rate(status.items_per_second);
        let ready = status.processes.iter().filter(|process| process.ready).count() as u64;
        let rest = status.eta_seconds.map(|eta| format!(", {} to go", duration(eta))).unwrap_or_default();
        let nodes = counted(status.nodes.into(), "node");
        say(
            "working",
            format!("it works: {done}, {speed} items/s with {} on {nodes}{rest}", counted(ready, "process")),
        );
    }
}

/// Why the job has no nodes. Its coordinator says itself that it waits for some, and for how many; then only what it can't know is left:
/// what the workers of the pool are at.
fn why_no_nodes(status: &Status, pool: Option<&(String, Option<(usize, usize)>)>) -> Option<String> {
    let pool = pool.map(|(pool, workers)| (pool, *workers));
    let of_pool = |count, pool| format!("{} of pool `{pool}`", counted(count as u64, "worker"));
    let workers = match pool {
        Some((pool, Some((0, _)))) => {
            Some(format!("no worker is in pool `{pool}`; start `fanfold-worker --pool {pool}`"))
        }
        Some((pool, Some((1, 0)))) => Some(format!("the only worker of pool `{pool}` is at work for others")),
        Some((pool, Some((all, 0)))) => Some(format!("all {} are at work for others", of_pool(all, pool))),
        Some((pool, Some((all, free)))) => {
            let are = if free == 1 { "is" } else { "are" };
            Some(format!("{free} of {} {are} free and about to join", of_pool(all, pool)))
        }
        Some((_, None)) | None => None,
    };
    if status.blocked.is_some() {
        return workers;
    }
    let text = match (workers, pool) {
        (Some(workers), _) => format!("it waits for nodes: {workers}"),
        (None, Some((pool, _))) => format!("it waits for nodes of pool `{pool}`"),
        (None, None) => "it waits for nodes: none has joined".into(),
    };
    Some(match status.nodes_wanted {
        0 => text,
        wanted => format!("{text} ({} wanted)", grouped(wanted.into())),
    })
}

impl Service {
    /// The job's `status.json`, if there is one.
    pub(super) fn status_file(&self, job: &Job) -> Option<Status> {
        Status::read(&JobDir::new(&job.dir).status_json()).ok()
    }

    /// The status of a job: its file, corrected by what the service knows better.
    pub fn status(&self, job: &Job) -> StatusView {
        let file = self.status_file(job);
        let updated = file.as_ref().map_or(job.submitted_us, |status| status.updated);
        let mut status = file.unwrap_or_else(|| begin(job));
        let runs = self.is_running(&job.id);
        // A thread writes the file about once a second; what the store says is as new, and is all there is of a job without one.
        let file_is_newer = runs && job.wanted == Intent::Run && !job.state.is_final() && job.state != JobState::Queued;
        if !file_is_newer || status.state.is_final() != job.state.is_final() {
            status.state = job.state;
            status.cause = job.cause.clone();
        }
        if job.wanted == Intent::Canceled && !job.state.is_final() {
            status.state = JobState::CancelRequested;
        }
        status.ended = match status.state.is_final() || status.state == JobState::Paused {
            true => status.ended.or(job.ended_us).or(Some(updated)),
            false => None,
        };
        // Whoever ran it before: it is the service's.
        status.go_on = (!status.state.is_final()).then(|| resume(&job.id));
        let age = wall_us().saturating_sub(updated) as f64 / 1e6;
        let coordinator = match status.state.is_final() || (status.state == JobState::Paused && !runs) {
            true => Coordinator::Gone,
            false => Coordinator::Alive,
        };
        StatusView { status, coordinator, age: if runs { age } else { 0.0 } }
    }

    /// Why a job waits or is slow.
    pub fn explain(&self, job: &Job) -> Explained {
        let queued = match job.state {
            _ if self.is_running(&job.id) => job.cause.clone(),
            JobState::Queued if self.is_full() => Some(format!(
                "{} run already, which is all that may (`--max-jobs`)",
                counted(self.max_jobs() as u64, "job")
            )),
            _ => None,
        };
        let condition = self.broker().condition();
        let since = |since: std::time::Instant| duration(since.elapsed().as_secs_f64());
        let broker = match &condition {
            Condition::Away { since: away, why } if away.elapsed() > Duration::from_secs(1) => {
                Some(format!("away for {}: {why}", since(*away)))
            }
            Condition::Blocked { since: blocked, why } => Some(format!("blocked for {}: {why}", since(*blocked))),
            _ => None,
        };
        let workers = self.workers().ok().map(|workers| {
            let pool: Vec<_> = workers.into_iter().filter(|worker| worker.pool == job.pool).collect();
            let free = pool.iter().filter(|worker| worker.state == fanfold_shared::fleet::WorkerState::Idle).count();
            (pool.len(), free)
        });
        let waiting =
            Waiting { queued, broker, pool: Some((job.pool.clone(), workers)), limit: self.limit_of(&job.id) };
        explain(&self.status(job), &waiting)
    }

    /// Why the broker takes nothing, if it does not.
    pub fn broker_trouble(&self) -> Option<String> {
        supervise::why_not(&self.broker().condition())
    }
}

/// The status of a job that has not begun.
fn begin(job: &Job) -> Status {
    let submitted = rfc3339(job.submitted_us);
    let dir = JobDir::new(&job.dir);
    let counts = [
        "items",
        "items_succeeded",
        "items_failed",
        "mini_batches",
        "mini_batches_scheduled",
        "mini_batches_succeeded",
        "mini_batches_failed",
        "mini_batches_short",
        "mini_batches_remaining",
        "surplus_results",
        "attempts",
        "attempts_failed",
        "duplicates",
    ];
    let mut counts: serde_json::Map<String, Value> = counts.into_iter().map(|count| (count.into(), 0.into())).collect();
    counts.insert("run_seconds".into(), 0.0.into());
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
    let value = json!({
        "version": STATUS_VERSION,
        "job_id": job.id,
        "name": job.name,
        "job_dir": job.dir,
        "job_file": dir.job_yaml(),
        "state": job.state,
        "cause": job.cause,
        "blocked": null,
        "host": host,
        "pid": std::process::id(),
        "created": submitted,
        "started": submitted,
        "updated": submitted,
        "ended": null,
        "counts": counts,
        "items_per_second": 0.0,
        "mini_batches_per_second": 0.0,
        "eta_seconds": null,
        "output": { "dir": dir.default_output(), "file": null, "bytes": 0, "rows": 0 },
        "thresholds_set": false,
        "nodes": 0,
        "processes": [],
        "distinct_errors": 0,
        "errors": [],
    });
    serde_json::from_value(value).expect("it has every field")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::report::{Pace, Snapshot, fixtures::*};

    fn view(change: impl FnOnce(&mut Snapshot)) -> StatusView {
        let mut snapshot = running();
        change(&mut snapshot);
        let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.1, eta_seconds: Some(13.0) };
        let mut status = Status::new(&facts(Path::new("/jobs/score-1a2b3c4d")), &snapshot, &pace);
        status.timing.last_commit_us = Some(wall_us());
        StatusView { status, coordinator: Coordinator::Alive, age: 0.5 }
    }

    fn told(view: &StatusView, waiting: &Waiting) -> String {
        explain(view, waiting).reasons.into_iter().map(|reason| format!("{}: {}\n", reason.code, reason.text)).collect()
    }

    #[test]
    fn a_status_goes_through_json_and_back() {
        let view = view(|_| ());
        assert_eq!(StatusView::from_json(view.to_json()).unwrap(), view);
        assert_eq!(view.to_json()["coordinator"], "alive");
    }

    #[test]
    fn a_job_that_has_not_begun_has_a_status_as_well() {
        let job = Job {
            seq: 1,
            id: JobId("score-1a2b3c4d".into()),
            dir: PathBuf::from("/shared/fanfold-jobs/score-1a2b3c4d"),
            name: "score".into(),
            pool: "default".into(),
            priority: 4,
            node_count: None,
            wanted: Intent::Run,
            retry: None,
            state: JobState::Queued,
            cause: None,
            submitted_us: THEN,
            ended_us: None,
        };
        let status = begin(&job);
        assert_eq!((status.state, status.created, status.counts.mini_batches), (JobState::Queued, THEN, 0));
    }

    #[test]
    fn every_wait_has_a_reason_with_a_figure() {
        let nothing = Waiting::default();
        insta::assert_snapshot!(told(&view(|_| ()), &nothing), @"working: it works: 120 of 276 mini-batches, 24 items/s with 1 process on 1 node, 13 s to go\n");
        let no_nodes = view(|snapshot| (snapshot.nodes, snapshot.processes) = (vec![], vec![]));
        let pool = |workers| Waiting { pool: Some(("gpu".into(), workers)), ..Waiting::default() };
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((0, 0)))), @"nodes: it waits for nodes: no worker is in pool `gpu`; start `fanfold-worker --pool gpu`\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((3, 0)))), @"nodes: it waits for nodes: all 3 workers of pool `gpu` are at work for others\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(Some((3, 1)))), @"nodes: it waits for nodes: 1 of 3 workers of pool `gpu` is free and about to join\n");
        insta::assert_snapshot!(told(&no_nodes, &pool(None)), @"nodes: it waits for nodes of pool `gpu`\n");
        insta::assert_snapshot!(told(&no_nodes, &nothing), @"nodes: it waits for nodes: none has joined\n");
        insta::assert_snapshot!(told(&no_nodes, &Waiting { broker: Some("blocked for 12 s: low on disk".into()), limit: Some(0), ..pool(Some((1, 0))) }), @r"
        broker: the broker takes nothing: blocked for 12 s: low on disk
        nodes: it waits for nodes: the only worker of pool `gpu` is at work for others
        share: it may have 0 nodes while other jobs wait for some
        ");
        let full = view(|snapshot| snapshot.blocked = Some("disk full: cannot write `/out`".into()));
        assert!(told(&full, &nothing).starts_with("blocked: disk full: cannot write `/out`\n"));
        let failing = view(|snapshot| (snapshot.totals.attempts, snapshot.totals.attempts_failed) = (100, 90));
        assert!(
            told(&failing, &nothing)
                .starts_with("failing: 90 of 100 attempts failed; the first error: ValueError: bad pixel\n")
        );
        let slow = view(|snapshot| snapshot.now_us += 600_000_000);
        assert!(
            told(&slow, &nothing)
                .starts_with("init: 1 of 2 processes are still in import or init(), the longest for 10 min 29 s\n")
        );
        let mut gone = view(|_| ());
        gone.coordinator = Coordinator::Gone;
        assert!(told(&gone, &nothing).starts_with("gone: nobody works on it"));
        let queued = view(|snapshot| snapshot.state = JobState::Queued);
        assert_eq!(
            told(&queued, &Waiting { queued: Some("64 jobs run already".into()), ..Waiting::default() }),
            "queued: 64 jobs run already\n"
        );
        let done =
            view(|snapshot| (snapshot.state, snapshot.cause) = (JobState::Failed, Some("no result\nmore".into())));
        assert_eq!(told(&done, &nothing), "over: it is Failed: no result; 120 of 276 mini-batches are settled\n");
    }

    #[test]
    fn what_the_coordinator_says_is_not_said_again() {
        let waits = |blocked: &str| {
            view(|snapshot| {
                (snapshot.nodes, snapshot.processes, snapshot.nodes_wanted) = (vec![], vec![], 2);
                snapshot.blocked = Some(blocked.into());
            })
        };
        let for_nodes = waits("waits for nodes: 2 wanted in pool `gpu`, none has come");
        let pool = |workers| Waiting { pool: Some(("gpu".into(), workers)), ..Waiting::default() };
        let alone = "blocked: waits for nodes: 2 wanted in pool `gpu`, none has come\n";
        assert_eq!(told(&for_nodes, &Waiting::default()), alone);
        assert_eq!(told(&for_nodes, &pool(None)), alone);
        insta::assert_snapshot!(told(&for_nodes, &pool(Some((0, 0)))), @r"
        blocked: waits for nodes: 2 wanted in pool `gpu`, none has come
        nodes: no worker is in pool `gpu`; start `fanfold-worker --pool gpu`
        ");
        insta::assert_snapshot!(told(&for_nodes, &pool(Some((3, 2)))), @r"
        blocked: waits for nodes: 2 wanted in pool `gpu`, none has come
        nodes: 2 of 3 workers of pool `gpu` are free and about to join
        ");

        let away = waits("the broker is away (connection refused); the job goes on by itself");
        assert_eq!(
            told(&away, &pool(None)),
            "blocked: the broker is away (connection refused); the job goes on by itself\n"
        );
        let broker = Some("away for 12 s: connection refused".to_string());
        insta::assert_snapshot!(told(&away, &Waiting { broker, ..pool(None) }), @"broker: the broker takes nothing: away for 12 s: connection refused\n");
    }

    #[test]
    fn a_result_is_there_or_it_is_said_what_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("out.txt");
        let view = |state, file: Option<&Path>| {
            let mut view = view(|snapshot| snapshot.state = state);
            (view.status.output.file, view.status.output.bytes) = (file.map(Path::to_path_buf), 4);
            view
        };
        let missing = |view: &StatusView, partial| {
            let failure = view.result(partial).expect_err("there is none");
            format!("{failure}\nhint: {}", failure.hint().unwrap())
        };
        use JobState as S;
        for state in [S::Queued, S::Preparing, S::Running] {
            for partial in [false, true] {
                let text = missing(&view(state, Some(&file)), partial);
                assert!(text.contains("it has no result yet\nhint: `fanfold status score-1a2b3c4d` shows"), "{text}");
            }
        }
        assert!(missing(&view(S::Queued, None), false).contains("it has no result yet"));
        insta::assert_snapshot!(missing(&view(S::Completed, None), true), @r"
        job score-1a2b3c4d is Completed: its results are what its script stored under `/data/out`
        hint: look there; with `output_action: append_row`, a job writes one file
        ");
        insta::assert_snapshot!(missing(&view(S::Completed, Some(&file)), false).replace(place.path().to_str().unwrap(), "/out"), @r"
        job score-1a2b3c4d is Completed: its output `/out/out.txt` is not there any more
        hint: bring it back from where it was moved to, or from a copy; to run everything again, use a new directory
        ");
        std::fs::write(crate::aggregate::partial_path(&file), "row\nbeyond").unwrap();
        insta::assert_snapshot!(missing(&view(S::Failed, Some(&file)), false), @r"
        job score-1a2b3c4d is Failed: its result is not whole
        hint: `fanfold results score-1a2b3c4d --partial` gives what is committed so far; `fanfold status score-1a2b3c4d` shows how far it is
        ");
        assert_eq!(view(S::Failed, Some(&file)).result(true).unwrap().1, 4);
        std::fs::write(&file, "row\n").unwrap();
        assert_eq!(view(S::Completed, Some(&file)).result(false).unwrap().1, 4);
    }
}
