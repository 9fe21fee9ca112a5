//! What the running job tells the outside: the driver says what happened; this keeps the picture of nodes and processes,
//! makes snapshots of it and the ledger, and hands them to the reports. No report ever stops work.

mod nodes;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfold_shared::clock;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::items::ItemReader;
use fanfold_shared::job::{JobSpec, LoggingLevel};
use fanfold_shared::message::AttemptError;
use fanfold_shared::report::{ExitCode, IoError};
use fanfold_shared::split::Split;
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, harmless};
use fanfold_shared::uri::Uri;
use fanfold_worker::logs::{FILE_CAP, Level, LogFile};
use fanfold_worker::node::NodePlan;

use super::link::OnState;
use super::nodes::Nodes;
use super::window::Window;
use crate::aggregate::{Aggregate, Committed, Recovered, output_len};
use crate::ledger::{ErrorGroup, FailureFilter, JobStatus, LedgerError, LedgerReader, Totals};
use crate::report::{
    JobFacts, MasterRole, NodeLine, ProcessState, Reporter, Snapshot, Status, StatusScript, WorkBooks, exit_code,
    job_result_tells, write_job_report,
};
use crate::terminal;

/// Between two reports of how far the job is.
const EVERY: Duration = Duration::from_secs(1);
/// Distinct errors that the status names.
const ERRORS_NAMED: usize = 100;

/// See the module documentation.
pub struct Observer {
    facts: JobFacts,
    items: Arc<ItemReader>,
    master: MasterRole,
    driver: LogFile,
    reports: Reporter,
    processes: BTreeMap<(NodeId, ProcessNumber), ProcessState>,
    nodes: Vec<NodeLine>,
    nodes_wanted: u32,
    window: u64,
    /// Who else wants to know, and whether the terminal is left alone.
    audience: Audience,
    state: JobState,
    cause: Option<String>,
    named: Vec<ErrorGroup>,
    distinct: u64,
    /// Failures came since the errors were named.
    failures_came: bool,
    last_init_error: Option<AttemptError>,
    reported: Option<Instant>,
    first_handover_us: Option<u64>,
    first_ready_us: Option<u64>,
    last_commit_us: Option<u64>,
    /// How much of the data is split, while that goes on.
    splitting: Option<f64>,
    work: WorkBooks,
    /// Processes that are known only because their node said what they do: an earlier coordinator heard them start.
    adopted: BTreeSet<(NodeId, ProcessNumber)>,
    stopping_us: Option<u64>,
}

/// Who is told of a job besides its files.
#[derive(Clone, Default)]
pub struct Audience {
    /// Hears of its states.
    pub on_state: Option<OnState>,
    /// Nobody sits at a terminal.
    pub quiet: bool,
}

impl Audience {
    /// Writes a line to the terminal, if somebody is there.
    pub fn tell(&self, text: &str) {
        if !self.quiet {
            terminal::tell(text);
        }
    }

    /// The job is in another state.
    pub fn state(&self, state: JobState, cause: Option<&str>) {
        if let Some(on_state) = &self.on_state {
            on_state(state, cause);
        }
    }
}

impl Observer {
    /// Begins to report; the logs of a job that is continued are continued.
    pub fn new(facts: JobFacts, items: ItemReader, level: LoggingLevel, audience: Audience) -> Observer {
        let logs = facts.dir.logs();
        let items = Arc::new(items);
        let named = items.clone();
        let names = Box::new(move |range| item_names(&named, range));
        Observer {
            master: MasterRole::new(&logs, level),
            driver: LogFile::new(facts.dir.driver_log(), FILE_CAP),
            reports: Reporter::new(facts.clone(), names, terminal::open(&facts, audience.quiet)),
            processes: BTreeMap::new(),
            nodes: Vec::new(),
            nodes_wanted: 0,
            window: 0,
            audience,
            state: JobState::Preparing,
            cause: None,
            named: Vec::new(),
            distinct: 0,
            failures_came: true,
            last_init_error: None,
            reported: None,
            first_handover_us: None,
            first_ready_us: None,
            last_commit_us: None,
            splitting: (!items.split().is_complete()).then_some(0.0),
            work: WorkBooks::default(),
            adopted: BTreeSet::new(),
            stopping_us: None,
            facts,
            items,
        }
    }

