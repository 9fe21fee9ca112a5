//! Reading a ledger: while a coordinator writes it, and after it died.
//!
//! Every figure that users see comes from here. Each call sees one consistent state; what is listed is streamed, so a job
//! of ten million mini-batches costs no more memory than one of ten.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::items::ItemReader;
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::split::{Cut, Split};
use fanfold_shared::state::JobState;
use rusqlite::{Connection, ErrorCode, Row, Rows};

use super::connection::{READ_ONLY, connect, connect_immutable, log_len, version, write_error};
use super::packed::{Record, Unpacker};
use super::schema::{closed, meta, sql, totals, unsigned};
use super::{
    ErrorGroup, FailedAttempt, FailureRow, Fate, GroupRow, JobLock, JobStatus, LedgerError, MiniBatchRow, ProcessRow,
    Suspect, Totals, location,
};

/// Which failures are wanted: all that pass every condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureFilter {
    /// Only those of this mini-batch.
    pub mini_batch: Option<u64>,
    /// Only those of this kind.
    pub kind: Option<ErrorKind>,
    /// Only those of this distinct error.
    pub group: Option<i64>,
    /// Only those that stand: see [`FailureRow::settled`].
    pub settled: bool,
    /// Only those with a greater id: what came since the last look.
    pub after: i64,
    /// Only so many.
    pub limit: Option<u32>,
}

/// A ledger open for reading. Not shared between threads: open one for each.
#[derive(Debug)]
pub struct LedgerReader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    split: Split,
    /// The ledger knows it to its end.
    knows_end: bool,
    /// The list of items, while it grows: records may name what came after it was opened.
    list: Option<ItemReader>,
}

impl LedgerReader {
    /// Opens the ledger of `job`, whether or not a coordinator has it open.
    ///
    /// # Errors
    /// [`LedgerError::Absent`] before the job has one; see the other variants for what can be wrong with it.
    pub fn open(job: &JobDir) -> Result<LedgerReader, LedgerError> {
        let mut reader = LedgerReader::find(job)?;
        if let Cut::Listed(_) = reader.split.cut {
            let list = ItemReader::open(&job.items())
                .map_err(|error| damaged(&reader.path, format!("its split can't be read: {error}")))?;
            if !list.split().is_same_list(&reader.split) {
                return Err(damaged(&reader.path, "the list of items beside it is another one's".into()));
            }
            reader.know_split(list.split());
            reader.list = (!list.split().is_complete()).then_some(list);
        }
        Ok(reader)
    }

    /// `split` is that of the list, with its ends.
    pub(super) fn know_split(&mut self, split: &Split) {
        self.split = split.clone();
    }

    pub(super) fn find(job: &JobDir) -> Result<LedgerReader, LedgerError> {
        let path = location::find(job)?.ok_or_else(|| LedgerError::Absent { job: job.root().to_path_buf() })?;
        let refused = match LedgerReader::attach(&path, connect(&path, READ_ONLY)) {
            Err(LedgerError::Sqlite { operation, path, source })
                if matches!(source.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) =>
            {
                LedgerError::Sqlite { operation, path, source }
            }
            opened => return opened,
        };
        // The directory is not ours to write to, so SQLite can't make its shared memory there. That is no obstacle where nobody
        // writes and nothing waits in the log: then the file is all there is. In any other case "immutable" would read old or torn
        // pages.
        if log_len(&path) > 0 || JobLock::holder(job)?.is_some() {
            return Err(refused);
        }
        LedgerReader::attach(&path, connect_immutable(&path))
    }

