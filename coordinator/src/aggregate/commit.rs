//! One commit: write, sync, record; then it has happened.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use fanfold_shared::failpoint;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::{AttemptError, FromNode, NodeEvent, NodeMessage, Results, Task};
use fanfold_shared::report::{IoError, is_disk_full};

use super::output::WriteError;
use super::plan::Plan;
use super::table::TableSchema;
use super::{Aggregate, CommitError, Output};
use crate::ledger::{FailureRow, GroupRecord, GroupRow, NewGroup};

/// One thing to commit. `Part::from(&message)` makes it from what a node said.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Outcomes of mini-batches, good and bad.
    Results {
        /// The node that ran them.
        node: &'a NodeId,
        /// The outcomes.
        results: &'a Results,
    },
    /// Something happened on a node. What concerns processes is recorded; the rest has no effect here.
    Event {
        /// The node.
        node: &'a NodeId,
        /// What happened.
        event: &'a NodeEvent,
    },
    /// An attempt failed, as the coordinator concludes without hearing it from the process: its node is gone.
    Failed {
        /// The node that held it.
        node: &'a NodeId,
        /// The process, if that is known.
        process: Option<ProcessNumber>,
        /// The mini-batch.
        mini_batch: u64,
        /// The attempt, counted from 1.
        attempt: u32,
        /// Why.
        error: &'a AttemptError,
    },
    /// These mini-batches were held by a node that died: nobody is charged, but each becomes a suspect.
    Suspects {
        /// The mini-batches.
        mini_batches: &'a [u64],
    },
}

impl<'a> From<&'a FromNode> for Part<'a> {
    fn from(message: &'a FromNode) -> Part<'a> {
        match &message.body {
            NodeMessage::Results(results) => Part::Results { node: &message.node, results },
            NodeMessage::Event(event) => Part::Event { node: &message.node, event },
        }
    }
}

/// A mini-batch that must be published again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The mini-batch.
    pub mini_batch: u64,
    /// The attempt to make: one more than the one that was answered, or the same one if its result was lost on the way.
    pub attempt: u32,
    /// The items that are meant; None: all of it.
    pub part: Option<Range<u64>>,
}

impl Retry {
    /// The task that is published for it.
    pub fn task(&self, alone: bool) -> Task {
        let mini_batches = self.mini_batch..self.mini_batch + 1;
        Task { mini_batches, attempt: self.attempt, alone, part: self.part.clone() }
    }
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The items that settled: ascending, disjoint, adjacent ones joined.
    pub settled: Vec<Range<u64>>,
    /// Bytes added to the output file.
    pub bytes: u64,
    /// Mini-batches whose rows were added.
    pub mini_batches_succeeded: u64,
    /// Mini-batches that are out of tries.
    pub mini_batches_failed: u64,
    /// Outcomes that were dropped because they had been taken already.
    pub duplicates: u64,
    /// The failures that were recorded: what `errors.jsonl` gains.
    pub failures: Vec<FailureRow>,
    /// What must be published again.
    pub again: Vec<Retry>,
    /// What could not be used, one sentence each, for the log: no well-behaved node causes any.
    pub rejected: Vec<String>,
}