    /// The items of the job.
    pub fn items(&self) -> &ItemReader {
        &self.items
    }

    /// What does not change.
    pub fn facts(&self) -> &JobFacts {
        &self.facts
    }

    /// Notes something in the coordinator's log.
    pub fn log(&self, level: Level, text: &str) {
        self.master.log(level, text);
    }

    /// The job is in another state.
    pub fn state(&mut self, state: JobState, cause: Option<&str>) {
        self.state = state;
        self.cause = cause.map(str::to_string);
        self.reported = None;
        let because = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        self.master.milestone(&format!("The job is {state}{because}"));
        self.audience.state(state, cause);
    }

    /// The user interrupted the job: with a signal, or with `fanfold pause`.
    pub fn interrupted(&mut self, by_signal: bool) {
        self.stopping_us = Some(clock::wall_us());
        self.reported = None;
        let text = match by_signal {
            true => "interrupted: finishing what runs; once more to kill it (nothing committed is lost either way)",
            false => "told to pause: finishing what runs (Ctrl-C kills it; nothing committed is lost either way)",
        };
        self.note(Level::Info, text);
    }

    /// Everything was published at least once.
    pub fn scheduling_finished(&mut self, took: Duration) {
        let split = self.items.split();
        let (mini_batches, items, seconds) = (split.mini_batches(), split.items(), took.as_secs());
        let text = format!(
            "Scheduling finished. Scheduled {mini_batches} mini batches in {seconds} seconds. There are {mini_batches} tasks \
             with {items} items."
        );
        self.master.log(Level::Info, &text);
    }

    /// More of the data is split: so much of it, 0 to 1; None: all.
    pub fn split(&mut self, part: Option<f64>) {
        if part.is_none() {
            let split = self.items.split();
            let text = format!("All data is split: {} items in {} mini-batches", split.items(), split.mini_batches());
            self.master.log(Level::Info, &text);
        }
        self.splitting = part;
    }

    /// A group was committed.
    pub fn committed(&mut self, aggregate: &Aggregate, committed: &Committed) {
        if !committed.settled.is_empty() {
            self.last_commit_us = Some(clock::wall_us());
        }
        for text in &committed.rejected {
            self.master.log(Level::Error, text);
        }
        if committed.failures.is_empty() {
            return;
        }
        self.failures_came = true;
        if !self.refresh_errors(aggregate.ledger()) {
            self.reports.failures(&committed.failures);
        }
    }

    /// Writes `errors.jsonl` anew from the ledger if it is not known to be complete. True: that was done.
    fn refresh_errors(&mut self, ledger: &LedgerReader) -> bool {
        if !self.reports.errors_are_stale() {
            return false;
        }
        let settled = FailureFilter { settled: true, ..FailureFilter::default() };
        let written = self.reports.rewrite_errors(|push| ledger.for_each_failure(&settled, |row| push(&row)));
        if let Err(ReportError(error)) = written {
            self.master.log(Level::Error, &format!("errors.jsonl could not be written: {error}"));
        }
        true
    }

    fn tell(&mut self, text: &str) {
        self.reports.note(clock::wall_us(), text);
    }

    /// To be called often; reports about once a second, and at once when the state changed.
    pub fn tick(&mut self, aggregate: &Aggregate, window: &Window, nodes: &dyn Nodes, blocked: Option<&str>) {
        if self.reported.is_none_or(|reported| reported.elapsed() >= EVERY) {
            (self.nodes, self.nodes_wanted, self.window) = (nodes.lines(), nodes.wanted(), window.outstanding());
            if let Some((node, doing)) = nodes.doing() {
                self.doing(&node, &doing);
            }
            self.work.look(clock::wall_us(), self.processes.values().filter(|process| process.ready).count() as u64);
            self.report(aggregate, window.published_to(), blocked);
        }
    }

