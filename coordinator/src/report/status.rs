//! `status.json`: the job as a reader without the ledger sees it. [`STATUS_VERSION`] counts changes that break a reader;
//! new fields are none. Times are RFC 3339, durations seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fanfold_shared::clock::{iso, serde_us, serde_us_option};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::Activity;
use fanfold_shared::state::JobState;
use fanfold_shared::text::counted;
use fanfold_shared::uri::Uri;
use serde::{Deserialize, Serialize};

use super::replace::Reserved;
use super::snapshot::run_again;
use super::{JobFacts, OutputPlace, Pace, Snapshot, Work, replace_file};
use crate::ledger::{ScriptRow, Totals};

/// The version in [`Status::version`].
pub const STATUS_VERSION: u32 = 1;

/// Distinct errors in the file.
const ERRORS: usize = 5;

/// The file, as a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// The job's id.
    pub job_id: String,
    /// Its name in the job file.
    pub name: String,
    /// Where it lies.
    pub job_dir: PathBuf,
    /// The job file as it was given, absolute.
    pub job_file: PathBuf,
    /// The command that goes on with it; null if it is over.
    #[serde(default)]
    pub go_on: Option<String>,
    /// Its state.
    pub state: JobState,
    /// Why it is in that state.
    pub cause: Option<String>,
    /// Why nothing moves.
    pub blocked: Option<String>,
    /// The coordinator's host.
    pub host: String,
    /// The coordinator's process id.
    pub pid: u32,
    /// When the job was submitted.
    #[serde(with = "serde_us")]
    pub created: u64,
    /// When the coordinator took it up.
    #[serde(with = "serde_us")]
    pub started: u64,
    /// When these figures were true.
    #[serde(with = "serde_us")]
    pub updated: u64,
    /// When it came to its final state, or was paused.
    #[serde(with = "serde_us_option")]
    pub ended: Option<u64>,
    /// How much of the data is split, 0 to 1; null: all of it, and the figures are of the whole job.
    #[serde(default)]
    pub splitting: Option<f64>,
    /// The figures.
    pub counts: StatusCounts,
    /// Items settled per second; of a job that is over, in all the time in which it worked.
    pub items_per_second: f64,
    /// Mini-batches settled per second.
    pub mini_batches_per_second: f64,
    /// Seconds until all is settled, if that can be told.
    pub eta_seconds: Option<f64>,
    /// The versions of registered datasets that its inputs came from, by the names of the inputs.
    #[serde(default)]
    pub datasets: BTreeMap<String, String>,
    /// The script that it runs, if that is not the one that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<StatusScript>,
    /// The results.
    pub output: StatusOutput,
    /// The times between which the speed of dispatching is measured.
    #[serde(default)]
    pub timing: StatusTiming,
    /// Whether the job set a threshold for failures.
    pub thresholds_set: bool,
    /// Nodes that take part.
    pub nodes: u32,
    /// How many more are wanted.
    #[serde(default)]
    pub nodes_wanted: u32,
    /// Those that take part or prepare to.
    #[serde(default)]
    pub node_list: Vec<StatusNode>,
    /// Mini-batches that are out: published and not answered.
    #[serde(default)]
    pub window: u64,
    /// Processes that live.
    pub processes: Vec<StatusProcess>,
    /// What they spent their time on in the last minute, or longer where attempts take long.
    #[serde(default)]
    pub work: Work,
    /// When it was told to finish what runs and stand still.
    #[serde(default, with = "serde_us_option")]
    pub stopping: Option<u64>,
    /// How many distinct errors there are.
    pub distinct_errors: u64,
    /// The first five of them, oldest first.
    pub errors: Vec<StatusError>,
}

/// A script that a job took up on its way (`retry --failed --new-script`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusScript {
    /// Which copy of it: 2 or more.
    pub number: u32,
    /// BLAKE3 of the copy.
    pub hash: String,
    /// When it came into use.
    #[serde(with = "serde_us")]
    pub since: u64,
    /// Mini-batches that earlier scripts had brought in by then.
    pub mini_batches_before: u64,
}

impl StatusScript {
    /// `copy 2, since 2026-11-27T07:00:00; rows of 17 mini-batches are of an earlier one`.
    pub fn in_words(&self) -> String {
        let since = format!("copy {}, since {}", self.number, iso(self.since));
        match self.mini_batches_before {
            0 => since,
            before => format!("{since}; rows of {} are of an earlier one", counted(before, "mini-batch")),
        }
    }
}

