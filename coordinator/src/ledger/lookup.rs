//! Single things that reports ask the ledger for.

use fanfold_shared::message::ErrorKind;

use super::reader::{FailureFilter, LedgerReader};
use super::{ErrorGroup, FailureRow, LedgerError};

impl LedgerReader {
    /// The first `limit` distinct errors, oldest first, and how many there are.
    pub fn first_errors(&self, limit: usize) -> Result<(Vec<ErrorGroup>, u64), LedgerError> {
        let query = "SELECT id, kind, message, traceback, count FROM errors ORDER BY id LIMIT ?1";
        let first = self.collect(query, [limit as i64], |row| {
            Ok(ErrorGroup {
                id: row.get(0)?,
                kind: super::schema::closed(row, 1, ErrorKind::from_name)?,
                message: row.get(2)?,
                traceback: row.get(3)?,
                count: row.get::<_, i64>(4)? as u64,
            })
        })?;
        let count = self.collect("SELECT count(*) FROM errors", [], |row| row.get::<_, i64>(0))?;
        Ok((first, count.first().map_or(0, |count| *count as u64)))
    }

    /// Whether there is a failure that counts, not only attempts that were tried again.
    pub fn failures_stand(&self) -> Result<bool, LedgerError> {
        let filter = FailureFilter { settled: true, limit: Some(1), ..FailureFilter::default() };
        let mut stand = false;
        self.for_each_failure(&filter, |_| {
            stand = true;
            Ok::<(), LedgerError>(())
        })?;
        Ok(stand)
    }

    /// An instance of a distinct error: its first.
    pub fn first_failure(&self, group: i64) -> Result<Option<FailureRow>, LedgerError> {
        let filter = FailureFilter { group: Some(group), limit: Some(1), ..FailureFilter::default() };
        let mut first = None;
        self.for_each_failure(&filter, |row| {
            first.get_or_insert(row);
            Ok::<(), LedgerError>(())
        })?;
        Ok(first)
    }
}
