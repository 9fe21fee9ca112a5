//! Drives the reports of one run of a coordinator.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use fanfold_shared::report::{ExitCode, IoError};
use fanfold_shared::state::JobState;

use super::{
    ErrorSummary, ErrorsJsonl, Example, JobFacts, Overview, Pace, Pacer, Snapshot, Status, StatusFile,
    write_job_result, write_readme, write_user_errors,
};
use crate::ledger::{ErrorGroup, FailureRow};
use crate::terminal::{Progress, summary};

/// Between two versions of `status.json`, either way: a clock that was set back must not hold the file up …
const STATUS_US: u64 = 1_000_000;
/// … and of `user/error.txt`.
const USER_ERRORS_US: u64 = 10_000_000;
/// Distinct errors whose first instance is remembered as an example.
const EXAMPLES: usize = 200;

/// Gives the names of items by their ordinals; never asked for more than ten at once.
pub type ItemNames = Box<dyn Fn(Range<u64>) -> Vec<Vec<u8>> + Send>;

/// Takes snapshots and failures, and keeps `status.json`, `errors.jsonl`, the overview, `user/error.txt` and the terminal up to
/// date. Nothing that it does while the job runs can fail.
pub struct Reporter {
    facts: JobFacts,
    names: ItemNames,
    progress: Box<dyn Progress>,
    pacer: Pacer,
    status: StatusFile,
    overview: Overview,
    errors: ErrorsJsonl,
    examples: HashMap<i64, Example>,
    /// Items that failed for good, by the distinct error that they failed with.
    items_lost: HashMap<i64, u64>,
    state: Option<JobState>,
    status_us: u64,
    user_errors_us: u64,
    /// Instances of errors that `user/error.txt` counts.
    user_errors: u64,
}

impl Reporter {
    /// Begins the reports of a run: writes `readme.txt`.
    pub fn new(facts: JobFacts, names: ItemNames, progress: Box<dyn Progress>) -> Reporter {
        let logs = facts.dir.logs();
        write_readme(&logs);
        Reporter {
            names,
            progress,
            pacer: Pacer::default(),
            status: StatusFile::new(facts.dir.status_json()),
            overview: Overview::new(logs),
            errors: ErrorsJsonl::new(facts.dir.errors_jsonl()),
            examples: HashMap::new(),
            items_lost: HashMap::new(),
            state: None,
            status_us: 0,
            user_errors_us: 0,
            user_errors: 0,
            facts,
        }
    }

    /// Whether `errors.jsonl` has to be written anew: at the start, and after the disk was full.
    pub fn errors_are_stale(&self) -> bool {
        self.errors.is_stale()
    }

    /// Writes `errors.jsonl` anew; see [`ErrorsJsonl::rewrite`].
    pub fn rewrite_errors<E: From<IoError>>(
        &mut self,
        feed: impl FnOnce(&mut dyn FnMut(&FailureRow) -> Result<(), E>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Reporter { errors, examples, items_lost, names, .. } = self;
        // Whatever was counted before comes again.
        items_lost.clear();
        errors.rewrite(&**names, |push| {
            feed(&mut |row| {
                remember(examples, row, names);
                count_lost(items_lost, row);
                push(row)
            })
        })
    }

    /// Failures that were just committed, in their order; those that are tried again included.
    pub fn failures(&mut self, rows: &[FailureRow]) {
        self.errors.append(rows, &*self.names);
        for row in rows {
            remember(&mut self.examples, row, &self.names);
            count_lost(&mut self.items_lost, row);
            self.progress.failure(row);
        }
    }

    /// Items that failed for good with each of these errors, by its id.
    pub fn items_lost(&self, errors: &[ErrorGroup]) -> BTreeMap<i64, u64> {
        errors.iter().filter_map(|error| Some((error.id, *self.items_lost.get(&error.id)?))).collect()
    }

    /// Something to tell besides the figures: a node that joined, a warning.
    pub fn note(&mut self, now_us: u64, text: &str) {
        self.overview.line(now_us, text);
        self.progress.note(text);
    }

    /// A line of the overview only.
    pub fn overview(&mut self, now_us: u64, text: &str) {
        self.overview.line(now_us, text);
    }

    /// Takes a look. To be called about once a second, and at every change of state.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        let pace = self.pacer.observe(snapshot);
        let now = snapshot.now_us;
        let changed = self.state != Some(snapshot.state);
        self.state = Some(snapshot.state);
        if changed || now.abs_diff(self.status_us) >= STATUS_US {
            self.status_us = now;
            self.status.write(&Status::new(&self.facts, snapshot, &pace));
        }
        if now.abs_diff(self.user_errors_us) >= USER_ERRORS_US {
            self.user_errors_us = now;
            self.write_user_errors(snapshot);
        }
        self.overview.observe(&self.facts, snapshot, &pace);
        self.progress.observe(snapshot, &pace);
    }

