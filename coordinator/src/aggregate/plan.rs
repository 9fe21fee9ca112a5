//! Decides what a group of messages settles. Writes nothing, and can be made again: the same messages on the same state give
//! the same plan.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::{AttemptError, ErrorKind, ItemError, NodeEvent, Outcome, OutcomeEnd, Results};
use fanfold_shared::split::Split;
use fanfold_shared::text::counted;

use super::output::Piece;
use super::table::{Columns, Refusal, Staged};
use super::{Aggregate, Output, Part, Retry, message};
use crate::ledger::packed::{Packer, Record};
use crate::ledger::{Fate, Ledger, NewFailure, ProcessChange, Totals, now_us};

/// What a commit will do.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The bytes to append, in their order.
    pub pieces: Vec<Piece<'a>>,
    /// Their number.
    pub length: u64,
    /// How many of them, at the start, are the header line.
    pub header_len: u64,
    pub packer: Packer,
    /// The items that settle.
    pub staged: IntervalSet,
    /// As they will be.
    pub totals: Totals,
    pub failures: Vec<NewFailure<'a>>,
    pub processes: Vec<ProcessChange<'a>>,
    /// Mini-batches whose last failed attempt changes; None: settled, so nobody asks any more.
    pub spent: HashMap<u64, Option<u32>>,
    pub suspected: Vec<u64>,
    pub cleared: Vec<u64>,
    pub again: Vec<Retry>,
    pub rejected: Vec<String>,
    /// Files to remove once this is recorded.
    pub spooled: Vec<PathBuf>,
    /// What becomes of the columns of a table.
    pub columns: Staged,
    changed: bool,
}

/// Where a mini-batch was tried.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a NodeId,
    process: Option<ProcessNumber>,
}

/// When, and for how long; zeros where nobody knows.
#[derive(Clone, Copy, Default)]
struct Times {
    started_us: u64,
    elapsed_us: u64,
    run_us: u64,
    cpu_us: u64,
}

impl Times {
    fn of(outcome: &Outcome) -> Times {
        Times {
            started_us: outcome.started_us,
            elapsed_us: outcome.elapsed_us,
            run_us: outcome.run_us,
            cpu_us: outcome.cpu_us,
        }
    }
}

/// Why an attempt failed: what its process said, or what is concluded here.
struct Why<'a> {
    kind: ErrorKind,
    message: Cow<'a, str>,
    traceback: &'a str,
    stderr: &'a str,
}

