//! What one transaction records.

use std::borrow::Cow;
use std::ops::Range;

use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::ErrorKind;
use rusqlite::{Connection, params};

use super::error_groups::{TEXT_LIMIT, TRACEBACK_LIMIT, bounded, key};
use super::schema::{set_meta, set_totals, sql};
use super::{FULL_TRACEBACKS, FailureRow, GroupRow, Totals};

/// A commit, all of it or nothing.
#[derive(Debug)]
pub(crate) struct GroupRecord<'a> {
    /// The rows added to the output file; None if nothing returned.
    pub group: Option<NewGroup<'a>>,
    /// The columns of a table that the rows widen; None: they stay as they are.
    pub columns: Option<&'a [u8]>,
    /// In the order in which they get their ids.
    pub failures: &'a [NewFailure<'a>],
    /// In the order in which they happened.
    pub processes: &'a [ProcessChange<'a>],
    /// Mini-batches held by a node that died.
    pub suspected: &'a [u64],
    /// Suspects that settled.
    pub cleared: &'a [u64],
    /// As they are afterwards.
    pub totals: &'a Totals,
}

/// See [`GroupRecord::group`].
#[derive(Debug)]
pub(crate) struct NewGroup<'a> {
    pub row: GroupRow,
    pub packed: &'a [u8],
}

/// What a failure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    TriedAgain = 0,
    MiniBatchFailed = 1,
    ItemsFailed = 2,
    /// Opened again on request.
    Reopened = 3,
    /// A process could not start; no mini-batch was concerned.
    NotStarted = 4,
    /// A part of a mini-batch is out of tries.
    PartFailed = 5,
}

impl Fate {
    /// See [`FailureRow::settled`].
    pub fn settles(self) -> bool {
        !matches!(self, Fate::TriedAgain | Fate::Reopened)
    }
}

/// What is opened again on request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reopened {
    /// Mini-batches that are out of tries as a whole.
    pub whole: u64,
    /// Mini-batches that were bisected, and are settled: all of their parts failed.
    pub all_parts: u64,
    /// Some of their parts failed, and others returned.
    pub some_parts: u64,
    /// They are not settled to their end.
    pub still_open: u64,
    /// Items that are out of tries.
    pub items: u64,
}

impl Reopened {
    /// How many mini-batches it concerns.
    pub fn mini_batches(&self) -> u64 {
        self.whole + self.all_parts + self.some_parts + self.still_open
    }
}

/// A failure without the numbers that the ledger gives it.
#[derive(Debug)]
pub(crate) struct NewFailure<'a> {
    pub mini_batch: Option<u64>,
    pub items: Range<u64>,
    pub failed_items: u64,
    pub attempt: u32,
    pub fate: Fate,
    pub kind: ErrorKind,
    pub message: Cow<'a, str>,
    pub traceback: &'a str,
    pub stderr: &'a str,
    pub node: &'a NodeId,
    pub process: Option<ProcessNumber>,
    pub time_us: u64,
    pub started_us: u64,
    pub elapsed_us: u64,
    pub run_us: u64,
    pub cpu_us: u64,
}