impl Aggregate {
    /// Commits a group of messages, in the order in which they are given: all that is not settled yet, or, after an error,
    /// nothing. When it returns the messages may be acknowledged.
    ///
    /// A failed attempt is charged once however often it is reported. What is out of tries then is settled as failed, or halved (`docs/design/bisect.md`).
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: everything is as before; call again with the same group when there is room. Any other error ends
    /// this aggregate: a new start takes up what the ledger proves.
    pub fn commit(&mut self, group: &[Part<'_>]) -> Result<Committed, CommitError> {
        self.usable()?;
        let began = Instant::now();
        failpoint!("commit_begin");
        let mut lost = HashMap::new();
        let (plan, crc32) = loop {
            let plan = Plan::make(self, group, &lost);
            match self.write(&plan) {
                Ok(crc32) => break (plan, crc32),
                Err(Refused::Spool { path, why }) => {
                    lost.insert(path, why);
                }
                Err(Refused::Commit(error)) => return Err(error),
            }
        };
        if plan.is_empty() {
            return Ok(Committed { again: plan.again, rejected: plan.rejected, ..Committed::default() });
        }
        failpoint!("commit_after_sync");
        let failures = self.record(&plan, crc32)?;
        super::timing::commit_seconds().observe(began.elapsed().as_secs_f64());
        failpoint!("commit_after_transaction");
        Ok(self.apply(plan, failures))
    }

    /// Puts the rows behind the committed length and waits until they are on disk. Returns their CRC-32.
    fn write(&mut self, plan: &Plan<'_>) -> Result<u32, Refused> {
        if plan.pieces.is_empty() {
            return Ok(0);
        }
        let committed = self.totals.committed_len;
        let Output::Partial(output) = &mut self.output else {
            unreachable!("only what is unsettled has rows, and then the file has not got its final name");
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let written = output.write(committed, &plan.pieces, plan.length).and_then(|crc32| {
                failpoint!("commit_after_write");
                output.sync().map_err(WriteError::Output).map(|()| crc32)
            });
            let error = match written {
                Ok(crc32) => return Ok(crc32),
                Err(WriteError::Spool { path, why }) => {
                    // The next try overwrites what this one wrote; cutting it off now only keeps the tail short.
                    let _ = output.cut(committed);
                    return Err(Refused::Spool { path, why });
                }
                Err(WriteError::Output(error)) => error,
            };
            // A failed sync has made the kernel forget which pages are not on disk: a new descriptor and all the bytes again.
            let reopened = output.reopen(committed);
            let path = output.path().to_path_buf();
            if is_disk_full(&error) {
                return Err(CommitError::DiskFull { path, source: error.into() }.into());
            }
            if tries == 2 || reopened.is_err() {
                self.stopped = true;
                return Err(CommitError::Output(IoError { operation: "write to", path, source: error }).into());
            }
        }
    }

    /// Records the commit.
    fn record(&mut self, plan: &Plan<'_>, crc32: u32) -> Result<Vec<FailureRow>, CommitError> {
        let before = self.totals.committed_len;
        let group = (plan.packer.count() > 0).then(|| NewGroup {
            row: GroupRow {
                id: self.ledger.next_group(),
                offset: before,
                length: plan.length,
                crc32,
                header_len: plan.header_len,
                mini_batches: plan.packer.count(),
            },
            packed: plan.packer.bytes(),
        });
        let columns = plan.columns.schema.as_ref().map(TableSchema::to_bytes);
        let record = GroupRecord {
            group,
            columns: columns.as_deref(),
            failures: &plan.failures,
            processes: &plan.processes,
            suspected: &plan.suspected,
            cleared: &plan.cleared,
            totals: &plan.totals,
        };
        let outcome = self.ledger.record(&record, before);
        let failures = self.recorded(outcome);
        if matches!(&failures, Err(error) if error.is_disk_full())
            && let Output::Partial(output) = &self.output
        {
            // Gives the space back. Only here, where SQLite says that the commit did not happen.
            let _ = output.cut(before);
        }
        failures
    }

    /// Takes the commit over into what is known without asking the ledger.
    fn apply(&mut self, plan: Plan<'_>, failures: Vec<FailureRow>) -> Committed {
        let committed = Committed {
            settled: plan.staged.iter().collect(),
            bytes: plan.length,
            mini_batches_succeeded: plan.totals.mini_batches_succeeded - self.totals.mini_batches_succeeded,
            mini_batches_failed: plan.totals.mini_batches_failed - self.totals.mini_batches_failed,
            duplicates: plan.totals.duplicates - self.totals.duplicates,
            failures,
            again: plan.again,
            rejected: plan.rejected,
        };
        for range in &committed.settled {
            let whole = self.settled.insert(range.clone());
            debug_assert!(whole, "the plan left out what is settled");
        }
        self.totals = plan.totals;
        if let Some(line) = plan.header {
            self.header_line = Some(line.to_vec());
        }
        if let Some(columns) = &mut self.table {
            columns.apply(plan.columns);
        }
        for mini_batch in plan.suspected {
            *self.suspects.entry(mini_batch).or_default() += 1;
        }
        for mini_batch in plan.cleared {
            self.suspects.remove(&mini_batch);
        }
        for (mini_batch, tried) in plan.tried {
            match tried {
                Some(tried) => self.tried.insert(mini_batch, tried),
                None => self.tried.remove(&mini_batch),
            };
        }
        for path in plan.spooled {
            // Its rows are in, or were before. A file that stays is only waste.
            let _ = fs::remove_file(path);
        }
        committed
    }
}

/// Why a plan's rows were not written.
enum Refused {
    /// A spooled file can't be used; without it the plan can be made again.
    Spool {
        path: PathBuf,
        why: String,
    },
    Commit(CommitError),
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Refused {
        Refused::Commit(error)
    }
}