    /// Takes over a connection after checking that it leads to a ledger that we can read.
    pub(super) fn attach(path: &Path, connection: rusqlite::Result<Connection>) -> Result<LedgerReader, LedgerError> {
        let connection = connection.map_err(|error| LedgerError::from_sqlite("open", path, error))?;
        version(&connection).map_err(|error| write_error(&connection, "open", path, error))?.check(path)?;
        let split: String = meta(&connection, "split")
            .and_then(|split| split.ok_or(rusqlite::Error::QueryReturnedNoRows))
            .map_err(|error| write_error(&connection, "read", path, error))?;
        let split: Split =
            serde_json::from_str(&split).map_err(|error| damaged(path, format!("its split can't be read: {error}")))?;
        let knows_end = split.is_complete();
        Ok(LedgerReader { connection, path: path.to_path_buf(), split, knows_end, list: None })
    }

    /// The split of the job.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// Whether the ledger knew the split to its end when it was opened: then its totals are of all of it.
    pub(crate) fn knows_end(&self) -> bool {
        self.knows_end
    }

    /// Where the ledger lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the job stands.
    pub fn status(&self) -> Result<JobStatus, LedgerError> {
        self.read(|connection| {
            let (state, cause, since_us) = connection
                .prepare_cached("SELECT state, cause, time_us FROM states ORDER BY id DESC LIMIT 1")?
                .query_row([], |row| Ok((closed(row, 0, JobState::from_name)?, row.get(1)?, unsigned(row, 2)?)))?;
            let first = |sql: &str| -> rusqlite::Result<Option<u64>> {
                let time: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
                Ok(time.map(|time| time as u64))
            };
            let number = |key| meta::<i64>(connection, key).map(|number| number.unwrap_or_default() as u64);
            Ok(JobStatus {
                state,
                cause,
                since_us,
                created_us: number("created_us")?,
                started_us: first("SELECT min(time_us) FROM states WHERE state = 'Running'")?,
                ended_us: state.is_final().then_some(since_us),
                starts: number("starts")?,
            })
        })
    }

