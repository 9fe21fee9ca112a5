//! The values that every report is made from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::Activity;
use fanfold_shared::state::JobState;
use fanfold_shared::uri::Uri;

use super::{OutputPlace, Work, cost_in_words, shell_word};
use crate::ledger::{ErrorGroup, ScriptRow, Totals};

/// How a job that stands still is gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comeback {
    /// On this machine.
    Here,
    /// On the fleet that shares this directory.
    Fleet {
        /// Where this machine has it.
        shared: PathBuf,
    },
    /// By its service.
    Service,
}

impl Comeback {
    /// Whether its nodes are workers of a fleet, and none is in this program.
    pub fn is_on_fleet(&self) -> bool {
        *self != Comeback::Here
    }
}

/// What does not change while one coordinator runs a job.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// The job.
    pub id: JobId,
    /// Its name in the job file.
    pub name: String,
    /// Where it lies.
    pub dir: JobDir,
    /// The job file as the user gave it, or the resolved one in the job directory.
    pub job_file: PathBuf,
    /// How it is gone on with.
    pub comeback: Comeback,
    /// The final path of the output file; None for `summary_only`.
    pub output_file: Option<PathBuf>,
    /// The output directory.
    pub output_dir: PathBuf,
    /// Where in the cloud the output file goes at the end, or what the script stores; None: nowhere.
    pub output_uri: Option<Uri>,
    /// The versions of registered datasets that its inputs came from, by the names of the inputs.
    pub datasets: BTreeMap<String, String>,
    /// Whether the job set `error_threshold`, `allowed_failed_count` or `allowed_failed_percent`.
    pub thresholds_set: bool,
    /// Whether a mini-batch out of tries is halved until its bad items stand alone.
    pub bisects: bool,
    /// When the job was submitted, microseconds since the epoch.
    pub created_us: u64,
    /// When this coordinator took it up, microseconds since the epoch.
    pub started_us: u64,
    /// Mini-batches that earlier coordinators had settled by then.
    pub settled_before: u64,
    /// Process id of the coordinator.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// The script that the job runs, if it is not the one that it was submitted with.
    pub script: Option<ScriptRow>,
}

impl JobFacts {
    /// Where its output is.
    pub fn output(&self) -> OutputPlace<'_> {
        OutputPlace { file: self.output_file.as_deref(), dir: &self.output_dir, uri: self.output_uri.as_ref() }
    }

    /// The command that goes on with the job. It works from any directory, and with what was given with `--set`: the job's own copy of its
    /// job file has that, and nobody moved it away from the job.
    pub fn go_on(&self) -> String {
        match &self.comeback {
            Comeback::Here => run_again(&self.dir),
            Comeback::Fleet { shared } => format!("{} --shared {}", run_again(&self.dir), shell_word(shared)),
            Comeback::Service => resume(&self.id),
        }
    }
}

/// The command that goes on with the job in `dir` on this machine.
pub fn run_again(dir: &JobDir) -> String {
    format!("fanfold run {} --job-dir {}", shell_word(&dir.job_yaml()), shell_word(dir.root()))
}

/// The command that makes a service go on with its job.
pub fn resume(id: &JobId) -> String {
    format!("fanfold resume {id}")
}

/// A smaller part of the data says nothing about the whole.
const LEAST_PART: f64 = 1e-4;

/// The job at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// That moment, microseconds since the epoch.
    pub now_us: u64,
    /// The job's state.
    pub state: JobState,
    /// Why it is in that state, in one sentence; final states have one.
    pub cause: Option<String>,
    /// Why nothing moves although the state says it should (`disk full`).
    pub blocked: Option<String>,
    /// The ledger's figures.
    pub totals: Totals,
    /// Mini-batches that were published or settled so far.
    pub scheduled: u64,
    /// Nodes that take part now, or prepare to.
    pub nodes: Vec<NodeLine>,
    /// How many more are wanted.
    pub nodes_wanted: u32,
    /// Mini-batches that are out: published and not answered.
    pub window: u64,
    /// Processes that live now.
    pub processes: Vec<ProcessState>,
    /// Distinct errors, about a hundred at most; the most frequent where there are more (`LedgerReader::error_groups`).
    pub errors: Vec<ErrorGroup>,
    /// Items that are lost to each of them, by its id: those that failed for good.
    pub items_lost: BTreeMap<i64, u64>,
    /// How many distinct errors there are.
    pub distinct_errors: u64,
    /// Whether there is a failure that counts, and that errors.jsonl therefore has: not only attempts that were tried again.
    pub failures_stand: bool,
    /// Whether a mini-batch, or a part of one, is out of tries: `retry --failed` has something to try.
    pub out_of_tries: bool,
    /// When this run published its first mini-batch, microseconds since the epoch.
    pub first_handover_us: Option<u64>,
    /// When the first process of this run was ready, microseconds since the epoch.
    pub first_ready_us: Option<u64>,
    /// When this run committed last, microseconds since the epoch.
    pub last_commit_us: Option<u64>,
    /// How much of the data is split, 0 to 1; None: all of it, and the totals are of the whole job.
    pub splitting: Option<f64>,
    /// What the processes spent their time on lately.
    pub work: Work,
    /// When it was told to finish what runs and stand still, microseconds since the epoch.
    pub stopping_us: Option<u64>,
}

impl Snapshot {
    /// Mini-batches of the whole job: an estimate as long as a part of the data is split.
    pub fn mini_batches_expected(&self) -> u64 {
        let known = self.totals.mini_batches;
        self.splitting.map_or(known, |part| (known as f64 / part.max(LEAST_PART)) as u64)
    }

