//! Decides what a group of messages settles. Writes nothing, and can be made again: the same messages on the same state give
//! the same plan. Here is what a plan is and what is settled by it; what comes in is judged by kind: `results`, `attempts`, `events`.

mod attempts;
mod events;
mod results;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::Outcome;
use fanfold_shared::split::Split;

use super::output::Piece;
use super::table::{Columns, Staged};
use super::{Aggregate, Output, Part, Retry};
use crate::ledger::packed::Packer;
use crate::ledger::{Ledger, NewFailure, ProcessChange, Totals, now_us};
use attempts::{Place, Times, Why};

/// What a commit will do.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The bytes to append, in their order.
    pub pieces: Vec<Piece<'a>>,
    /// Their number.
    pub length: u64,
    /// How many of them, at the start, are the header line.
    pub header_len: u64,
    /// That line.
    pub header: Option<&'a [u8]>,
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

impl<'a> Plan<'a> {
    /// Plans the commit of `group`. `lost` are spooled files that turned out to be unusable.
    pub fn make(aggregate: &mut Aggregate, group: &[Part<'a>], lost: &HashMap<PathBuf, String>) -> Plan<'a> {
        let plan = Plan {
            pieces: Vec::new(),
            length: 0,
            header_len: 0,
            header: None,
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
            header_line: aggregate.header_line.as_deref(),
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
    /// The header line of the output, if it has one already.
    header_line: Option<&'p [u8]>,
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

    fn is_settled(&self, items: &Range<u64>) -> bool {
        self.settled.meets(items) || self.plan.staged.meets(items)
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
}