    fn report(&mut self, aggregate: &Aggregate, scheduled: u64, blocked: Option<&str>) {
        self.reported = Some(Instant::now());
        self.refresh_errors(aggregate.ledger());
        let snapshot = self.snapshot(aggregate.ledger(), aggregate.totals(), scheduled, blocked);
        self.reports.observe(&snapshot);
    }

    fn snapshot(&mut self, ledger: &LedgerReader, totals: &Totals, scheduled: u64, blocked: Option<&str>) -> Snapshot {
        if std::mem::take(&mut self.failures_came) {
            // What can't be read now is read at the next failure; the reports that matter read it again at the end.
            if let Ok((named, distinct)) = ledger.first_errors(ERRORS_NAMED) {
                (self.named, self.distinct) = (named, distinct);
            }
        }
        let mut totals = totals.clone();
        if self.state == JobState::Completed
            && let Ok(written) = output_len(ledger, &totals)
        {
            // From here on that is what the output is.
            totals.committed_len = written;
        }
        Snapshot {
            now_us: clock::wall_us(),
            state: self.state,
            cause: self.cause.clone(),
            blocked: blocked.map(str::to_string),
            failures_stand: totals.items_failed > 0,
            out_of_tries: totals.mini_batches_failed > 0,
            totals,
            scheduled,
            nodes: self.nodes.clone(),
            nodes_wanted: self.nodes_wanted,
            window: self.window,
            processes: self.processes.values().cloned().collect(),
            errors: self.named.clone(),
            items_lost: self.reports.items_lost(&self.named),
            distinct_errors: self.distinct,
            first_handover_us: self.first_handover_us,
            first_ready_us: self.first_ready_us,
            last_commit_us: self.last_commit_us,
            splitting: self.splitting,
            work: self.work.recent(),
            stopping_us: self.stopping_us.filter(|_| self.state == JobState::Running),
        }
    }

    /// Writes the reports of `logs/sys/job_report` from the ledger. What is missing of them makes no result wrong.
    pub fn job_report(&self, aggregate: &Aggregate) {
        if let Err(error) = write_job_report(aggregate.ledger(), &self.facts.dir.logs()) {
            self.master.log(Level::Error, &format!("the job report could not be written: {error}"));
        }
    }

    /// The last reports of this run: everything that says how it ended. `traceback` belongs to the cause; the terminal has shown
    /// it when it came.
    pub fn finish(&mut self, aggregate: &Aggregate, exit: ExitCode, traceback: &str) {
        self.close(aggregate.ledger(), aggregate.totals(), clock::wall_us(), exit, traceback);
    }

    fn close(&mut self, ledger: &LedgerReader, totals: &Totals, now_us: u64, exit: ExitCode, traceback: &str) {
        self.failures_came = true;
        self.refresh_errors(ledger);
        (self.nodes, self.nodes_wanted, self.window) = (Vec::new(), 0, 0);
        let mut snapshot = self.snapshot(ledger, totals, totals.mini_batches_settled(), None);
        snapshot.now_us = now_us;
        // A process that could not start costs no item. If the ledger can't be read, it is said where that matters.
        snapshot.failures_stand |= ledger.failures_stand().unwrap_or(false);
        snapshot.out_of_tries |= ledger.anything_out_of_tries().unwrap_or(false);
        let summary = self.reports.finish(&snapshot, exit);
        self.audience.tell(summary.trim_end());
        let mut text = String::new();
        if !traceback.is_empty() {
            text = format!("\n{}\n", harmless(traceback.trim_end()));
        }
        text.push_str(&summary);
        self.driver.line(|out| out.extend_from_slice(text.as_bytes()));
        self.driver.flush();
    }

    /// Something was said while the job was prepared.
    pub fn note(&mut self, level: Level, text: &str) {
        self.master.log(level, text);
        self.driver(text);
        self.tell(text);
    }

