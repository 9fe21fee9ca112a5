//! The tables, and what identifies a file as a ledger.

use rusqlite::types::{FromSql, Type};
use rusqlite::{Connection, Row};

use super::Totals;

/// The schema's version (`PRAGMA user_version`). A change that an older program can't read counts it up.
pub(super) const VERSION: i64 = 1;

/// `PRAGMA application_id`: "fanf".
pub(super) const APPLICATION_ID: i64 = 0x6661_6E66;

/// Every number of items, bytes or microseconds is an INTEGER: 63 bits are enough for all of them.
pub(super) const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The newest row is the job's state.
CREATE TABLE states (id INTEGER PRIMARY KEY, state TEXT NOT NULL, cause TEXT, time_us INTEGER NOT NULL) STRICT;

-- One row for each commit that added rows; `packed` is described in packed.rs.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    header_len INTEGER NOT NULL,
    mini_batches INTEGER NOT NULL,
    packed BLOB NOT NULL
) STRICT;

-- Distinct errors.
CREATE TABLE errors (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    traceback TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;

-- `fate`: 0 tried again, 1 settled its mini-batch as failed, 2 settled items of a mini-batch that returned,
-- 3 as 0 or 1, before the mini-batch was opened again on request,
-- 4 a process could not start: `mini_batch` is NULL,
-- 5 settled a part of its mini-batch as failed.
CREATE TABLE failures (
    id INTEGER PRIMARY KEY,
    mini_batch INTEGER,
    first_item INTEGER NOT NULL,
    items INTEGER NOT NULL,
    failed_items INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    fate INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    error INTEGER NOT NULL REFERENCES errors (id),
    instance INTEGER NOT NULL,
    stderr TEXT NOT NULL,
    node TEXT NOT NULL,
    process INTEGER,
    time_us INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    elapsed_us INTEGER NOT NULL,
    run_us INTEGER NOT NULL,
    cpu_us INTEGER NOT NULL
) STRICT;
CREATE INDEX failures_settled ON failures (mini_batch) WHERE fate = 1;
CREATE INDEX failures_spent ON failures (mini_batch, attempt) WHERE fate = 0;

CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    number INTEGER NOT NULL,
    pid INTEGER,
    device TEXT,
    started_us INTEGER,
    init_us INTEGER,
    init_error INTEGER REFERENCES errors (id),
    ended_us INTEGER,
    how TEXT,
    UNIQUE (node, number)
) STRICT;

CREATE TABLE suspects (mini_batch INTEGER PRIMARY KEY, host_deaths INTEGER NOT NULL) STRICT;

-- One row, changed in the transaction that changes what it counts.
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    committed_len INTEGER NOT NULL,
    items INTEGER NOT NULL,
    items_succeeded INTEGER NOT NULL,
    items_failed INTEGER NOT NULL,
    mini_batches INTEGER NOT NULL,
    mini_batches_succeeded INTEGER NOT NULL,
    mini_batches_failed INTEGER NOT NULL,
    mini_batches_short INTEGER NOT NULL,
    surplus_results INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    attempts_failed INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    run_us INTEGER NOT NULL,
    returned INTEGER NOT NULL
) STRICT;
";

/// A number for SQLite. What exceeds 63 bits (only a broken clock or message can) becomes the largest there is.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column that holds a number that is never negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|error| nonsense(column, Type::Integer, error))
}

/// A column whose text is one of a closed set.
pub(super) fn closed<T>(row: &Row<'_>, column: usize, from_name: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let name: String = row.get(column)?;
    from_name(&name).ok_or_else(|| nonsense(column, Type::Text, format!("`{name}` is not one of the known words")))
}

fn nonsense(column: usize, kind: Type, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, why.into())
}

/// A value of the table `meta`, if it is there.
pub(super) fn meta<T: FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    let value = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0));
    match value {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        value => value.map(Some),
    }
}

/// Sets a value of the table `meta`.
pub(super) fn set_meta(connection: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
        .execute(rusqlite::params![key, value])
        .map(drop)
}

/// Reads the totals.
pub(super) fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    connection.prepare_cached("SELECT * FROM totals WHERE one = 1")?.query_row([], |row| {
        Ok(Totals {
            committed_len: unsigned(row, 1)?,
            items: unsigned(row, 2)?,
            items_succeeded: unsigned(row, 3)?,
            items_failed: unsigned(row, 4)?,
            mini_batches: unsigned(row, 5)?,
            mini_batches_succeeded: unsigned(row, 6)?,
            mini_batches_failed: unsigned(row, 7)?,
            mini_batches_short: unsigned(row, 8)?,
            surplus_results: unsigned(row, 9)?,
            attempts: unsigned(row, 10)?,
            attempts_failed: unsigned(row, 11)?,
            duplicates: unsigned(row, 12)?,
            run_us: unsigned(row, 13)?,
            returned: unsigned(row, 14)?,
        })
    })
}

/// Writes the totals.
pub(super) fn set_totals(connection: &Connection, totals: &Totals) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO totals VALUES (1,?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)")?
        .execute([
            sql(totals.committed_len),
            sql(totals.items),
            sql(totals.items_succeeded),
            sql(totals.items_failed),
            sql(totals.mini_batches),
            sql(totals.mini_batches_succeeded),
            sql(totals.mini_batches_failed),
            sql(totals.mini_batches_short),
            sql(totals.surplus_results),
            sql(totals.attempts),
            sql(totals.attempts_failed),
            sql(totals.duplicates),
            sql(totals.run_us),
            sql(totals.returned),
        ])
        .map(drop)
}
