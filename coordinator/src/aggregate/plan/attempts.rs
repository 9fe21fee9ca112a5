//! What attempts came to: counted, charged, and settled by the last one.

use std::borrow::Cow;
use std::ops::Range;

use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::{AttemptError, ErrorKind, ItemError, Outcome};
use fanfold_shared::text::counted;

use super::super::bisect::Tried;
use super::Planner;
use crate::ledger::packed::Record;
use crate::ledger::{Fate, NewFailure};

/// Where a mini-batch was tried.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a NodeId,
    pub(super) process: Option<ProcessNumber>,
}

/// When, and for how long; zeros where nobody knows.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    started_us: u64,
    elapsed_us: u64,
    run_us: u64,
    cpu_us: u64,
}

impl Times {
    pub(super) fn of(outcome: &Outcome) -> Times {
        Times {
            started_us: outcome.started_us,
            elapsed_us: outcome.elapsed_us,
            run_us: outcome.run_us,
            cpu_us: outcome.cpu_us,
        }
    }
}

/// Why an attempt failed: what its process said, or what is concluded here.
pub(super) struct Why<'a> {
    pub(super) kind: ErrorKind,
    pub(super) message: Cow<'a, str>,
    pub(super) traceback: &'a str,
    pub(super) stderr: &'a str,
    /// See [`AttemptError::of_all`].
    pub(super) of_all: bool,
}

impl<'a> Why<'a> {
    pub(super) fn of(error: &'a AttemptError) -> Why<'a> {
        Why {
            kind: error.kind,
            message: error.message.as_str().into(),
            traceback: &error.traceback,
            stderr: &error.stderr,
            of_all: error.of_all,
        }
    }
}

impl<'a> Planner<'_, 'a> {
    #[inline]
    pub(super) fn returned(
        &mut self,
        record: Record,
        outcome: &'a Outcome,
        unreadable: &'a [ItemError],
        place: Place<'a>,
    ) {
        let items = outcome.items.end - outcome.items.start;
        let (failed, short) = (record.failed_items(items), record.is_short(items));
        self.settle(outcome.items.clone());
        self.plan.packer.push(&record, items);
        self.plan.length += record.rows_len;
        let totals = &mut self.plan.totals;
        totals.committed_len += record.rows_len;
        totals.items_succeeded += items - failed;
        totals.items_failed += failed;
        totals.surplus_results = totals.surplus_results.saturating_add(record.surplus(items));
        totals.attempts += 1;
        totals.run_us = totals.run_us.saturating_add(record.run_us);
        totals.returned = totals.returned.saturating_add(record.returned);
        if record.part.is_some() {
            let mut tried = self.tried(outcome.mini_batch).into_owned();
            tried.returned(outcome.attempt, short);
            self.go_on_behind_a_part(outcome.mini_batch, tried);
        } else {
            totals.mini_batches_succeeded += 1;
            totals.mini_batches_short += u64::from(short);
            self.close(outcome.mini_batch);
        }
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

    /// A part of a mini-batch is settled: the next is due, or it was the last.
    fn go_on_behind_a_part(&mut self, mini_batch: u64, tried: Tried) {
        if !self.is_over(mini_batch) {
            self.plan.tried.insert(mini_batch, Some(tried));
            self.plan.going_on.push(mini_batch);
            return;
        }
        let totals = &mut self.plan.totals;
        if tried.returned {
            totals.mini_batches_succeeded += 1;
            totals.mini_batches_short += u64::from(tried.short);
        } else {
            totals.mini_batches_failed += 1;
        }
        self.close(mini_batch);
    }

    /// Charges a failed attempt, once however many copies of it report.
    pub(super) fn failed(
        &mut self,
        mini_batch: u64,
        items: Range<u64>,
        attempt: u32,
        place: Place<'a>,
        times: Times,
        why: Why<'a>,
    ) {
        let mut tried = self.tried(mini_batch).into_owned();
        if attempt <= tried.attempt {
            self.duplicate();
            return;
        }
        let whole = self.split.mini_batch(mini_batch).1;
        tried.failed(&items, &whole, attempt);
        let halved = self.tries.bisect && !why.of_all && items.end - items.start > 1;
        let last = !halved && tried.is_out(&items, &whole, self.tries);
        let totals = &mut self.plan.totals;
        totals.attempts += 1;
        totals.attempts_failed += 1;
        totals.run_us = totals.run_us.saturating_add(times.run_us);
        self.plan.failures.push(NewFailure {
            mini_batch: Some(mini_batch),
            failed_items: items.end - items.start,
            items: items.clone(),
            attempt,
            fate: match last {
                true if items == whole => Fate::MiniBatchFailed,
                true => Fate::PartFailed,
                false => Fate::TriedAgain,
            },
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
        if !last {
            self.plan.tried.insert(mini_batch, Some(tried));
            self.plan.going_on.push(mini_batch);
            return;
        }
        totals.items_failed += items.end - items.start;
        let all = items == whole;
        self.settle(items);
        if all {
            self.plan.totals.mini_batches_failed += 1;
            self.close(mini_batch);
        } else {
            tried.short = true;
            self.go_on_behind_a_part(mini_batch, tried);
        }
    }
}