impl From<&ScriptRow> for StatusScript {
    fn from(row: &ScriptRow) -> StatusScript {
        let ScriptRow { number, hash, since_us, mini_batches, .. } = row;
        StatusScript { number: number.0, hash: hash.clone(), since: *since_us, mini_batches_before: *mini_batches }
    }
}

/// See [`Totals`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in Totals, which says what each means")]
pub struct StatusCounts {
    pub items: u64,
    pub items_succeeded: u64,
    pub items_failed: u64,
    pub mini_batches: u64,
    pub mini_batches_scheduled: u64,
    pub mini_batches_succeeded: u64,
    pub mini_batches_failed: u64,
    pub mini_batches_short: u64,
    pub mini_batches_remaining: u64,
    pub surplus_results: u64,
    pub attempts: u64,
    pub attempts_failed: u64,
    pub duplicates: u64,
    pub run_seconds: f64,
}

/// When this run of the coordinator began and ended to hand out and commit, microseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusTiming {
    /// The first mini-batch was published.
    pub first_handover_us: Option<u64>,
    /// The last group was committed.
    pub last_commit_us: Option<u64>,
}

/// Where the results are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusOutput {
    /// The output directory.
    pub dir: PathBuf,
    /// The output file's final path; null for `summary_only`. Before the job is Completed it is `<file>.partial`.
    pub file: Option<PathBuf>,
    /// Its address in the cloud once the job is Completed (for `summary_only` that of the directory); absent if it is not uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Uri>,
    /// Bytes of it that are proven.
    pub bytes: u64,
    /// Results in it: elements that `run()` returned.
    pub rows: u64,
}

impl StatusOutput {
    /// Where it is.
    pub fn place(&self) -> OutputPlace<'_> {
        OutputPlace { file: self.file.as_deref(), dir: &self.dir, uri: self.uri.as_ref() }
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusNode {
    /// Its id.
    pub node: String,
    /// Its host's name.
    pub host: String,
    /// The worker that it is; null for the node of an embedded job.
    pub worker: Option<String>,
    /// Its processes; 0 until it has joined.
    pub processes: u32,
    /// `joining`, `working`, `leaving`, `gave up`.
    pub state: String,
}

/// A living process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusProcess {
    /// On which node.
    pub node: String,
    /// `process000`.
    pub process: String,
    /// Its process id.
    pub pid: u32,
    /// Its `CUDA_VISIBLE_DEVICES`, if it has one.
    pub device: Option<String>,
    /// When it was started.
    #[serde(with = "serde_us")]
    pub started: u64,
    /// Whether its `init()` is done.
    pub ready: bool,
    /// What it does: see `docs/operations.md`.
    #[serde(default)]
    pub activity: Activity,
    /// Since when.
    #[serde(default, with = "serde_us_option")]
    pub since: Option<u64>,
    /// With which mini-batch.
    #[serde(default)]
    pub mini_batch: Option<u64>,
    /// Attempts that it answered.
    #[serde(default)]
    pub done: u64,
    /// Of these, the failed ones.
    #[serde(default)]
    pub failed: u64,
}

/// A distinct error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusError {
    /// Its class.
    pub kind: String,
    /// The message of its first instance.
    pub message: String,
    /// Its traceback; empty where there is none.
    pub traceback: String,
    /// Attempts that ended with it, those that were tried again as well.
    pub count: u64,
    /// Items that failed for good with it.
    #[serde(default)]
    pub items_lost: u64,
}