    /// The job is over, or was stopped: writes the last of everything and returns the closing summary for the terminal. What
    /// can't be written is named in its last line.
    pub fn finish(&mut self, snapshot: &Snapshot, exit: ExitCode) -> String {
        self.observe(snapshot);
        self.user_errors = u64::MAX;
        self.write_user_errors(snapshot);
        self.overview.finish(&self.facts, snapshot);
        self.progress.finish(snapshot);
        self.status.write(&Status::new(&self.facts, snapshot, &Pace::overall(&self.facts, snapshot)));
        let mut text = summary(&self.facts, snapshot, exit);
        if let Err(error) = write_job_result(&self.facts, snapshot, exit) {
            text += &format!("  warning: cannot write `{}`: {error}\n", self.facts.dir.logs().job_result().display());
        }
        text
    }

    fn write_user_errors(&mut self, snapshot: &Snapshot) {
        let instances = snapshot.errors.iter().map(|error| error.count).sum();
        if instances == self.user_errors {
            return;
        }
        let summary = |group: &ErrorGroup| ErrorSummary {
            items_lost: self.items_lost.get(&group.id).copied().unwrap_or_default(),
            ..ErrorSummary::new(group.clone(), self.examples.get(&group.id).cloned())
        };
        let mut errors: Vec<ErrorSummary> = snapshot.errors.iter().map(summary).collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        let path = self.facts.dir.logs().user_errors();
        // Refused: the next look tries again.
        if write_user_errors(&path, &errors, snapshot.distinct_errors).is_ok() {
            self.user_errors = instances;
        }
    }
}

fn count_lost(items_lost: &mut HashMap<i64, u64>, row: &FailureRow) {
    if row.settled && row.failed_items > 0 {
        *items_lost.entry(row.group).or_default() += row.failed_items;
    }
}

fn remember(examples: &mut HashMap<i64, Example>, row: &FailureRow, names: &ItemNames) {
    if examples.len() < EXAMPLES && !examples.contains_key(&row.group) {
        examples.insert(row.group, Example::new(row, &**names));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::user_errors::tests::failure;
    use super::*;
    use crate::report::fixtures::*;
    use crate::terminal::Lines;

    fn reporter(dir: &std::path::Path) -> Reporter {
        let facts = facts(dir);
        let names = Box::new(|items: Range<u64>| items.map(|i| format!("img/{i}.png").into_bytes()).collect());
        let progress = Box::new(Lines::new(&facts, std::io::sink()));
        Reporter::new(facts, names, progress)
    }

    #[test]
    fn a_run_leaves_all_its_reports() {
        let root = tempfile::tempdir().unwrap();
        let mut reporter = reporter(root.path());
        assert!(reporter.errors_are_stale());
        reporter.rewrite_errors::<IoError>(|push| push(&failure(1, 16))).unwrap();
        reporter.failures(&[failure(2, 17)]);
        let mut snapshot = running();
        reporter.observe(&snapshot);
        let status = || Status::read(&root.path().join("status.json")).unwrap();
        assert_eq!(status().state, JobState::Running);
        // Within a second nothing but a new state is worth a new file.
        snapshot.now_us += 1000;
        reporter.observe(&snapshot);
        assert_eq!(status().updated, running().now_us);
        reporter.note(snapshot.now_us, "node 1 joined");
        (snapshot.state, snapshot.cause) = (JobState::Failed, Some("3 items failed, error_threshold is 2".into()));
        let summary = reporter.finish(&snapshot, ExitCode::Failed);

        assert!(summary.contains("score-1a2b3c4d Failed after 30 s"), "{summary}");
        assert_eq!(
            (status().mini_batches_per_second, status().items_per_second),
            (4.0, 8.0),
            "not 0 because it is over"
        );
        assert_eq!((status().state, status().ended), (JobState::Failed, Some(snapshot.now_us)));
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("errors.jsonl").lines().count(), 2);
        assert!(read("logs/user/error.txt").contains("example: mini-batch 16 (img/64.png, "));
        assert!(read("logs/job_result.txt").starts_with("State: Failed (exit code 1)\n"));
        assert!(read("logs/job_progress_overview.txt").contains("node 1 joined\n"));
        assert!(read("logs/job_progress_overview.txt").contains("The job is Failed: 3 items failed"));
        assert!(read("logs/readme.txt").contains("Start here"));
    }

    #[test]
    fn a_job_directory_that_cannot_be_written_is_named_at_the_end_and_stops_nobody() {
        let mut reporter = reporter(std::path::Path::new("/proc/job"));
        reporter.failures(&[failure(1, 16)]);
        reporter.observe(&running());
        let summary = reporter.finish(&running(), ExitCode::Interrupted);
        assert!(summary.contains("warning: cannot write `/proc/job/logs/job_result.txt`: "), "{summary}");
    }
}