    /// The job in figures.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        self.read(totals)
    }

    /// Calls `each` for every settled mini-batch: first those that returned, then those out of tries, both in the order of
    /// their commits.
    pub fn for_each_mini_batch<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(MiniBatchRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let _snapshot = self.snapshot()?;
        let processes: HashMap<u64, (NodeId, ProcessNumber)> =
            self.process_rows()?.into_iter().map(|(id, node, number)| (id as u64, (node, number))).collect();
        self.for_each_record(|record, items| {
            let name = processes.get(&record.process);
            each(MiniBatchRow {
                mini_batch: record.mini_batch,
                failed_items: record.failed_items(items.end - items.start),
                unreadable: record.unreadable,
                items,
                attempt: record.attempt,
                node: name.map_or_else(|| NodeId(String::new()), |(node, _)| node.clone()),
                process: name.map(|(_, number)| *number),
                started_us: record.started_us,
                elapsed_us: record.elapsed_us,
                run_us: record.run_us,
                cpu_us: record.cpu_us,
                returned: record.returned,
                rows_len: record.rows_len,
                error: None,
            })
        })?;
        let failed =
            "SELECT mini_batch, first_item, items, attempt, node, process, started_us, elapsed_us, run_us, cpu_us,
                      failed_items, kind, message FROM failures WHERE fate IN (1, 5) ORDER BY id";
        self.for_each_row(failed, [], failed_mini_batch, &mut each)
    }

    /// Calls `each` for every failure that `filter` wants, in the order of commits.
    pub fn for_each_failure<E: From<LedgerError>>(
        &self,
        filter: &FailureFilter,
        mut each: impl FnMut(FailureRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT f.id, f.mini_batch, f.first_item, f.items, f.failed_items, f.attempt, f.fate, f.kind, f.message,
                     f.error, f.instance, iif(f.instance <= ?6, e.traceback, NULL), f.stderr, f.node, f.process, f.time_us
                     FROM failures f JOIN errors e ON e.id = f.error
                     WHERE f.id > ?1 AND (?2 IS NULL OR f.mini_batch = ?2) AND (?3 IS NULL OR f.kind = ?3)
                     AND (?4 IS NULL OR f.error = ?4) AND (NOT ?5 OR f.fate IN (1, 2, 4, 5)) ORDER BY f.id LIMIT ?7";
        let parameters = rusqlite::params![
            filter.after,
            filter.mini_batch.map(sql),
            filter.kind.map(ErrorKind::name),
            filter.group,
            filter.settled,
            super::FULL_TRACEBACKS as i64,
            filter.limit.map_or(-1, i64::from),
        ];
        self.for_each_row(query, parameters, failure, &mut each)
    }

    /// The distinct errors with the most instances, at most `limit` of them.
    pub fn error_groups(&self, limit: usize) -> Result<Vec<ErrorGroup>, LedgerError> {
        let query = "SELECT id, kind, message, traceback, count FROM errors ORDER BY count DESC, id LIMIT ?1";
        self.collect(query, [limit as i64], |row| {
            Ok(ErrorGroup {
                id: row.get(0)?,
                kind: closed(row, 1, ErrorKind::from_name)?,
                message: row.get(2)?,
                traceback: row.get(3)?,
                count: unsigned(row, 4)?,
            })
        })
    }

    /// Every process of the job, by node and number.
    pub fn processes(&self) -> Result<Vec<ProcessRow>, LedgerError> {
        let query =
            "SELECT node, number, pid, device, started_us, init_us, ended_us, how FROM processes ORDER BY node, number";
        self.collect(query, [], |row| {
            let optional = |column| row.get::<_, Option<i64>>(column).map(|time| time.map(|time| time as u64));
            Ok(ProcessRow {
                node: NodeId(row.get(0)?),
                process: ProcessNumber(row.get(1)?),
                pid: row.get::<_, Option<u32>>(2)?.unwrap_or_default(),
                device: row.get(3)?,
                started_us: optional(4)?.unwrap_or_default(),
                init_us: optional(5)?,
                ended_us: optional(6)?,
                how: row.get(7)?,
            })
        })
    }

    /// Calls `each` for every commit that added rows, in their order.
    pub fn for_each_group<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(GroupRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT id, offset, length, crc32, header_len, mini_batches FROM groups ORDER BY id";
        self.for_each_row(query, [], group, &mut each)
    }

    /// The last `count` commits that added rows, the latest first.
    pub(crate) fn last_groups(&self, count: u32) -> Result<Vec<GroupRow>, LedgerError> {
        let query = "SELECT id, offset, length, crc32, header_len, mini_batches FROM groups ORDER BY id DESC LIMIT ?1";
        self.collect(query, [count], group)
    }

    /// The first `count` commits that added rows behind the one with this id.
    pub(crate) fn groups_behind(&self, id: i64, count: u32) -> Result<Vec<GroupRow>, LedgerError> {
        let query =
            "SELECT id, offset, length, crc32, header_len, mini_batches FROM groups WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.collect(query, (id, count), group)
    }

    /// As [`LedgerReader::groups_behind`], with their packed records.
    pub(crate) fn packed_behind(&self, id: i64, count: u32) -> Result<Vec<(GroupRow, Vec<u8>)>, LedgerError> {
        let query = "SELECT id, offset, length, crc32, header_len, mini_batches, packed FROM groups WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.collect(query, (id, count), |row| Ok((group(row)?, row.get(6)?)))
    }

    /// Calls `each` for every commit and its packed records.
    pub(crate) fn for_each_packed<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(GroupRow, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT id, offset, length, crc32, header_len, mini_batches, packed FROM groups ORDER BY id";
        self.rows(query, [], |rows| {
            while let Some(row) = rows.next().map_err(|error| self.error(error))? {
                let parsed = group(row).and_then(|group| Ok((group, row.get_ref(6)?.as_blob()?)));
                let (group, packed) = parsed.map_err(|error| self.error(error))?;
                each(group, packed)?;
            }
            Ok(())
        })
    }

    /// Calls `each` for every mini-batch that returned.
    pub(crate) fn for_each_record<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(Record, Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each_packed(|group, packed| {
            for record in Unpacker::new(packed, &self.split) {
                let (record, items) =
                    record.map_err(|error| damaged(&self.path, format!("commit {}: {error}", group.id)))?;
                each(record, items)?;
            }
            Ok(())
        })
    }

    /// Calls `each` for every mini-batch out of tries.
    pub(crate) fn for_each_failed<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut((u64, Range<u64>)) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT mini_batch, first_item, items FROM failures WHERE fate = 1 ORDER BY mini_batch";
        self.for_each_row(query, [], interval, &mut each)
    }

    /// Whether `retry --failed` has anything to try.
    pub(crate) fn anything_out_of_tries(&self) -> Result<bool, LedgerError> {
        self.read(|connection| {
            connection.query_row("SELECT EXISTS (SELECT 1 FROM failures WHERE fate IN (1, 5))", [], |row| row.get(0))
        })
    }

    /// Calls `each` for every failed attempt, with its time in `run()`, µs.
    pub(crate) fn for_each_failed_attempt<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each_row(
            "SELECT run_us FROM failures WHERE fate IN (0, 1, 3, 5)",
            [],
            |row| unsigned(row, 0),
            &mut each,
        )
    }

    /// Calls `each` for every failed attempt that was to be followed by another one of its mini-batch, settled since or not.
    pub(crate) fn for_each_spent<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut(FailedAttempt) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT mini_batch, first_item, items, attempt FROM failures WHERE fate IN (0, 5)";
        let parse = |row: &Row<'_>| {
            let (mini_batch, items) = interval(row)?;
            Ok(FailedAttempt { mini_batch, items, attempt: row.get(3)? })
        };
        self.for_each_row(query, [], parse, &mut each)
    }

    /// Calls `each` for every part of a mini-batch that is out of tries.
    pub(crate) fn for_each_failed_part<E: From<LedgerError>>(
        &self,
        mut each: impl FnMut((u64, Range<u64>)) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = "SELECT mini_batch, first_item, items FROM failures WHERE fate = 5 ORDER BY mini_batch";
        self.for_each_row(query, [], interval, &mut each)
    }

    /// The mini-batches under suspicion.
    pub fn suspects(&self) -> Result<Vec<Suspect>, LedgerError> {
        self.collect("SELECT mini_batch, host_deaths FROM suspects ORDER BY mini_batch", [], |row| {
            Ok(Suspect { mini_batch: unsigned(row, 0)?, host_deaths: row.get(1)? })
        })
    }

    /// A value of the table `meta`.
    pub(crate) fn meta<T: rusqlite::types::FromSql>(&self, key: &str) -> Result<Option<T>, LedgerError> {
        self.read(|connection| meta(connection, key))
    }

    /// Keeps what later calls see at one state until it is dropped.
    pub(crate) fn snapshot(&self) -> Result<rusqlite::Transaction<'_>, LedgerError> {
        let transaction = self.read(Connection::unchecked_transaction)?;
        if let Some(list) = &self.list {
            // Mini-batches are safe in the list before anything of them is recorded. A transaction sees what there is when it first reads.
            self.totals()?;
            list.grow().map_err(|error| damaged(&self.path, format!("its split can't be read: {error}")))?;
        }
        Ok(transaction)
    }

    /// What SQLite itself finds wrong with the file, one line each; empty if it is sound.
    pub(crate) fn integrity(&self, limit: u32) -> Result<Vec<String>, LedgerError> {
        let lines = self.collect(&format!("PRAGMA quick_check({limit})"), [], |row| row.get::<_, String>(0))?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    pub(super) fn error(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::from_sqlite("read", &self.path, error)
    }

    fn read<'a, T>(&'a self, read: impl FnOnce(&'a Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        read(&self.connection).map_err(|error| self.error(error))
    }

    /// Row, node and number of every process.
    pub(super) fn process_rows(&self) -> Result<Vec<(i64, NodeId, ProcessNumber)>, LedgerError> {
        self.collect("SELECT id, node, number FROM processes", [], |row| {
            Ok((row.get(0)?, NodeId(row.get(1)?), ProcessNumber(row.get(2)?)))
        })
    }

    fn rows<T, E: From<LedgerError>>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        use_rows: impl FnOnce(&mut Rows<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut statement = self.read(|connection| connection.prepare_cached(query))?;
        let mut rows = statement.query(parameters).map_err(|error| self.error(error))?;
        use_rows(&mut rows)
    }

    pub(super) fn for_each_row<T, E: From<LedgerError>>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        parse: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        each: &mut impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.rows(query, parameters, |rows| {
            while let Some(row) = rows.next().map_err(|error| self.error(error))? {
                each(parse(row).map_err(|error| self.error(error))?)?;
            }
            Ok(())
        })
    }

    pub(super) fn collect<T>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        parse: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, LedgerError> {
        let mut all = Vec::new();
        self.for_each_row(query, parameters, parse, &mut |row| {
            all.push(row);
            Ok::<(), LedgerError>(())
        })?;
        Ok(all)
    }
}

