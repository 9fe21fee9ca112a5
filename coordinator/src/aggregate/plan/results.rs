//! Outcomes as a process sends them: which of them count, which rows are taken with them, and whether these have the columns of the output.

use std::borrow::Cow;
use std::path::PathBuf;

use fanfold_shared::ids::NodeId;
use fanfold_shared::message::{ErrorKind, ItemError, Outcome, OutcomeEnd, Results};
use fanfold_shared::text::one_line;

use super::super::message;
use super::super::output::Piece;
use super::super::table::Refusal;
use super::Planner;
use super::attempts::{Place, Times, Why};
use crate::ledger::packed::Record;

/// Characters of a header that are shown.
const HEADER_SHOWN: usize = 200;

impl<'a> Planner<'_, 'a> {
    pub(super) fn results(&mut self, node: &'a NodeId, results: &'a Results) {
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
        let header = results.header.as_deref().filter(|_| self.header_wanted && self.rows_wanted);
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
            let usable = usable
                && self.has_the_header(outcome, header, place)
                && self.fits(outcome, *returned, &results.rows[at..at + inline], &file, place);
            if !usable {
                self.piece(&results.rows[from..at]);
                from = at + inline;
                at = from;
                continue;
            }
            if let Some(line) = header
                && self.plan.totals.committed_len == 0
            {
                self.piece(line);
                self.plan.header = Some(line);
                self.plan.header_len = line.len() as u64;
                self.plan.length += line.len() as u64;
                self.plan.totals.committed_len += line.len() as u64;
            }
            let rows_len = if self.rows_wanted { *rows_len } else { 0 };
            let record = Record {
                mini_batch: outcome.mini_batch,
                part: message::part_of(outcome, self.split),
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

    /// Whether the rows of a process are of the header that the output begins with. Where they are not, the mini-batch failed: its process can't know.
    fn has_the_header(&mut self, outcome: &Outcome, header: Option<&[u8]>, place: Place<'a>) -> bool {
        let OutcomeEnd::Returned { rows_len: 1.., .. } = outcome.end else { return true };
        let (Some(ours), Some(theirs)) = (self.plan.header.or(self.header_line), header) else { return true };
        if ours == theirs {
            return true;
        }
        let line = |bytes: &[u8]| one_line(String::from_utf8_lossy(bytes).trim_end(), HEADER_SHOWN).to_string();
        let message = format!(
            "run() returned a DataFrame with the header `{}`, and the output begins with `{}`: return the same columns each time, in the same order",
            line(theirs),
            line(ours)
        );
        let why =
            Why { kind: ErrorKind::BadReturn, message: Cow::Owned(message), traceback: "", stderr: "", of_all: false };
        self.failed(outcome.mini_batch, outcome.items.clone(), outcome.attempt, place, Times::of(outcome), why);
        false
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
                let why = Why {
                    kind: ErrorKind::BadReturn,
                    message: Cow::Owned(message),
                    traceback: "",
                    stderr: "",
                    of_all: false,
                };
                let items = outcome.items.clone();
                self.failed(outcome.mini_batch, items, outcome.attempt, place, Times::of(outcome), why);
                false
            }
        }
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

    fn piece(&mut self, bytes: &'a [u8]) {
        if self.rows_wanted && !bytes.is_empty() {
            self.plan.pieces.push(Piece::Bytes(bytes));
        }
    }
}
