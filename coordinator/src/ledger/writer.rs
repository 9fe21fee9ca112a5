//! The only writer of a ledger.
//!
//! A ledger appears whole: it is made beside its place and renamed, so an empty or half-made one under the right name is
//! damage, never a beginning. Nothing is written before the file has proved to be this job's and of a version we know.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::During;
use fanfold_shared::split::Split;
use fanfold_shared::state::JobState;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::connection::{READ_ONLY, connect, with_suffix, write_error};
use super::reader::damaged;
use super::record::{self, Fate, GroupRecord};
use super::schema::{APPLICATION_ID, TABLES, VERSION, set_meta, set_totals, sql, totals};
use super::{FailureRow, JobLock, LedgerError, LedgerReader, Reopened, Switch, Totals, location};

/// Ledgers of up to so many pages (64 MiB) are checked by SQLite at each start; larger ones would make the start slow.
const QUICK_CHECK_PAGES: i64 = 16 << 10;

/// What makes a ledger this job's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The job's id.
    pub job_id: JobId,
    /// A hash of all that makes it another job if it changes (spec section 5).
    pub fingerprint: String,
    /// The split.
    pub split: Split,
}

/// The ledger of a job, open for writing.
#[derive(Debug)]
pub struct Ledger {
    // Closed before the lock is released: fields are dropped in this order.
    pub(super) reader: LedgerReader,
    processes: HashMap<NodeId, HashMap<ProcessNumber, i64>>,
    /// Rows of `processes` that the next transaction inserts.
    new_processes: Vec<(i64, NodeId, ProcessNumber)>,
    next_process: i64,
    next_failure: i64,
    last_group: i64,
    _lock: JobLock,
}

impl Ledger {
    /// Opens the ledger of `job`, or makes it. Counts a start.
    ///
    /// # Errors
    /// Refuses, and changes nothing, a ledger of another job, of a later version, that is damaged or lies where SQLite can't
    /// keep its promises.
    pub fn open(job: &JobDir, lock: JobLock, identity: &Identity) -> Result<Ledger, LedgerError> {
        let path = match location::find(job)? {
            Some(path) => {
                if let Some(file_system) =
                    location::network_file_system(&path).during("look at the file system of", &path)?
                {
                    return Err(LedgerError::Network { ledger: path, file_system, exists: true });
                }
                path
            }
            None => {
                let internal = job.internal();
                let file_system =
                    location::network_file_system(&internal).during("look at the file system of", &internal)?;
                let path = location::place(job, &identity.job_id, file_system, location::state_home())?;
                // It exists if a start died before it wrote the pointer.
                if !path.try_exists().during("look for", &path)? {
                    create(&path, identity)?;
                }
                if path != job.ledger() {
                    location::point_to(job, &path)?;
                }
                path
            }
        };
        let grew = check_identity(&path, identity)?;
        let mut ledger = Ledger::attach(&path, lock, &identity.split)?;
        if grew && identity.split.is_complete() {
            ledger.complete_split(&identity.split)?;
        }
        Ok(ledger)
    }

