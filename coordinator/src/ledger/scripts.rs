//! Which copies of its script a job ran, and since when (`docs/design/new-script.md`).
//!
//! The table comes with the second script: ledgers of other jobs stay as they were.

use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::layout::JobDir;
use rusqlite::{Connection, params};

use super::record::Fate;
use super::schema::{set_meta, sql, unsigned};
use super::writer::{now_us, transaction};
use super::{Ledger, LedgerError, LedgerReader};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS scripts (
    number INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    -- Rows of groups, failures and processes with these ids, or later ones, are of this script, or of one after it.
    first_group INTEGER NOT NULL,
    first_failure INTEGER NOT NULL,
    first_process INTEGER NOT NULL,
    -- Mini-batches whose rows earlier scripts wrote.
    mini_batches INTEGER NOT NULL
) STRICT";

/// A script that the job runs, or ran, in the place of the one that it was submitted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRow {
    /// Its number, 2 or more.
    pub number: ScriptNumber,
    /// BLAKE3 of its copy: 64 hexadecimal digits.
    pub hash: String,
    /// When it came into use, microseconds since the epoch.
    pub since_us: u64,
    /// The first group that it may have written.
    pub first_group: i64,
    /// Mini-batches that had succeeded, whole or in part, by then.
    pub mini_batches: u64,
}

/// A script whose copy is complete, and which the job is to run from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewScript {
    /// The number of the copy.
    pub number: ScriptNumber,
    /// BLAKE3 of the copy.
    pub hash: String,
    /// What makes the ledger this job's from then on.
    pub fingerprint: String,
}

/// The script that the job in `dir` runs, as its ledger says; the first one where it has none yet.
///
/// # Errors
/// The ledger can't be read.
pub fn script_of(dir: &JobDir) -> Result<ScriptNumber, LedgerError> {
    match LedgerReader::find(dir) {
        Ok(reader) => reader.script(),
        Err(LedgerError::Absent { .. }) => Ok(ScriptNumber::FIRST),
        Err(error) => Err(error),
    }
}

impl LedgerReader {
    /// The script that the job runs.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn script(&self) -> Result<ScriptNumber, LedgerError> {
        Ok(self.scripts()?.last().map_or(ScriptNumber::FIRST, |script| script.number))
    }

    /// The scripts that followed the first one, in order.
    ///
    /// # Errors
    /// The ledger can't be read.
    pub fn scripts(&self) -> Result<Vec<ScriptRow>, LedgerError> {
        let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'scripts'";
        if self.collect(there, [], |row| row.get::<_, i64>(0))?[0] == 0 {
            return Ok(Vec::new());
        }
        let all = "SELECT number, hash, since_us, first_group, mini_batches FROM scripts ORDER BY number";
        self.collect(all, [], |row| {
            Ok(ScriptRow {
                number: ScriptNumber(row.get(0)?),
                hash: row.get(1)?,
                since_us: unsigned(row, 2)?,
                first_group: row.get(3)?,
                mini_batches: unsigned(row, 4)?,
            })
        })
    }
}

/// What changes with a script: it is recorded, and the attempts of earlier ones at what is unsettled count for nothing.
pub(crate) struct Switch<'a> {
    /// The script.
    pub(crate) script: &'a NewScript,
    /// Mini-batches that are not settled and had failed attempts.
    pub(crate) tried: &'a [u64],
}

impl Ledger {
    /// From now on the job runs another script. Its state stays what it is.
    pub(crate) fn switch(&mut self, switch: &Switch<'_>) -> Result<(), LedgerError> {
        let from = self.next_ids();
        transaction(&self.reader.connection, &self.reader.path, |connection| switch.write(connection, from))
    }
}

impl Switch<'_> {
    /// `from` are the ids that the next group, failure and process get.
    pub(super) fn write(&self, connection: &Connection, from: [i64; 3]) -> rusqlite::Result<()> {
        let NewScript { number, hash, fingerprint } = self.script;
        connection.execute(TABLE, [])?;
        let [group, failure, process] = from;
        connection.execute(
            "INSERT INTO scripts SELECT ?1, ?2, ?3, ?4, ?5, ?6, mini_batches_succeeded FROM totals",
            params![number.0, hash, sql(now_us()), group, failure, process],
        )?;
        set_meta(connection, "fingerprint", fingerprint)?;
        let mut again =
            connection.prepare_cached("UPDATE failures SET fate = ?1 WHERE fate = 0 AND mini_batch = ?2")?;
        for mini_batch in self.tried {
            again.execute(params![Fate::Reopened as i64, sql(*mini_batch)])?;
        }
        Ok(())
    }
}
