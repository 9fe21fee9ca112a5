//! `fanfold retry --failed`: a second life for mini-batches out of tries.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use fanfold_shared::report::During;
use fanfold_shared::state::JobState;

use super::output::OutputFile;
use super::recovery::{RESULT, check_tail, file_result, recorded_output, settled, tried};
use super::{Aggregate, OpenError, Output};
use crate::ledger::{LedgerError, NewScript, Reopened, Switch};

impl Aggregate {
    /// [`Aggregate::retry_failed_with`] the script that the job has.
    ///
    /// # Errors
    /// As there.
    pub fn retry_failed(&mut self) -> Result<u64, OpenError> {
        self.retry_failed_with(None)
    }

    /// Opens the mini-batches, and the parts of them, that are out of tries again, with all their tries, and puts the job in state Running. Returns how many mini-batches they are;
    /// if there are none the state does not change. Rows of short returns are in and stay.
    ///
    /// With `script` that, and all else that is still to be run, is run with it, and has all its tries; that is recorded in the same transaction.
    /// It is not where nothing is left to be run.
    ///
    /// The output of a Completed job stays under its name, as it is, until [`Aggregate::finish`] puts the longer one in its place.
    ///
    /// # Errors
    /// If the output of a Completed job is not what the ledger proves, or there is no room for a copy of it.
    pub fn retry_failed_with(&mut self, script: Option<&NewScript>) -> Result<u64, OpenError> {
        if self.stopped {
            return Err(OpenError::Stopped);
        }
        let reader = self.ledger.reader();
        let failed = self.failed()?;
        let tried: Vec<u64> = self.tried.keys().copied().collect();
        let switch = script.map(|script| Switch { script, tried: &tried });
        if failed.mini_batches() == 0 {
            if let Some(switch) = switch.filter(|_| !self.all_settled()) {
                self.ledger.switch(&switch).inspect_err(|_| self.stopped = true)?;
                self.tried = super::recovery::tried(self.ledger.reader(), &self.settled)?;
            }
            return Ok(0);
        }
        if let (Output::Finished, Some(target)) = (&self.output, recorded_output(reader, &self.job)?) {
            let committed = self.totals.committed_len;
            if let Some(result) = file_result(reader, RESULT)? {
                // Its rows stay where they are until the finish reads them; what is added begins behind them.
                if !result.is_at(&target).during("read", &target)? {
                    return Err(OpenError::ResultChanged { path: target });
                }
                self.ledger.set_meta(&[("replaces", &1)])?;
                self.output = Output::Partial(OutputFile::behind(&target, result.frames)?);
                return self.reopen_failed(failed, switch.as_ref());
            }
            let found = match fs::metadata(&target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                metadata => metadata.during("look at", &target)?.len(),
            };
            if found != committed {
                return Err(OpenError::OutputShort { path: target, found, committed });
            }
            check_tail(reader, &target, 0)?;
            // First: from here on a file under either name is ours.
            self.ledger.set_meta(&[("replaces", &1)])?;
            self.output = Output::Partial(OutputFile::copy_of(&target)?);
        }
        self.reopen_failed(failed, switch.as_ref())
    }

    /// What is out of tries.
    fn failed(&self) -> Result<Reopened, OpenError> {
        let reader = self.ledger.reader();
        let mut failed = Reopened::default();
        reader.for_each_failed(|(_, items)| {
            failed.whole += 1;
            failed.items += items.end - items.start;
            Ok::<(), LedgerError>(())
        })?;
        let mut in_parts: BTreeMap<u64, u64> = BTreeMap::new();
        reader.for_each_failed_part(|(mini_batch, items)| {
            *in_parts.entry(mini_batch).or_default() += items.end - items.start;
            Ok::<(), LedgerError>(())
        })?;
        for (mini_batch, items) in in_parts {
            failed.items += items;
            let whole = self.split.mini_batch(mini_batch).1;
            match self.settled.contains(&whole) {
                true if items == whole.end - whole.start => failed.all_parts += 1,
                true => failed.some_parts += 1,
                false => failed.still_open += 1,
            }
        }
        Ok(failed)
    }

    fn reopen_failed(&mut self, failed: Reopened, switch: Option<&Switch<'_>>) -> Result<u64, OpenError> {
        // The state leaves Completed in the same transaction: a start that dies before it finds the job finished as it was.
        self.totals = match self.ledger.reopen_failed(JobState::Running, &failed, switch) {
            Err(error) => {
                self.stopped = true;
                return Err(error.into());
            }
            Ok(totals) => totals,
        };
        self.state = JobState::Running;
        self.grown();
        self.settled = settled(self.ledger.reader(), &self.totals)?;
        self.tried = tried(self.ledger.reader(), &self.settled)?;
        Ok(failed.mini_batches())
    }
}