    fn attach(path: &Path, lock: JobLock, split: &Split) -> Result<Ledger, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut reader = LedgerReader::attach(path, connect(path, flags))?;
        reader.know_split(split);
        let configure = || -> rusqlite::Result<()> {
            let connection = &reader.connection;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cell_size_check", true)?;
            // KiB. It only ever appends: pages behind the end are not looked at again.
            connection.pragma_update(None, "cache_size", -256)?;
            // After a burst the log shrinks again.
            connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
            // What a killed program left in the log may be in the page cache only (it died of a failed sync). Here it reaches the
            // database file, and is synced there, before anything is built upon it.
            connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))?;
            connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'starts'", [])?;
            Ok(())
        };
        let pages: i64 = reader
            .connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .map_err(|error| write_error(&reader.connection, "open", path, error))?;
        if pages <= QUICK_CHECK_PAGES
            && let Some(problem) = reader.integrity(1)?.into_iter().next()
        {
            return Err(damaged(path, problem.replace('\n', " ")));
        }
        configure().map_err(|error| write_error(&reader.connection, "open", path, error))?;

        let highest = |query| reader.connection.query_row(query, [], |row| row.get::<_, i64>(0));
        let numbers = || {
            Ok((highest("SELECT ifnull(max(id), 0) FROM failures")?, highest("SELECT ifnull(max(id), 0) FROM groups")?))
        };
        let (last_failure, last_group) = numbers().map_err(|error| reader.error(error))?;
        let mut processes: HashMap<NodeId, HashMap<ProcessNumber, i64>> = HashMap::new();
        let mut last_process = 0;
        for (id, node, number) in reader.process_rows()? {
            processes.entry(node).or_default().insert(number, id);
            last_process = last_process.max(id);
        }
        Ok(Ledger {
            reader,
            processes,
            new_processes: Vec::new(),
            next_process: last_process + 1,
            next_failure: last_failure + 1,
            last_group,
            _lock: lock,
        })
    }

    /// For reading what was recorded.
    pub fn reader(&self) -> &LedgerReader {
        &self.reader
    }

    /// The id that the next commit with rows gets.
    pub(crate) fn next_group(&self) -> i64 {
        self.last_group + 1
    }

    /// The row of a process, which the next transaction makes if there is none yet.
    pub(crate) fn process(&mut self, node: &NodeId, number: ProcessNumber) -> i64 {
        if let Some(id) = self.processes.get(node).and_then(|numbers| numbers.get(&number)) {
            return *id;
        }
        let id = self.next_process;
        self.next_process += 1;
        self.processes.entry(node.clone()).or_default().insert(number, id);
        self.new_processes.push((id, node.clone(), number));
        id
    }

    /// The lowest number that no process of each node has had.
    pub(crate) fn next_numbers(&self) -> impl Iterator<Item = (&NodeId, ProcessNumber)> {
        self.processes.iter().filter_map(|(node, numbers)| {
            let highest = numbers.keys().map(|number| number.0).max()?;
            Some((node, ProcessNumber(highest.saturating_add(1))))
        })
    }

    /// Records a commit in one transaction. `before` is the committed length that it follows.
    ///
    /// # Errors
    /// [`LedgerError::Full`]: nothing was recorded, and the same record may be tried again. After any other error nobody knows
    /// whether it was recorded until the ledger is opened anew.
    pub(crate) fn record(&mut self, record: &GroupRecord<'_>, before: u64) -> Result<Vec<FailureRow>, LedgerError> {
        let (path, next_failure, new_processes) = (&self.reader.path, self.next_failure, &self.new_processes);
        let failures = transaction(&self.reader.connection, path, |connection| {
            if totals(connection)?.committed_len != before {
                return Ok(None);
            }
            for (id, node, number) in new_processes {
                connection
                    .prepare_cached("INSERT INTO processes (id, node, number) VALUES (?1, ?2, ?3)")?
                    .execute(params![id, node.0, number.0])?;
            }
            record::write(connection, record, next_failure).map(Some)
        })?;
        let failures = failures
            .ok_or_else(|| damaged(&self.reader.path, "its committed length changed while we held the lock".into()))?;
        self.new_processes.clear();
        self.next_failure += failures.len() as i64;
        self.last_group += i64::from(record.group.is_some());
        Ok(failures)
    }

    /// Records that the job is in `state`, and why.
    pub(crate) fn set_state(&mut self, state: JobState, cause: Option<&str>) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| insert_state(connection, state, cause))
    }

    /// Records that the job is Completed, and what its Parquet file is, if it has one, in the same transaction.
    pub(crate) fn complete(&mut self, result: Option<&str>) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            if let Some(result) = result {
                set_meta(connection, "result", result)?;
            }
            insert_state(connection, JobState::Completed, None)
        })
    }

    /// Sets values of the table `meta`, all of them or none.
    pub(crate) fn set_meta(&mut self, values: &[(&str, &dyn rusqlite::ToSql)]) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            values.iter().try_for_each(|(key, value)| set_meta(connection, key, value))
        })
    }

    /// Records the split of a list that has grown until it was complete.
    pub(crate) fn complete_split(&mut self, split: &Split) -> Result<(), LedgerError> {
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            let text = serde_json::to_string(split).expect("a split is plain data");
            set_meta(connection, "split", text)?;
            let totals = totals(connection)?;
            set_totals(connection, &Totals { items: split.items(), mini_batches: split.mini_batches(), ..totals })
        })?;
        self.reader.know_split(split);
        Ok(())
    }

    /// The ids that the next group, failure and process get.
    pub(super) fn next_ids(&self) -> [i64; 3] {
        [self.next_group(), self.next_failure, self.next_process]
    }

    /// Opens what is out of tries again and puts the job in `state`: the attempts are forgotten, what was recorded
    /// about them stays. With `switch` all that is run from then on is run with another script. Returns the totals as they are then.
    pub(crate) fn reopen_failed(
        &mut self,
        state: JobState,
        failed: &Reopened,
        switch: Option<&Switch<'_>>,
    ) -> Result<Totals, LedgerError> {
        let from = self.next_ids();
        transaction(&self.reader.connection, &self.reader.path, |connection| {
            insert_state(connection, state, None)?;
            switch.map_or(Ok(()), |switch| switch.write(connection, from))?;
            connection.execute(
                "UPDATE failures SET fate = ?1 WHERE fate IN (1, 5)
                     OR fate = 0 AND mini_batch IN (SELECT mini_batch FROM failures WHERE fate IN (1, 5))",
                [Fate::Reopened as i64],
            )?;
            let mut totals = totals(connection)?;
            totals.mini_batches_failed -= failed.whole + failed.all_parts;
            totals.mini_batches_succeeded -= failed.some_parts;
            totals.mini_batches_short -= failed.some_parts;
            totals.items_failed -= failed.items;
            set_totals(connection, &totals)?;
            Ok(totals)
        })
    }
}