impl<'a> Why<'a> {
    fn of(error: &'a AttemptError) -> Why<'a> {
        Why {
            kind: error.kind,
            message: error.message.as_str().into(),
            traceback: &error.traceback,
            stderr: &error.stderr,
        }
    }
}

impl<'a> Plan<'a> {
    /// Plans the commit of `group`. `lost` are spooled files that turned out to be unusable.
    pub fn make(aggregate: &mut Aggregate, group: &[Part<'a>], lost: &HashMap<PathBuf, String>) -> Plan<'a> {
        let plan = Plan {
            pieces: Vec::new(),
            length: 0,
            header_len: 0,
            packer: Packer::default(),
            staged: IntervalSet::new(),
            totals: aggregate.totals.clone(),
            failures: Vec::new(),
            processes: Vec::new(),
            spent: HashMap::new(),
            suspected: Vec::new(),
            cleared: Vec::new(),
            again: Vec::new(),
            rejected: Vec::new(),
            spooled: Vec::new(),
            columns: Staged::default(),
            changed: false,
        };
        let mut planner = Planner {
            plan,
            spool: aggregate.job.spool(),
            rows_wanted: !matches!(aggregate.output, Output::None),
            ledger: &mut aggregate.ledger,
            settled: &aggregate.settled,
            spent: &aggregate.spent,
            suspects: &aggregate.suspects,
            split: &aggregate.split,
            mini_batches: aggregate.mini_batches,
            header_wanted: aggregate.header,
            table: aggregate.table.as_ref(),
            run_max_try: aggregate.run_max_try,
            now_us: now_us(),
            lost,
        };
        for part in group {
            planner.part(*part);
        }
        let mut plan = planner.plan;
        // Another copy of a mini-batch that failed may have settled it later in the same group.
        let (staged, split) = (&plan.staged, &aggregate.split);
        plan.again.retain(|retry| !staged.meets(&split.mini_batch(retry.mini_batch).1));
        plan
    }

    /// Whether there is nothing to record.
    pub fn is_empty(&self) -> bool {
        !self.changed
    }
}

struct Planner<'p, 'a> {
    plan: Plan<'a>,
    spool: PathBuf,
    rows_wanted: bool,
    ledger: &'p mut Ledger,
    settled: &'p IntervalSet,
    spent: &'p HashMap<u64, u32>,
    suspects: &'p BTreeMap<u64, u32>,
    split: &'p Split,
    mini_batches: u64,
    header_wanted: bool,
    /// Of output that becomes a Parquet file, its columns so far.
    table: Option<&'p Columns>,
    run_max_try: u32,
    now_us: u64,
    lost: &'p HashMap<PathBuf, String>,
}

impl<'a> Planner<'_, 'a> {
    fn part(&mut self, part: Part<'a>) {
        match part {
            Part::Results { node, results } => self.results(node, results),
            Part::Event { node, event } => self.event(node, event),
            Part::Failed { node, process, mini_batch, attempt, error } => {
                if mini_batch >= self.mini_batches {
                    self.plan.rejected.push(format!("mini-batch {mini_batch} is beyond the split"));
                    return;
                }
                let items = self.split.mini_batch(mini_batch).1;
                if self.is_settled(&items) {
                    self.duplicate();
                    return;
                }
                self.failed(mini_batch, items, attempt, Place { node, process }, Times::default(), Why::of(error));
            }
            Part::Suspects { mini_batches } => {
                for &mini_batch in mini_batches {
                    if mini_batch < self.mini_batches && !self.is_settled(&self.split.mini_batch(mini_batch).1) {
                        self.plan.suspected.push(mini_batch);
                        self.plan.changed = true;
                    }
                }
            }
        }
    }

    fn results(&mut self, node: &'a NodeId, results: &'a Results) {
        let place = Place { node, process: Some(results.process) };
        if let Err(why) = message::announced_length(results) {
            self.plan.rejected.push(format!("{} of node {node}: {why}", results.process));
            for outcome in &results.outcomes {
                self.lose(outcome);
            }
            return;
        }
        let process = self.ledger.process(node, results.process) as u64;
        // Rows of neighbours that are taken leave as one piece: a message may hold thousands of tiny mini-batches.
        let (mut from, mut at) = (0, 0);
        let mut header = results.header.as_deref().filter(|_| self.header_wanted && self.rows_wanted);
        for outcome in &results.outcomes {
            let OutcomeEnd::Returned { returned, rows_len, spooled, unreadable } = &outcome.end else {
                let OutcomeEnd::Failed(error) = &outcome.end else { unreachable!("there are two ends") };
                if self.takes(outcome, &[], place) {
                    let items = outcome.items.clone();
                    self.failed(outcome.mini_batch, items, outcome.attempt, place, Times::of(outcome), Why::of(error));
                }
                continue;
            };
            let inline = if spooled.is_none() { *rows_len as usize } else { 0 };
            let file = spooled.as_deref().map(|path| message::spooled(&self.spool, path, *rows_len, self.lost));
            let usable = match &file {
                Some(Err(why)) if !self.is_settled(&outcome.items) => {
                    let why = format!("rows of mini-batch {} can't be used: {why}", outcome.mini_batch);
                    self.plan.rejected.push(why);
                    self.lose(outcome);
                    false
                }
                _ => self.takes(outcome, unreadable, place),
            };
            if let Some(Ok(path)) = &file {
                self.plan.spooled.push(path.clone());
            }
            let usable = usable && self.fits(outcome, *returned, &results.rows[at..at + inline], &file, place);
            if !usable {
                self.piece(&results.rows[from..at]);
                from = at + inline;
                at = from;
                continue;
            }
            if let Some(line) = header.take()
                && self.plan.totals.committed_len == 0
            {
                self.piece(line);
                self.plan.header_len = line.len() as u64;
                self.plan.length += line.len() as u64;
                self.plan.totals.committed_len += line.len() as u64;
            }
            let rows_len = if self.rows_wanted { *rows_len } else { 0 };
            let record = Record {
                mini_batch: outcome.mini_batch,
                attempt: outcome.attempt,
                process,
                started_us: outcome.started_us,
                elapsed_us: outcome.elapsed_us,
                run_us: outcome.run_us,
                cpu_us: outcome.cpu_us,
                returned: *returned,
                unreadable: unreadable.len() as u64,
                rows_len,
            };
            self.returned(record, outcome, unreadable, place);
            match file {
                Some(Ok(path)) if self.rows_wanted => {
                    self.piece(&results.rows[from..at]);
                    from = at;
                    self.plan.pieces.push(Piece::Spooled { path, len: rows_len });
                }
                _ => at += inline,
            }
        }
        self.piece(&results.rows[from..at]);
    }

    /// Whether the columns of what came are those of the output, if that has any. A mini-batch that has others failed: this is where it
    /// shows, as its process knows no others.
    fn fits(
        &mut self,
        outcome: &Outcome,
        returned: u64,
        rows: &[u8],
        file: &Option<Result<PathBuf, String>>,
        place: Place<'a>,
    ) -> bool {
        let Some(columns) = self.table else { return true };
        let staged = &mut self.plan.columns;
        let refusal = match (file, &outcome.end) {
            (Some(Ok(path)), OutcomeEnd::Returned { rows_len, .. }) => {
                staged.take_file(columns, path, *rows_len, returned)
            }
            _ => staged.take(columns, rows, returned),
        };
        match refusal {
            Ok(()) => true,
            Err(Refusal::Damaged(why)) => {
                let why = format!("rows of mini-batch {} can't be used: {why}", outcome.mini_batch);
                self.plan.rejected.push(why);
                self.lose(outcome);
                false
            }
            Err(Refusal::Misfit(message)) => {
                let why = Why { kind: ErrorKind::BadReturn, message: Cow::Owned(message), traceback: "", stderr: "" };
                let items = outcome.items.clone();
                self.failed(outcome.mini_batch, items, outcome.attempt, place, Times::of(outcome), why);
                false
            }
        }
    }

    fn piece(&mut self, bytes: &'a [u8]) {
        if self.rows_wanted && !bytes.is_empty() {
            self.plan.pieces.push(Piece::Bytes(bytes));
        }
    }

    fn is_settled(&self, items: &Range<u64>) -> bool {
        self.settled.meets(items) || self.plan.staged.meets(items)
    }

    /// Whether an outcome is news that makes sense.
    fn takes(&mut self, outcome: &Outcome, unreadable: &[ItemError], place: Place<'_>) -> bool {
        if self.is_settled(&outcome.items) {
            self.duplicate();
            return false;
        }
        let Err(why) = message::consistent(outcome, unreadable, self.split, self.mini_batches) else {
            return true;
        };
        let Place { node, process } = place;
        let process = process.map_or(String::new(), |process| format!("{process} of "));
        self.plan.rejected.push(format!("mini-batch {} from {process}node {node}: {why}", outcome.mini_batch));
        self.lose(outcome);
        false
    }

    fn duplicate(&mut self) {
        self.plan.totals.duplicates += 1;
        self.plan.changed = true;
    }

    /// The outcome can't be used: the same attempt must be made once more, at nobody's expense.
    fn lose(&mut self, outcome: &Outcome) {
        let id = outcome.mini_batch;
        if id < self.mini_batches && !self.is_settled(&self.split.mini_batch(id).1) {
            self.plan.again.push(Retry { mini_batch: id, attempt: self.last_failed(id) + 1 });
        }
    }

    fn last_failed(&self, mini_batch: u64) -> u32 {
        let staged = self.plan.spent.get(&mini_batch).copied().flatten();
        staged.or_else(|| self.spent.get(&mini_batch).copied()).unwrap_or_default()
    }

    fn settle(&mut self, mini_batch: u64, items: Range<u64>) {
        let whole = self.plan.staged.insert(items);
        debug_assert!(whole, "the caller asked whether it is settled");
        self.plan.changed = true;
        // Four look-ups that a job without failures never makes.
        let suspects = !self.suspects.is_empty() || !self.plan.suspected.is_empty();
        if suspects && (self.suspects.contains_key(&mini_batch) || self.plan.suspected.contains(&mini_batch)) {
            self.plan.cleared.push(mini_batch);
        }
        let spent = !self.spent.is_empty() || !self.plan.spent.is_empty();
        if spent && (self.spent.contains_key(&mini_batch) || self.plan.spent.contains_key(&mini_batch)) {
            self.plan.spent.insert(mini_batch, None);
        }
    }

    #[inline]
    fn returned(&mut self, record: Record, outcome: &'a Outcome, unreadable: &'a [ItemError], place: Place<'a>) {
        let items = outcome.items.end - outcome.items.start;
        let failed = record.failed_items(items);
        self.settle(outcome.mini_batch, outcome.items.clone());
        self.plan.packer.push(&record, items);
        self.plan.length += record.rows_len;
        let totals = &mut self.plan.totals;
        totals.committed_len += record.rows_len;
        totals.items_succeeded += items - failed;
        totals.items_failed += failed;
        totals.mini_batches_succeeded += 1;
        totals.mini_batches_short += u64::from(record.is_short(items));
        totals.surplus_results = totals.surplus_results.saturating_add(record.surplus(items));
        totals.attempts += 1;
        totals.run_us = totals.run_us.saturating_add(record.run_us);
        totals.returned = totals.returned.saturating_add(record.returned);
        if failed == 0 {
            return;
        }
        let failure = |kind, items: Range<u64>, failed_items, message| NewFailure {
            mini_batch: Some(outcome.mini_batch),
            items,
            failed_items,
            attempt: outcome.attempt,
            fate: Fate::ItemsFailed,
            kind,
            message,
            traceback: "",
            stderr: "",
            node: place.node,
            process: place.process,
            time_us: outcome.started_us.saturating_add(outcome.elapsed_us),
            started_us: outcome.started_us,
            elapsed_us: outcome.elapsed_us,
            run_us: outcome.run_us,
            cpu_us: outcome.cpu_us,
        };
        for error in unreadable {
            let item = error.item..error.item + 1;
            self.plan.failures.push(failure(ErrorKind::Input, item, 1, error.message.as_str().into()));
        }
        let missing = failed - record.unreadable;
        if missing > 0 {
            let given = items - record.unreadable;
            let message =
                format!("run() returned {} for {}", counted(record.returned, "result"), counted(given, "item"));
            self.plan.failures.push(failure(ErrorKind::ShortReturn, outcome.items.clone(), missing, message.into()));
        }
    }

    /// Charges a failed attempt, once however many copies of it report.
    fn failed(
        &mut self,
        mini_batch: u64,
        items: Range<u64>,
        attempt: u32,
        place: Place<'a>,
        times: Times,
        why: Why<'a>,
    ) {
        if attempt <= self.last_failed(mini_batch) {
            self.duplicate();
            return;
        }
        let last = attempt >= self.run_max_try;
        let totals = &mut self.plan.totals;
        totals.attempts += 1;
        totals.attempts_failed += 1;
        totals.run_us = totals.run_us.saturating_add(times.run_us);
        self.plan.failures.push(NewFailure {
            mini_batch: Some(mini_batch),
            failed_items: items.end - items.start,
            items: items.clone(),
            attempt,
            fate: if last { Fate::MiniBatchFailed } else { Fate::TriedAgain },
            kind: why.kind,
            message: why.message,
            traceback: why.traceback,
            stderr: why.stderr,
            node: place.node,
            process: place.process,
            time_us: match times.started_us {
                0 => self.now_us,
                started => started.saturating_add(times.elapsed_us),
            },
            started_us: times.started_us,
            elapsed_us: times.elapsed_us,
            run_us: times.run_us,
            cpu_us: times.cpu_us,
        });
        self.plan.changed = true;
        if last {
            totals.mini_batches_failed += 1;
            totals.items_failed += items.end - items.start;
            self.settle(mini_batch, items);
        } else {
            self.plan.spent.insert(mini_batch, Some(attempt));
            self.plan.again.push(Retry { mini_batch, attempt: attempt + 1 });
        }
    }

    fn event(&mut self, node: &'a NodeId, event: &'a NodeEvent) {
        let change = match event {
            NodeEvent::ProcessStarted { process, pid, device } => ProcessChange::Started {
                id: self.ledger.process(node, *process),
                pid: *pid,
                device: device.as_deref(),
                time_us: self.now_us,
            },
            NodeEvent::InitDone { process, elapsed_us } => {
                ProcessChange::InitDone { id: self.ledger.process(node, *process), elapsed_us: *elapsed_us }
            }
            NodeEvent::InitFailed { process, error, consecutive: _ } => {
                let failure = NewFailure {
                    mini_batch: None,
                    items: 0..0,
                    failed_items: 0,
                    attempt: 0,
                    fate: Fate::NotStarted,
                    kind: error.kind,
                    message: error.message.as_str().into(),
                    traceback: &error.traceback,
                    stderr: &error.stderr,
                    node,
                    process: Some(*process),
                    time_us: self.now_us,
                    started_us: 0,
                    elapsed_us: 0,
                    run_us: 0,
                    cpu_us: 0,
                };
                ProcessChange::InitFailed { id: self.ledger.process(node, *process), failure }
            }
            NodeEvent::ProcessEnded { process, how } => {
                ProcessChange::Ended { id: self.ledger.process(node, *process), how, time_us: self.now_us }
            }
            // `GaveUp` repeats an `InitFailed`; the others are the coordinator's business.
            NodeEvent::Joining { .. }
            | NodeEvent::Refused { .. }
            | NodeEvent::CannotJoin { .. }
            | NodeEvent::Beat { .. }
            | NodeEvent::HandedBack { .. }
            | NodeEvent::RunsAlone { .. }
            | NodeEvent::Leased { .. }
            | NodeEvent::Joined { .. }
            | NodeEvent::GaveUp { .. }
            | NodeEvent::Broken { .. }
            | NodeEvent::Downloading { .. }
            | NodeEvent::HeldUp { .. }
            | NodeEvent::Left => return,
        };
        self.plan.processes.push(change);
        self.plan.changed = true;
    }
}