    /// A line of the process that started the job: `azureml-logs/70_driver_log.txt`.
    fn driver(&mut self, text: &str) {
        let stamp = clock::iso(clock::wall_us());
        self.driver.line(|out| out.extend_from_slice(format!("[{stamp}] {}", harmless(text)).as_bytes()));
        self.driver.flush();
    }

    /// The builder of the environment said something.
    pub fn building(&mut self, aggregate: &Aggregate, line: &str) {
        self.driver(line);
        self.tell(line);
        // Nobody ticks meanwhile.
        let first = self.cause.replace(format!("its environment is being built: {line}")).is_none();
        if first || self.reported.is_none_or(|reported| reported.elapsed() >= EVERY) {
            self.show(aggregate);
        }
    }

    /// The job is taken up.
    pub fn begin(&mut self, split: &Split, aggregate: &Aggregate, recovered: &Recovered) {
        let version = env!("CARGO_PKG_VERSION");
        let text = format!(
            "fanfold {version} takes up job {} in {}: {} items in {} mini-batches, {} settled before",
            self.facts.id,
            self.facts.dir.root().display(),
            split.items(),
            split.mini_batches(),
            aggregate.totals().mini_batches_settled(),
        );
        self.master.milestone(&text);
        self.driver(&text);
        if let Some(script) = &self.facts.script {
            let text = format!(
                "Script: {}, {}",
                StatusScript::from(script).in_words(),
                &script.hash[..script.hash.len().min(12)]
            );
            self.master.log(Level::Info, &text);
            self.driver(&text);
        }
        if recovered.cut > 0 {
            let text = format!("{} bytes were written but never proven: cut off, they are run again", recovered.cut);
            self.master.log(Level::Warning, &text);
        }
        if let Some(kind) = recovered.output_file_system {
            self.note(Level::Warning, &format!("the output lies on {kind}: its syncs are as good as that server's"));
        }
    }

    /// The node is about to start.
    pub fn starting(&mut self, plan: &NodePlan) {
        self.cause = None;
        let text = format!("Preparing to call script [{}] with arguments:{:?}", plan.entry_script, plan.argv);
        self.driver(&text);
        self.scheduling(&format!("{} processes", plan.processes));
    }

    /// Workers of a fleet are asked to be nodes.
    pub fn asking(&mut self, spec: &JobSpec) {
        let count = spec.node_count.map_or("every worker that comes".into(), |count| counted(count.into(), "node"));
        let text = format!("Asking pool {} for {count} to call script [{}]", spec.compute_target, spec.entry_script);
        self.driver(&text);
        self.scheduling(&count);
    }

    fn scheduling(&self, on: &str) {
        let inputs: Vec<&str> = self.items.split().inputs.iter().map(|input| input.name.as_str()).collect();
        self.master.log(Level::Info, "Start scheduling.");
        self.master.log(Level::Info, &format!("Inputs {inputs:?}; {on}"));
    }

    /// The first mini-batches are handed out.
    pub fn handed_out(&mut self) {
        self.first_handover_us.get_or_insert_with(clock::wall_us);
    }

    /// The disk is full while nothing else goes on.
    pub fn blocked(&mut self, aggregate: &Aggregate, path: &Path, why: &str) {
        let text = format!("disk full: cannot write `{}` ({why})", path.display());
        self.report(aggregate, aggregate.totals().mini_batches_settled(), Some(&text));
    }

    /// Nothing can begin, and nobody ticks meanwhile.
    pub fn waits(&mut self, aggregate: &Aggregate, why: &str) {
        if self.reported.is_none_or(|reported| reported.elapsed() >= EVERY) {
            self.report(aggregate, aggregate.totals().mini_batches_settled(), Some(why));
        }
    }

    /// The output is being uploaded; `words` say how far, and `blocked` why it goes no further.
    pub fn uploads(&mut self, aggregate: &Aggregate, words: &str, blocked: Option<&str>) {
        if self.reported.is_none_or(|reported| reported.elapsed() >= EVERY) {
            self.cause = Some(words.to_string());
            self.report(aggregate, aggregate.totals().mini_batches_settled(), blocked);
        }
    }