fn insert_state(connection: &Connection, state: JobState, cause: Option<&str>) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO states (state, cause, time_us) VALUES (?1, ?2, ?3)")?
        .execute(params![state.name(), cause, sql(now_us())])
        .map(drop)
}

#[cfg(test)]
impl Ledger {
    /// Stands in for a disk that is full, or has room again: no more pages than these, or than there are.
    pub(crate) fn limit_pages(&self, pages: Option<u32>) {
        let pages = pages.unwrap_or(u32::MAX - 1);
        self.reader.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }
}

/// Microseconds since the epoch.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// Runs `work` in one transaction.
pub(super) fn transaction<T>(
    connection: &Connection,
    path: &Path,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, LedgerError> {
    let outcome =
        rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate).and_then(|transaction| {
            let value = work(&transaction)?;
            Ok((transaction, value))
        });
    let (transaction, value) = outcome.map_err(|error| write_error(connection, "write to", path, error))?;
    // Dropping the transaction undoes it.
    fanfold_shared::failpoint_error!("ledger_commit").map_err(|error| LedgerError::from_io("write to", path, error))?;
    transaction.commit().map_err(|error| write_error(connection, "write to", path, error))?;
    Ok(value)
}

/// Makes an empty ledger at `path`, whole or not at all.
fn create(path: &Path, identity: &Identity) -> Result<(), LedgerError> {
    let new = with_suffix(path, ".new");
    for leftover in [new.clone(), with_suffix(&new, "-wal"), with_suffix(&new, "-shm"), with_suffix(&new, "-journal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).during("remove", &leftover).map_err(LedgerError::from);
            }
            _ => {}
        }
    }
    let split = serde_json::to_string(&identity.split).expect("a split is plain data");
    let made = (|| {
        let connection = connect(&new, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // Nobody else sees it before it is whole, and it is synced then: until then a journal would only take time.
        connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(TABLES)?;
        set_meta(&transaction, "job_id", &identity.job_id.0)?;
        set_meta(&transaction, "fingerprint", &identity.fingerprint)?;
        set_meta(&transaction, "split", &split)?;
        set_meta(&transaction, "created_us", sql(now_us()))?;
        set_meta(&transaction, "starts", 0)?;
        let totals =
            Totals { items: identity.split.items(), mini_batches: identity.split.mini_batches(), ..Totals::default() };
        set_totals(&transaction, &totals)?;
        insert_state(&transaction, JobState::Preparing, None)?;
        transaction.commit()?;
        // The mode stays with the file. Closing the only connection leaves no log behind.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.close().map_err(|(_, error)| error)
    })();
    made.map_err(|error| LedgerError::from_sqlite("create", path, error))?;
    File::open(&new).and_then(|file| file.sync_all()).during("sync", &new)?;
    fs::rename(&new, path).during("rename", &new)?;
    location::sync_dir(path.parent().expect("a ledger lies in a directory"))
}

/// Refuses a ledger that is not this job's; opens it only for reading. Returns whether it knows a split that grows.
fn check_identity(path: &Path, identity: &Identity) -> Result<bool, LedgerError> {
    let reader = LedgerReader::attach(path, connect(path, READ_ONLY))?;
    let other = |what, recorded: Option<String>, wanted: &str| LedgerError::OtherJob {
        path: path.to_path_buf(),
        what,
        recorded: recorded.unwrap_or_default(),
        wanted: wanted.to_string(),
    };
    for (key, what, wanted) in
        [("job_id", "id", &identity.job_id.0), ("fingerprint", "fingerprint", &identity.fingerprint)]
    {
        let recorded: Option<String> = reader.meta(key)?;
        if recorded.as_ref() != Some(wanted) {
            return Err(other(what, recorded, wanted));
        }
    }
    if !reader.split().is_same_list(&identity.split) {
        let describe = |split: &Split| format!("{} items in {} mini-batches", split.items(), split.mini_batches());
        return Err(other("split", Some(describe(reader.split())), &describe(&identity.split)));
    }
    Ok(!reader.knows_end())
}