/// What is known about a process, by its row.
#[derive(Debug)]
pub(crate) enum ProcessChange<'a> {
    Started { id: i64, pid: u32, device: Option<&'a str>, time_us: u64 },
    InitDone { id: i64, elapsed_us: u64 },
    InitFailed { id: i64, failure: NewFailure<'a> },
    Ended { id: i64, how: &'a str, time_us: u64 },
}

/// Writes everything of `record` but the totals' guard; `next_failure` is the id of its first failure.
pub(super) fn write(
    connection: &Connection,
    record: &GroupRecord<'_>,
    next_failure: i64,
) -> rusqlite::Result<Vec<FailureRow>> {
    if let Some(NewGroup { row, packed }) = &record.group {
        connection.prepare_cached("INSERT INTO groups VALUES (?1,?2,?3,?4,?5,?6,?7)")?.execute(params![
            row.id,
            sql(row.offset),
            sql(row.length),
            row.crc32,
            sql(row.header_len),
            sql(row.mini_batches),
            packed
        ])?;
    }
    if let Some(columns) = record.columns {
        set_meta(connection, "columns", columns)?;
    }
    let mut failures = Vec::with_capacity(record.failures.len());
    let next = |failures: &Vec<FailureRow>| next_failure + failures.len() as i64;
    for change in record.processes {
        failures.extend(change.write(connection, next(&failures))?);
    }
    for mini_batch in record.suspected {
        connection
            .prepare_cached(
                "INSERT INTO suspects VALUES (?1, 1) ON CONFLICT (mini_batch) DO UPDATE SET host_deaths = host_deaths + 1",
            )?
            .execute([sql(*mini_batch)])?;
    }
    for mini_batch in record.cleared {
        connection.prepare_cached("DELETE FROM suspects WHERE mini_batch = ?1")?.execute([sql(*mini_batch)])?;
    }
    set_totals(connection, record.totals)?;
    for failure in record.failures {
        failures.push(failure.write(connection, next(&failures))?);
    }
    Ok(failures)
}

/// Counts one more instance of a distinct error. Returns its id, which instance this is, and the traceback if it is among
/// the first.
fn count_error(
    connection: &Connection,
    kind: ErrorKind,
    message: &str,
    traceback: &str,
) -> rusqlite::Result<(i64, u64, Option<String>)> {
    let (id, count): (i64, i64) = connection
        .prepare_cached(
            "INSERT INTO errors (key, kind, message, traceback, count) VALUES (?1, ?2, ?3, ?4, 1)
             ON CONFLICT (key) DO UPDATE SET count = count + 1 RETURNING id, count",
        )?
        .query_row(
            params![
                key(kind, message, traceback),
                kind.name(),
                bounded(message, TEXT_LIMIT),
                bounded(traceback, TRACEBACK_LIMIT)
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    let instance = count as u64;
    let traceback = (instance <= FULL_TRACEBACKS)
        .then(|| connection.prepare_cached("SELECT traceback FROM errors WHERE id = ?1")?.query_row([id], |r| r.get(0)))
        .transpose()?;
    Ok((id, instance, traceback))
}

impl NewFailure<'_> {
    fn write(&self, connection: &Connection, id: i64) -> rusqlite::Result<FailureRow> {
        let (group, instance, traceback) = count_error(connection, self.kind, &self.message, self.traceback)?;
        let message = bounded(&self.message, TEXT_LIMIT);
        let stderr = bounded(self.stderr, TEXT_LIMIT);
        connection
            .prepare_cached(
                "INSERT INTO failures VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)",
            )?
            .execute(params![
                id,
                self.mini_batch.map(sql),
                sql(self.items.start),
                sql(self.items.end - self.items.start),
                sql(self.failed_items),
                self.attempt,
                self.fate as i64,
                self.kind.name(),
                message,
                group,
                sql(instance),
                stderr,
                self.node.0,
                self.process.map(|process| process.0),
                sql(self.time_us),
                sql(self.started_us),
                sql(self.elapsed_us),
                sql(self.run_us),
                sql(self.cpu_us),
            ])?;
        Ok(FailureRow {
            id,
            mini_batch: self.mini_batch,
            items: self.items.clone(),
            failed_items: self.failed_items,
            attempt: self.attempt,
            settled: self.fate.settles(),
            kind: self.kind,
            message: message.into_owned(),
            group,
            instance,
            traceback,
            stderr: stderr.into_owned(),
            node: self.node.clone(),
            process: self.process,
            time_us: self.time_us,
        })
    }
}

impl ProcessChange<'_> {
    /// Events may repeat: what is known already stays as it is. `next_failure` is the id of the failure that it may be.
    fn write(&self, connection: &Connection, next_failure: i64) -> rusqlite::Result<Option<FailureRow>> {
        match *self {
            ProcessChange::Started { id, pid, device, time_us } => connection
                .prepare_cached(
                    "UPDATE processes SET pid = ?2, device = ?3, started_us = ?4 WHERE id = ?1 AND pid IS NULL",
                )?
                .execute(params![id, pid, device, sql(time_us)])?,
            ProcessChange::InitDone { id, elapsed_us } => connection
                .prepare_cached("UPDATE processes SET init_us = ?2 WHERE id = ?1 AND init_us IS NULL")?
                .execute(params![id, sql(elapsed_us)])?,
            ProcessChange::InitFailed { id, ref failure } => {
                let known: Option<i64> = connection
                    .prepare_cached("SELECT init_error FROM processes WHERE id = ?1")?
                    .query_row([id], |row| row.get(0))?;
                if known.is_some() {
                    return Ok(None);
                }
                let row = failure.write(connection, next_failure)?;
                connection
                    .prepare_cached("UPDATE processes SET init_error = ?2 WHERE id = ?1")?
                    .execute(params![id, row.group])?;
                return Ok(Some(row));
            }
            ProcessChange::Ended { id, how, time_us } => connection
                .prepare_cached("UPDATE processes SET how = ?2, ended_us = ?3 WHERE id = ?1 AND how IS NULL")?
                .execute(params![id, bounded(how, TEXT_LIMIT), sql(time_us)])?,
        };
        Ok(None)
    }
}