pub(super) fn damaged(path: &Path, what: String) -> LedgerError {
    LedgerError::Damaged { path: path.to_path_buf(), what, source: None }
}

/// A mini-batch and items of it.
fn interval(row: &Row<'_>) -> rusqlite::Result<(u64, Range<u64>)> {
    let first = unsigned(row, 1)?;
    Ok((unsigned(row, 0)?, first..first.saturating_add(unsigned(row, 2)?)))
}

fn group(row: &Row<'_>) -> rusqlite::Result<GroupRow> {
    Ok(GroupRow {
        id: row.get(0)?,
        offset: unsigned(row, 1)?,
        length: unsigned(row, 2)?,
        crc32: row.get(3)?,
        header_len: unsigned(row, 4)?,
        mini_batches: unsigned(row, 5)?,
    })
}

fn failure(row: &Row<'_>) -> rusqlite::Result<FailureRow> {
    let first = unsigned(row, 2)?;
    let fate: i64 = row.get(6)?;
    Ok(FailureRow {
        id: row.get(0)?,
        mini_batch: row.get::<_, Option<i64>>(1)?.map(|mini_batch| mini_batch as u64),
        items: first..first.saturating_add(unsigned(row, 3)?),
        failed_items: unsigned(row, 4)?,
        attempt: row.get(5)?,
        settled: [Fate::MiniBatchFailed, Fate::ItemsFailed, Fate::NotStarted, Fate::PartFailed]
            .iter()
            .any(|settles| *settles as i64 == fate),
        kind: closed(row, 7, ErrorKind::from_name)?,
        message: row.get(8)?,
        group: row.get(9)?,
        instance: unsigned(row, 10)?,
        traceback: row.get(11)?,
        stderr: row.get(12)?,
        node: NodeId(row.get(13)?),
        process: row.get::<_, Option<u32>>(14)?.map(ProcessNumber),
        time_us: unsigned(row, 15)?,
    })
}

fn failed_mini_batch(row: &Row<'_>) -> rusqlite::Result<MiniBatchRow> {
    let first = unsigned(row, 1)?;
    Ok(MiniBatchRow {
        mini_batch: unsigned(row, 0)?,
        items: first..first.saturating_add(unsigned(row, 2)?),
        attempt: row.get(3)?,
        node: NodeId(row.get(4)?),
        process: row.get::<_, Option<u32>>(5)?.map(ProcessNumber),
        started_us: unsigned(row, 6)?,
        elapsed_us: unsigned(row, 7)?,
        run_us: unsigned(row, 8)?,
        cpu_us: unsigned(row, 9)?,
        returned: 0,
        failed_items: unsigned(row, 10)?,
        unreadable: 0,
        rows_len: 0,
        error: Some((closed(row, 11, ErrorKind::from_name)?, row.get(12)?)),
    })
}