impl Status {
    /// The file's value for a moment of a job.
    pub fn new(facts: &JobFacts, snapshot: &Snapshot, pace: &Pace) -> Status {
        let over = snapshot.state.is_final() || snapshot.state == JobState::Paused;
        Status {
            version: STATUS_VERSION,
            job_id: facts.id.0.clone(),
            name: facts.name.clone(),
            job_dir: lossy(facts.dir.root()),
            job_file: lossy(&std::path::absolute(&facts.job_file).unwrap_or_else(|_| facts.job_file.clone())),
            go_on: (!snapshot.state.is_final()).then(|| facts.go_on()),
            state: snapshot.state,
            cause: snapshot.cause.clone(),
            blocked: snapshot.blocked.clone(),
            host: facts.host.clone(),
            pid: facts.pid,
            created: facts.created_us,
            started: facts.started_us,
            updated: snapshot.now_us,
            ended: over.then_some(snapshot.now_us),
            splitting: snapshot.splitting.map(round),
            counts: StatusCounts::new(&snapshot.totals, snapshot.scheduled),
            items_per_second: round(pace.items_per_second),
            mini_batches_per_second: round(pace.mini_batches_per_second),
            eta_seconds: pace.eta_seconds.map(round),
            datasets: facts.datasets.clone(),
            script: facts.script.as_ref().map(StatusScript::from),
            output: StatusOutput {
                dir: lossy(&facts.output_dir),
                file: facts.output_file.as_deref().map(lossy),
                uri: facts.output_uri.clone(),
                bytes: snapshot.totals.committed_len,
                rows: snapshot.totals.returned,
            },
            timing: StatusTiming {
                first_handover_us: snapshot.first_handover_us,
                last_commit_us: snapshot.last_commit_us,
            },
            thresholds_set: facts.thresholds_set,
            nodes: snapshot.joined(),
            nodes_wanted: snapshot.nodes_wanted,
            node_list: snapshot
                .nodes
                .iter()
                .map(|line| StatusNode {
                    node: line.node.0.clone(),
                    host: line.host.clone(),
                    worker: line.worker.clone(),
                    processes: line.processes,
                    state: line.state.into(),
                })
                .collect(),
            window: snapshot.window,
            processes: snapshot
                .processes
                .iter()
                .map(|process| StatusProcess {
                    node: process.node.0.clone(),
                    process: process.process.to_string(),
                    pid: process.pid,
                    device: process.device.clone(),
                    started: process.started_us,
                    ready: process.ready,
                    activity: process.activity,
                    since: Some(process.since_us),
                    mini_batch: process.mini_batch,
                    done: process.done,
                    failed: process.failed,
                })
                .collect(),
            work: snapshot.work.clone(),
            stopping: snapshot.stopping_us,
            distinct_errors: snapshot.distinct_errors,
            errors: snapshot
                .first_errors(ERRORS)
                .into_iter()
                .map(|error| StatusError {
                    kind: error.kind.name().into(),
                    message: error.message.clone(),
                    traceback: error.traceback.clone(),
                    count: error.count,
                    items_lost: snapshot.items_lost.get(&error.id).copied().unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// The command that goes on with the job; of a file that says none, the one for this machine.
    pub fn go_on(&self) -> String {
        self.go_on.clone().unwrap_or_else(|| run_again(&JobDir::new(&self.job_dir)))
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> std::io::Result<Status> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

impl StatusCounts {
    fn new(totals: &Totals, scheduled: u64) -> StatusCounts {
        StatusCounts {
            items: totals.items,
            items_succeeded: totals.items_succeeded,
            items_failed: totals.items_failed,
            mini_batches: totals.mini_batches,
            mini_batches_scheduled: scheduled,
            mini_batches_succeeded: totals.mini_batches_succeeded,
            mini_batches_failed: totals.mini_batches_failed,
            mini_batches_short: totals.mini_batches_short,
            mini_batches_remaining: totals.mini_batches_remaining(),
            surplus_results: totals.surplus_results,
            attempts: totals.attempts,
            attempts_failed: totals.attempts_failed,
            duplicates: totals.duplicates,
            run_seconds: totals.run_us as f64 / 1e6,
        }
    }

    /// Mini-batches that are settled, whatever their fate.
    pub fn settled(&self) -> u64 {
        self.mini_batches_succeeded + self.mini_batches_failed
    }
}

/// `path` as JSON can hold it.
fn lossy(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// Three digits after the point say all that a rate knows.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The writer.
///
/// It holds the room for the next version: a job that a full disk blocks must be able to say so on that very disk.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    reserved: Option<Reserved>,
}

impl StatusFile {
    /// The file at `path` ([`fanfold_shared::layout::JobDir::status_json`]).
    pub fn new(path: PathBuf) -> StatusFile {
        StatusFile { path, reserved: None }
    }

    /// Replaces the file in one step. A refusal is passed over: the next second brings the next try.
    pub fn write(&mut self, status: &Status) {
        let mut bytes = serde_json::to_vec_pretty(status).expect("strings and numbers");
        bytes.push(b'\n');
        let kept = self.reserved.take().map(|reserved| reserved.replace(&self.path, &bytes));
        if !matches!(kept, Some(Ok(()))) {
            let _ = replace_file(&self.path, &bytes);
        }
        self.reserved = Reserved::beside(&self.path, 2 * bytes.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::fixtures::{facts, running};
    use super::*;

    #[test]
    fn the_schema_is_what_readers_rely_on() {
        let dir = tempfile::tempdir().unwrap();
        let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.10049, eta_seconds: Some(13.0) };
        let facts = JobFacts { job_file: "/data/job.yaml".into(), ..facts(Path::new("/jobs/score-1a2b3c4d")) };
        let status = Status::new(&facts, &running(), &pace);
        let path = dir.path().join("status.json");
        StatusFile::new(path.clone()).write(&status);
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r#"
        {
          "version": 1,
          "job_id": "score-1a2b3c4d",
          "name": "score",
          "job_dir": "/jobs/score-1a2b3c4d",
          "job_file": "/data/job.yaml",
          "go_on": "fanfold run /jobs/score-1a2b3c4d/job.yaml --job-dir /jobs/score-1a2b3c4d",
          "state": "Running",
          "cause": null,
          "blocked": null,
          "host": "gpu-01",
          "pid": 4711,
          "created": "2026-11-21T02:38:55.226929Z",
          "started": "2026-11-21T02:38:55.226929Z",
          "updated": "2026-11-21T02:39:25.226929Z",
          "ended": null,
          "splitting": null,
          "counts": {
            "items": 551,
            "items_succeeded": 237,
            "items_failed": 3,
            "mini_batches": 276,
            "mini_batches_scheduled": 276,
            "mini_batches_succeeded": 119,
            "mini_batches_failed": 1,
            "mini_batches_short": 1,
            "mini_batches_remaining": 156,
            "surplus_results": 0,
            "attempts": 123,
            "attempts_failed": 4,
            "duplicates": 0,
            "run_seconds": 100.0
          },
          "items_per_second": 24.2,
          "mini_batches_per_second": 12.1,
          "eta_seconds": 13.0,
          "datasets": {},
          "output": {
            "dir": "/data/out",
            "file": "/data/out/parallel_run_step.txt",
            "bytes": 1300000,
            "rows": 237
          },
          "timing": {
            "first_handover_us": 1795228735226929,
            "last_commit_us": 1795228765226929
          },
          "thresholds_set": false,
          "nodes": 1,
          "nodes_wanted": 0,
          "node_list": [
            {
              "node": "0",
              "host": "gpu-01",
              "worker": null,
              "processes": 2,
              "state": "working"
            }
          ],
          "window": 156,
          "processes": [
            {
              "node": "0",
              "process": "process000",
              "pid": 500,
              "device": "0",
              "started": "2026-11-21T02:38:56.226929Z",
              "ready": true,
              "activity": "running",
              "since": "2026-11-21T02:39:22.026929Z",
              "mini_batch": 121,
              "done": 123,
              "failed": 0
            },
            {
              "node": "0",
              "process": "process001",
              "pid": 501,
              "device": null,
              "started": "2026-11-21T02:38:56.226929Z",
              "ready": false,
              "activity": "init",
              "since": "2026-11-21T02:38:56.726929Z",
              "mini_batch": null,
              "done": 0,
              "failed": 0
            }
          ],
          "work": {
            "span_us": 0,
            "attempts": 0,
            "failed": 0,
            "busy_us": 0,
            "run_us": 0,
            "cpu_us": 0,
            "failed_us": 0,
            "ready_us": 0,
            "delayed_us": 0,
            "inits": 0,
            "init_us": 0,
            "died": 0,
            "downloaded": 0
          },
          "stopping": null,
          "distinct_errors": 1,
          "errors": [
            {
              "kind": "exception",
              "message": "ValueError: bad pixel",
              "traceback": "Traceback (most recent call last):\n  File \"score.py\", line 9, in run\n    raise ValueError(\"bad pixel\")\nValueError: bad pixel\n",
              "count": 4,
              "items_lost": 3
            }
          ]
        }
        "#);
        assert_eq!(Status::read(&path).unwrap(), status);
    }

    #[test]
    fn rates_that_are_no_numbers_are_null_and_a_full_disk_is_passed_over() {
        let pace = Pace { eta_seconds: None, ..Pace::default() };
        let status = Status::new(&facts(Path::new("/j")), &running(), &pace);
        StatusFile::new("/proc/nowhere/status.json".into()).write(&status);
        assert_eq!(status.eta_seconds, None);
        assert!(status.job_file.is_absolute() && status.job_file.ends_with("job.yaml"), "{:?}", status.job_file);
    }
}