    /// Shows where the job stands before something that may take minutes, and during which nobody ticks.
    pub fn show(&mut self, aggregate: &Aggregate) {
        self.report(aggregate, aggregate.totals().mini_batches_settled(), None);
    }
}

/// Writes the last reports of a job that is in its final state, if the program that brought it there died before it had. The
/// ledger was first, as always; until then whoever reads the reports takes the job for running.
///
/// # Errors
/// The ledger or the item list can't be read.
pub fn close_late(
    facts: &JobFacts,
    ledger: &LedgerReader,
    status: &JobStatus,
    level: LoggingLevel,
    audience: Audience,
) -> fanfold_shared::report::Result<()> {
    let told = Status::read(&facts.dir.status_json()).is_ok_and(|told| told.state == status.state)
        && job_result_tells(&facts.dir.logs(), status.state);
    if told {
        return Ok(());
    }
    let mut observer = Observer::new(facts.clone(), ItemReader::open(&facts.dir.items())?, level, audience);
    observer.state(status.state, status.cause.as_deref());
    let totals = ledger.totals()?;
    let exit = exit_code(status.state, &totals, facts.thresholds_set, None);
    observer.close(ledger, &totals, status.ended_us.unwrap_or(status.since_us), exit, "");
    Ok(())
}

/// Tells that a job is Completed already, and how it ended.
///
/// # Errors
/// Its ledger can't be read.
pub fn already_completed(
    facts: &JobFacts,
    ledger: &LedgerReader,
    audience: &Audience,
) -> fanfold_shared::report::Result<ExitCode> {
    let totals = ledger.totals()?;
    let exit = exit_code(JobState::Completed, &totals, facts.thresholds_set, None);
    audience.tell(&format!("{} is Completed already: nothing was run", facts.id));
    if let Some(file) = &facts.output_file {
        let output = facts.output_uri.as_ref().map_or(file.display().to_string(), Uri::to_string);
        audience.tell(&format!("  output        {output}"));
    }
    if exit == ExitCode::ItemsFailed {
        let failed = counted(totals.items_failed, "item");
        audience.tell(&format!("  failed        {failed}; see `fanfold errors {}`", facts.id));
    }
    Ok(exit)
}

/// A report that could not be made, as text: it stops nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReportError(String);

impl From<LedgerError> for ReportError {
    fn from(error: LedgerError) -> Self {
        ReportError(error.to_string())
    }
}

impl From<IoError> for ReportError {
    fn from(error: IoError) -> Self {
        ReportError(format!("{error}: {}", error.source))
    }
}

/// The paths of items, as bytes; of rows with their number in the file, counted from 1 without the header.
pub(crate) fn item_names(items: &ItemReader, range: Range<u64>) -> Vec<Vec<u8>> {
    // A list that can't be read is named where it stops the job; an error line without names still tells the rest.
    let mut names = Vec::new();
    let split = items.split();
    if !items.has_rows() {
        return items.called(range).unwrap_or_default();
    }
    for row in range {
        let mini_batch = split.mini_batch_of(row);
        let Ok(Some(slice)) = items.slice(mini_batch) else { return names };
        if slice.is_group() {
            let Ok(origin) = items.origin(row) else { return names };
            let Some(mut name) = called(items, origin.entry.into()) else {
                return names;
            };
            name.extend_from_slice(format!(", row {}", origin.row + 1).as_bytes());
            names.push(name);
            continue;
        }
        let Some(mut name) = called(items, slice.entries().start) else { return names };
        let number = slice.first_row + (row - split.mini_batch(mini_batch).1.start) + 1;
        match slice.files {
            1 => name.extend_from_slice(format!(", row {number}").as_bytes()),
            files => name.extend_from_slice(format!(" and {} files more, row {number} of all", files - 1).as_bytes()),
        }
        names.push(name);
    }
    names
}

fn called(items: &ItemReader, entry: u64) -> Option<Vec<u8>> {
    items.called(entry..entry + 1).ok()?.pop()
}
