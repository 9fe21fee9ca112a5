//! A job to test with, and what it must look like.

#![expect(clippy::single_range_in_vec_init, reason = "a list of one settled interval is meant")]

mod bisect;
mod commits;
mod crashes;
mod faults;
mod model;
mod ordered;
mod ordered_tables;
mod reading;
mod refusals;
mod retries;
mod tables;
mod verification;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{AttemptError, ErrorKind, Outcome, OutcomeEnd, Results};
use fanfold_shared::split::{Split, SplitInput};
use fanfold_shared::state::JobState;
use tempfile::TempDir;

use super::{Aggregate, AggregateConfig, Committed, OpenError, Part, Recovered, verify};
use crate::ledger::JobLock;

/// Tries of a mini-batch in every test.
const TRIES: u32 = 3;

/// A job of two inputs.
struct TestJob {
    dir: JobDir,
    output: Option<PathBuf>,
    split: Split,
    table: bool,
    header: bool,
    bisect: bool,
    ordered: bool,
    fingerprint: String,
    _temp: TempDir,
}

impl TestJob {
    /// 23 and 17 items, 5 to a mini-batch: ids 0 to 8, of which 4 has 3 items and 8 has 2.
    fn new() -> TestJob {
        let temp = temp_dir();
        let dir = JobDir::new(temp.path().join("job"));
        let output = Some(dir.default_output().join("out.txt"));
        let input = |name: &str, items| SplitInput::of_items(name, "", items);
        let split = Split { inputs: vec![input("a", 0..23), input("b", 23..40)], ..Split::even(5) };
        TestJob {
            dir,
            output,
            split,
            table: false,
            header: false,
            bisect: false,
            ordered: false,
            fingerprint: "f1".into(),
            _temp: temp,
        }
    }

    fn config(&self) -> AggregateConfig {
        AggregateConfig {
            job: self.dir.clone(),
            lock: JobLock::acquire(&self.dir).unwrap(),
            job_id: JobId("test-00000001".into()),
            fingerprint: self.fingerprint.clone(),
            split: self.split.clone(),
            output: self.output.clone(),
            table: self.table,
            ordered: self.ordered,
            header: self.header,
            tries: crate::aggregate::Tries { most: TRIES, bisect: self.bisect },
        }
    }

    fn try_open(&self) -> Result<(Aggregate, Recovered), OpenError> {
        Aggregate::open(self.config())
    }

    fn open(&self) -> Aggregate {
        self.try_open().unwrap().0
    }

    fn target(&self) -> &Path {
        self.output.as_deref().unwrap()
    }

    fn partial(&self) -> PathBuf {
        PathBuf::from(format!("{}.partial", self.target().display()))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.partial()).unwrap()
    }

    fn items(&self, mini_batch: u64) -> Range<u64> {
        self.split.mini_batch(mini_batch).1
    }

    /// `mini_batch` returned one row for each item.
    fn returned(&self, mini_batch: u64, attempt: u32) -> (Outcome, String) {
        let rows: String = self.items(mini_batch).map(|item| format!("row {item}\n")).collect();
        let items = self.items(mini_batch);
        (self.outcome(mini_batch, attempt, end(items.end - items.start, rows.len())), rows)
    }

    /// An attempt of `mini_batch` raised.
    fn failed(&self, mini_batch: u64, attempt: u32) -> (Outcome, String) {
        (self.outcome(mini_batch, attempt, OutcomeEnd::Failed(Box::new(error()))), String::new())
    }

    fn outcome(&self, mini_batch: u64, attempt: u32, end: OutcomeEnd) -> Outcome {
        Outcome {
            mini_batch,
            items: self.items(mini_batch),
            attempt,
            started_us: 1_790_000_000_000_000 + mini_batch,
            elapsed_us: 30,
            run_us: 20,
            cpu_us: 10,
            end,
        }
    }

    /// Ledger and file agree in every respect.
    fn assert_sound(&self) {
        let report = verify(&self.dir).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
}

/// `job`, which is Completed, was to be given another try and died before that was recorded, with `left` in its unfinished file: it is as
/// Completed as before. Retried again, it is returned.
fn retried_after_a_death(job: &TestJob, left: &str) -> Aggregate {
    let mut aggregate = job.open();
    aggregate.ledger.set_meta(&[("replaces", &1)]).unwrap();
    drop(aggregate);
    fs::write(job.partial(), left).unwrap();
    job.assert_sound();
    let mut aggregate = job.open();
    assert_eq!(aggregate.state(), JobState::Completed);
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    aggregate
}

/// On a memory disk where there is one: the tests sync thousands of times.
fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn end(returned: u64, rows_len: usize) -> OutcomeEnd {
    OutcomeEnd::Returned { returned, rows_len: rows_len as u64, spooled: None, unreadable: Vec::new() }
}

fn error() -> AttemptError {
    AttemptError {
        kind: ErrorKind::Exception,
        message: "ValueError: bad pixel".into(),
        traceback: "Traceback (most recent call last):\n  File \"score.py\", line 3, in run\nValueError: bad pixel\n"
            .into(),
        stderr: "last words\n".into(),
        of_all: false,
    }
}

fn results(outcomes: impl IntoIterator<Item = (Outcome, String)>) -> Results {
    let (outcomes, rows): (Vec<Outcome>, Vec<String>) = outcomes.into_iter().unzip();
    Results { process: ProcessNumber(0), outcomes, rows: rows.concat().into_bytes(), header: None }
}

/// Commits the results of one message from node `0`.
fn commit(aggregate: &mut Aggregate, results: &Results) -> Committed {
    aggregate.commit(&[Part::Results { node: &NodeId("0".into()), results }]).unwrap()
}

/// Settles everything that is not settled yet, and ends the job.
fn complete(job: &TestJob, aggregate: &mut Aggregate) {
    let all = results((0..job.split.mini_batches()).map(|id| job.returned(id, 1)));
    commit(aggregate, &all);
    aggregate.finish().unwrap();
}