    /// Mini-batches of the whole job that are not settled, as [`Snapshot::mini_batches_expected`] counts them.
    pub fn mini_batches_to_come(&self) -> u64 {
        self.mini_batches_expected().saturating_sub(self.totals.mini_batches_settled())
    }

    /// What a distinct error cost, in words.
    pub fn cost_of(&self, error: &ErrorGroup) -> String {
        cost_in_words(error.kind, error.count, self.items_lost.get(&error.id).copied().unwrap_or_default())
    }

    /// Processes whose `init()` is done.
    pub fn ready(&self) -> usize {
        self.processes.iter().filter(|process| process.ready).count()
    }

    /// Nodes that have joined.
    pub fn joined(&self) -> u32 {
        self.nodes.iter().filter(|line| line.state != "joining").count() as u32
    }

    /// The first `count` of the distinct errors: the one that came up first is most often the cause of others.
    pub fn first_errors(&self, count: usize) -> Vec<&ErrorGroup> {
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by_key(|error| error.id);
        errors.truncate(count);
        errors
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// Its id.
    pub node: NodeId,
    /// Its host's name.
    pub host: String,
    /// The worker that it is, on a fleet.
    pub worker: Option<String>,
    /// Its processes; 0 until it has joined.
    pub processes: u32,
    /// `joining`, `working`, `leaving`, `gave up`.
    pub state: &'static str,
}

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// On which node.
    pub node: NodeId,
    /// Its number.
    pub process: ProcessNumber,
    /// Its process id.
    pub pid: u32,
    /// Its `CUDA_VISIBLE_DEVICES`, if it has one.
    pub device: Option<String>,
    /// When it was started, microseconds since the epoch.
    pub started_us: u64,
    /// Whether its `init()` is done.
    pub ready: bool,
    /// What it does.
    pub activity: Activity,
    /// Since when, microseconds since the epoch.
    pub since_us: u64,
    /// With which mini-batch.
    pub mini_batch: Option<u64>,
    /// Attempts that it answered.
    pub done: u64,
    /// Of these, the failed ones.
    pub failed: u64,
    /// In all it could have computed for so long and had no processor, microseconds.
    pub delayed_us: u64,
}

impl ProcessState {
    /// A process that was just started.
    pub fn started(
        node: NodeId,
        process: ProcessNumber,
        pid: u32,
        device: Option<String>,
        now_us: u64,
    ) -> ProcessState {
        ProcessState {
            node,
            process,
            pid,
            device,
            started_us: now_us,
            ready: false,
            activity: Activity::Starting,
            since_us: now_us,
            mini_batch: None,
            done: 0,
            failed: 0,
            delayed_us: 0,
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use fanfold_shared::message::ErrorKind;

    use super::*;

    pub(crate) const THEN: u64 = 1_795_228_735_226_929;

    pub(crate) fn facts(dir: &std::path::Path) -> JobFacts {
        JobFacts {
            id: JobId("score-1a2b3c4d".into()),
            name: "score".into(),
            dir: JobDir::new(dir),
            job_file: "job.yaml".into(),
            comeback: Comeback::Here,
            output_file: Some("/data/out/parallel_run_step.txt".into()),
            output_dir: "/data/out".into(),
            output_uri: None,
            datasets: BTreeMap::new(),
            thresholds_set: false,
            bisects: false,
            created_us: THEN,
            started_us: THEN,
            settled_before: 0,
            pid: 4711,
            host: "gpu-01".into(),
            script: None,
        }
    }

    /// A job of 276 mini-batches and 551 items, 30 seconds after it began.
    pub(crate) fn running() -> Snapshot {
        let process = |number, ready| {
            let device = (number == 0).then(|| "0".to_string());
            let (node, then) = (NodeId("0".into()), THEN + 1_000_000);
            let activity = if ready { Activity::Running } else { Activity::Init };
            let (mini_batch, done) = if ready { (Some(121), 123) } else { (None, 0) };
            let since_us = if ready { THEN + 26_800_000 } else { THEN + 1_500_000 };
            ProcessState {
                ready,
                activity,
                mini_batch,
                done,
                since_us,
                ..ProcessState::started(node, ProcessNumber(number), 500 + number, device, then)
            }
        };
        Snapshot {
            now_us: THEN + 30_000_000,
            state: JobState::Running,
            cause: None,
            blocked: None,
            totals: Totals {
                committed_len: 1_300_000,
                items: 551,
                items_succeeded: 237,
                items_failed: 3,
                mini_batches: 276,
                mini_batches_succeeded: 119,
                mini_batches_failed: 1,
                mini_batches_short: 1,
                attempts: 123,
                attempts_failed: 4,
                run_us: 100_000_000,
                returned: 237,
                ..Totals::default()
            },
            scheduled: 276,
            nodes: vec![NodeLine {
                node: NodeId("0".into()),
                host: "gpu-01".into(),
                worker: None,
                processes: 2,
                state: "working",
            }],
            nodes_wanted: 0,
            window: 156,
            processes: vec![process(0, true), process(1, false)],
            errors: vec![bad_pixel()],
            items_lost: BTreeMap::from([(1, 3)]),
            distinct_errors: 1,
            failures_stand: true,
            out_of_tries: true,
            first_handover_us: Some(THEN),
            first_ready_us: None,
            last_commit_us: Some(THEN + 30_000_000),
            splitting: None,
            work: Work::default(),
            stopping_us: None,
        }
    }

    pub(crate) fn bad_pixel() -> ErrorGroup {
        ErrorGroup {
            id: 1,
            kind: ErrorKind::Exception,
            message: "ValueError: bad pixel".into(),
            traceback: "Traceback (most recent call last):\n  File \"score.py\", line 9, in run\n    raise ValueError(\"bad pixel\")\nValueError: bad pixel\n".into(),
            count: 4,
        }
    }
}
