//! Decides what a group of messages settles. Writes nothing, and can be made again: the same messages on the same state give
//! the same plan. Here is what a plan is and what is settled by it; what comes in is judged by kind: `results`, `attempts`, `events`.

mod attempts;
mod events;
mod results;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use fanfold_shared::interval::IntervalSet;
use fanfold_shared::message::Outcome;
use fanfold_shared::split::Split;

use super::bisect::{Settled, Tried, Tries};
use super::output::Piece;
use super::table::{Columns, Staged};
use super::{Aggregate, Output, Part, Retry, next_part};
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
    /// What was tried of mini-batches, as it will be; None: settled, so nobody asks any more.
    pub tried: HashMap<u64, Option<Tried>>,
    pub suspected: Vec<u64>,
    pub cleared: Vec<u64>,
    pub again: Vec<Retry>,
    pub rejected: Vec<String>,
    /// Mini-batches that go on, in this order: `again` is made of them.
    going_on: Vec<u64>,
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
            tried: HashMap::new(),
            suspected: Vec::new(),
            cleared: Vec::new(),
            again: Vec::new(),
            rejected: Vec::new(),
            going_on: Vec::new(),
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
            tried: &aggregate.tried,
            suspects: &aggregate.suspects,
            split: &aggregate.split,
            mini_batches: aggregate.mini_batches,
            header_wanted: aggregate.header,
            header_line: aggregate.header_line.as_deref(),
            table: aggregate.table.as_ref(),
            tries: aggregate.tries,
            now_us: now_us(),
            lost,
        };
        for part in group {
            planner.part(*part);
        }
        planner.go_on();
        planner.plan
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
    tried: &'p HashMap<u64, Tried>,
    suspects: &'p BTreeMap<u64, u32>,
    split: &'p Split,
    mini_batches: u64,
    header_wanted: bool,
    /// The header line of the output, if it has one already.
    header_line: Option<&'p [u8]>,
    /// Of output that becomes a Parquet file, its columns so far.
    table: Option<&'p Columns>,
    tries: Tries,
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
                // Nobody has said which part it was: the one that is due.
                let items = self.split.mini_batch(mini_batch).1;
                let Some(items) = self.tried(mini_batch).next(&items, &self.both(), self.tries) else {
                    self.duplicate();
                    return;
                };
                self.failed(mini_batch, items, attempt, Place { node, process }, Times::default(), Why::of(error));
            }
            Part::Suspects { mini_batches } => {
                for &mini_batch in mini_batches {
                    if mini_batch < self.mini_batches && !self.is_over(mini_batch) {
                        self.plan.suspected.push(mini_batch);
                        self.plan.changed = true;
                    }
                }
            }
        }
    }

    /// Whether any of these items is settled: then a result for them comes too late.
    fn is_settled(&self, items: &Range<u64>) -> bool {
        self.settled.meets(items) || self.plan.staged.meets(items)
    }

    /// Whether all of a mini-batch is settled.
    fn is_over(&self, mini_batch: u64) -> bool {
        self.both().covers(&self.split.mini_batch(mini_batch).1)
    }

    /// What is settled, and what will be.
    fn both(&self) -> Both<'_> {
        Both { settled: self.settled, staged: &self.plan.staged }
    }

    fn tried(&self, mini_batch: u64) -> Cow<'_, Tried> {
        let tried = match self.plan.tried.get(&mini_batch) {
            Some(staged) => staged.as_ref(),
            None => self.tried.get(&mini_batch),
        };
        tried.map_or_else(|| Cow::Owned(Tried::default()), Cow::Borrowed)
    }

    /// What must be published again, once all of the group is known: another copy of a mini-batch may have settled it meanwhile.
    fn go_on(&mut self) {
        let going_on = std::mem::take(&mut self.plan.going_on);
        let mut seen = HashSet::new();
        for mini_batch in going_on {
            if !seen.insert(mini_batch) || self.is_over(mini_batch) {
                continue;
            }
            let tried = self.tried(mini_batch);
            let part = next_part(&tried, &self.split.mini_batch(mini_batch).1, &self.both(), self.tries);
            let attempt = tried.attempt + 1;
            self.plan.again.push(Retry { mini_batch, attempt, part });
        }
    }

    fn duplicate(&mut self) {
        self.plan.totals.duplicates += 1;
        self.plan.changed = true;
    }

    /// The outcome can't be used: the same attempt must be made once more, at nobody's expense.
    fn lose(&mut self, outcome: &Outcome) {
        let id = outcome.mini_batch;
        if id < self.mini_batches {
            self.plan.going_on.push(id);
        }
    }

    fn settle(&mut self, items: Range<u64>) {
        let whole = self.plan.staged.insert(items);
        debug_assert!(whole, "the caller asked whether it is settled");
        self.plan.changed = true;
    }

    /// All of a mini-batch is settled.
    fn close(&mut self, mini_batch: u64) {
        // Four look-ups that a job without failures never makes.
        let suspects = !self.suspects.is_empty() || !self.plan.suspected.is_empty();
        if suspects && (self.suspects.contains_key(&mini_batch) || self.plan.suspected.contains(&mini_batch)) {
            self.plan.cleared.push(mini_batch);
        }
        let tried = !self.tried.is_empty() || !self.plan.tried.is_empty();
        if tried && (self.tried.contains_key(&mini_batch) || self.plan.tried.contains_key(&mini_batch)) {
            self.plan.tried.insert(mini_batch, None);
        }
    }
}

/// Two sets as one.
struct Both<'p> {
    settled: &'p IntervalSet,
    staged: &'p IntervalSet,
}

impl Settled for Both<'_> {
    fn meets(&self, items: &Range<u64>) -> bool {
        self.settled.meets(items) || self.staged.meets(items)
    }

    fn covers(&self, items: &Range<u64>) -> bool {
        let mut at = items.start;
        while let Some(gap) = self.settled.next_gap(at, items.end) {
            if !self.staged.contains(&gap) {
                return false;
            }
            at = gap.end;
        }
        true
    }
}
