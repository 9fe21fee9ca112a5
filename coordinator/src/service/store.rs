//! What the service knows of its jobs beside what lies in their directories: which there are, what is wanted of them, who asked, and what
//! is still to be told. SQLite, synced at every change; a job that was accepted is in it.
//!
//! Submitting takes two steps, so that no crash between them makes a job twice or loses one: an id and a directory are *reserved*, then, once
//! the directory holds the job, it is *accepted*.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanfold_shared::clock::wall_us;
use fanfold_shared::fleet::JobEvent;
use fanfold_shared::fleet::names::event_key;
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::report::{ExitCode, Report};
use fanfold_shared::state::JobState;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// `PRAGMA user_version`.
const VERSION: i64 = 1;

/// The audit keeps so many lines.
const AUDIT: i64 = 100_000;

const TABLES: &str = "
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    dir TEXT NOT NULL,
    name TEXT NOT NULL,
    pool TEXT NOT NULL,
    priority INTEGER NOT NULL,
    node_count INTEGER,
    -- reserved, or accepted
    accepted INTEGER NOT NULL DEFAULT 0,
    -- run, paused, canceled
    wanted TEXT NOT NULL DEFAULT 'run',
    -- A `retry --failed` that has not begun, JSON: its overrides, or an object that has them and the script.
    retry TEXT,
    state TEXT NOT NULL DEFAULT 'Queued',
    cause TEXT,
    submitted_us INTEGER NOT NULL,
    ended_us INTEGER,
    -- The idempotency key, and the digest of what was asked with it.
    key TEXT UNIQUE,
    digest BLOB NOT NULL,
    source TEXT NOT NULL,
    -- The message that asked for it is acknowledged.
    answered INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_digest ON jobs (digest) WHERE answered = 0;

-- Who asked for what.
CREATE TABLE audit (seq INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, job TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL) STRICT;

-- Events that are not known to be published.
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, routing_key TEXT NOT NULL, body BLOB NOT NULL) STRICT;
";

/// What somebody wants of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// That it runs.
    Run,
    /// That it stands still.
    Paused,
    /// That it ends without a result.
    Canceled,
}

impl Intent {
    fn name(self) -> &'static str {
        match self {
            Intent::Run => "run",
            Intent::Paused => "paused",
            Intent::Canceled => "canceled",
        }
    }
}

/// A job as the service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Counted up as they come.
    pub seq: i64,
    /// Its id.
    pub id: JobId,
    /// Where it lies.
    pub dir: PathBuf,
    /// Its name in the job file.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// 0 to 9.
    pub priority: u8,
    /// The most nodes; None: all that come.
    pub node_count: Option<u32>,
    /// What is wanted of it.
    pub wanted: Intent,
    /// A `retry --failed` that has not begun.
    pub retry: Option<Retry>,
    /// The last state it came into.
    pub state: JobState,
    /// Why.
    pub cause: Option<String>,
    /// When it came, microseconds since the epoch.
    pub submitted_us: u64,
    /// When it came into a final state.
    pub ended_us: Option<u64>,
}

/// What a retry was asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// What is to be set otherwise.
    pub set: Vec<String>,
    /// The copy of a new script; None: the job runs what it ran last.
    pub script: Option<ScriptNumber>,
}

impl Retry {
    fn to_text(&self) -> String {
        match self.script {
            // As versions without scripts wrote it, and read it.
            None => serde_json::to_string(&self.set),
            Some(_) => serde_json::to_string(self),
        }
        .expect("strings and numbers can be written")
    }

    fn from_text(text: &str) -> Option<Retry> {
        let plain = serde_json::from_str(text).map(|set| Retry { set, script: None });
        plain.or_else(|_| serde_json::from_str(text)).ok()
    }
}

/// A job that is about to be accepted.
#[derive(Clone, Debug)]
pub struct Reservation<'a> {
    /// Its id.
    pub id: &'a JobId,
    /// Where it will lie.
    pub dir: &'a Path,
    /// Its name in the job file.
    pub name: &'a str,
    /// Its pool.
    pub pool: &'a str,
    /// 0 to 9.
    pub priority: u8,
    /// The most nodes.
    pub node_count: Option<u32>,
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// Of what was asked.
    pub digest: &'a [u8],
    /// `http`, `queue`.
    pub source: &'a str,
}

/// An earlier request with the same idempotency key.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it became.
    pub job: Job,
    /// The same was asked.
    pub same: bool,
    /// It is a job; if not, the service died while it made it.
    pub accepted: bool,
}

/// The store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refuses.
    #[error("cannot {doing} the service's store `{}`", path.display())]
    Sqlite {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A later version wrote it.
    #[error("the service's store `{}` was written by a later version of fanfold (format {found}, this program knows {VERSION})", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
}

impl Report for StoreError {
    fn exit_code(&self) -> ExitCode {
        match self {
            StoreError::Later { .. } => ExitCode::Usage,
            StoreError::Sqlite { .. } => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::Later { .. } => "run the newer fanfold, or give another `--state`".into(),
            StoreError::Sqlite { .. } => {
                "jobs are safe in their directories; see to that disk, or start with an empty `--state` and submit them again".into()
            }
        })
    }
}

/// See the module documentation.
pub struct JobStore {
    path: PathBuf,
    connection: Mutex<Connection>,
}

const COLUMNS: &str =
    "seq, id, dir, name, pool, priority, node_count, wanted, retry, state, cause, submitted_us, ended_us";

fn job(row: &Row) -> rusqlite::Result<Job> {
    let wanted: String = row.get(7)?;
    let retry: Option<String> = row.get(8)?;
    let state: String = row.get(9)?;
    Ok(Job {
        seq: row.get(0)?,
        id: JobId(row.get(1)?),
        dir: PathBuf::from(row.get::<_, String>(2)?),
        name: row.get(3)?,
        pool: row.get(4)?,
        priority: row.get(5)?,
        node_count: row.get(6)?,
        wanted: match wanted.as_str() {
            "canceled" => Intent::Canceled,
            "paused" => Intent::Paused,
            _ => Intent::Run,
        },
        retry: retry.and_then(|text| Retry::from_text(&text)),
        state: JobState::from_name(&state).unwrap_or(JobState::Queued),
        cause: row.get(10)?,
        submitted_us: row.get::<_, i64>(11)? as u64,
        ended_us: row.get::<_, Option<i64>>(12)?.map(|us| us as u64),
    })
}

impl JobStore {
    /// Opens the store at `path`, making it if need be. Its caller holds the lock of the state directory.
    ///
    /// # Errors
    /// It can't be opened, or a later version wrote it.
    pub fn open(path: &Path) -> Result<JobStore, StoreError> {
        let failed = |source| StoreError::Sqlite { doing: "open", path: path.to_path_buf(), source };
        let connect = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, version))
        };
        let (connection, found) = connect().map_err(failed)?;
        match found {
            0 => connection
                .execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))
                .map_err(failed)?,
            VERSION => (),
            found => return Err(StoreError::Later { path: path.to_path_buf(), found }),
        }
        Ok(JobStore { path: path.to_path_buf(), connection: Mutex::new(connection) })
    }

    /// A thread that panicked here left no transaction open: they end with their guard.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let failed = |source| StoreError::Sqlite { doing: "read", path: self.path.clone(), source };
        work(&self.connection()).map_err(failed)
    }

    /// One transaction, durable when this returns.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let failed = |source| StoreError::Sqlite { doing: "write to", path: self.path.clone(), source };
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed)?;
        let outcome = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(outcome)
    }

    /// The jobs, the oldest first.
    ///
    /// # Errors
    /// The store can't be read; so for all below.
    pub fn jobs(&self) -> Result<Vec<Job>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE accepted ORDER BY seq"))?;
            query.query_map([], job)?.collect()
        })
    }

    /// The jobs that are not over, the most urgent and then the oldest first.
    pub fn unfinished(&self) -> Result<Vec<Job>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE accepted AND ended_us IS NULL ORDER BY priority DESC, seq"
            ))?;
            query.query_map([], job)?.collect()
        })
    }

    /// One job.
    pub fn job(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        self.read(|connection| {
            let query = format!("SELECT {COLUMNS} FROM jobs WHERE accepted AND id = ?");
            connection.query_row(&query, [&id.0], job).optional()
        })
    }

    /// What an earlier request with this key became.
    pub fn known(&self, key: &str, digest: &[u8]) -> Result<Option<Known>, StoreError> {
        self.find_known("key = ?1", params![key, digest])
    }

    /// What a message without a key became that was delivered before: the one that asked the same and was never acknowledged.
    pub fn unanswered(&self, digest: &[u8]) -> Result<Option<Known>, StoreError> {
        self.find_known(
            "?1 IS NULL AND answered = 0 AND source = 'queue' AND key IS NULL AND digest = ?2",
            params![None::<String>, digest],
        )
    }

    fn find_known(&self, which: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Option<Known>, StoreError> {
        let query = format!("SELECT {COLUMNS}, digest = ?2, accepted FROM jobs WHERE {which} LIMIT 1");
        self.read(|connection| {
            let known = |row: &Row| Ok(Known { job: job(row)?, same: row.get(13)?, accepted: row.get(14)? });
            connection.query_row(&query, parameters, known).optional()
        })
    }

    /// An id and a directory are taken, before anything is there.
    pub fn reserve(&self, new: &Reservation) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute(
                "INSERT INTO jobs (id, dir, name, pool, priority, node_count, submitted_us, key, digest, source)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    new.id.0,
                    new.dir.to_string_lossy(),
                    new.name,
                    new.pool,
                    new.priority,
                    new.node_count,
                    wall_us() as i64,
                    new.key,
                    new.digest,
                    new.source
                ],
            )
        })?;
        Ok(())
    }

    /// The directory holds the job. `event` says so.
    pub fn accept(&self, id: &JobId, who: &str, event: &JobEvent) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute("UPDATE jobs SET accepted = 1 WHERE id = ?", [&id.0])?;
            note(connection, id, who, "submit")?;
            tell(connection, event)
        })
    }

    /// It can't be a job after all.
    pub fn withdraw(&self, id: &JobId) -> Result<(), StoreError> {
        self.write(|connection| connection.execute("DELETE FROM jobs WHERE id = ? AND NOT accepted", [&id.0]))?;
        Ok(())
    }

    /// What was reserved without a key by a service that died: nobody was told, and nobody asks again.
    pub fn abandoned(&self) -> Result<Vec<(JobId, PathBuf)>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare("SELECT id, dir FROM jobs WHERE NOT accepted AND key IS NULL")?;
            query.query_map([], |row| Ok((JobId(row.get(0)?), PathBuf::from(row.get::<_, String>(1)?))))?.collect()
        })
    }

    /// The message that asked for it is acknowledged.
    pub fn answered(&self, id: &JobId) -> Result<(), StoreError> {
        self.write(|connection| connection.execute("UPDATE jobs SET answered = 1 WHERE id = ?", [&id.0]))?;
        Ok(())
    }

    /// Something is wanted of a job.
    pub fn want(&self, id: &JobId, wanted: Intent, who: &str, what: &str) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute("UPDATE jobs SET wanted = ? WHERE id = ?", [wanted.name(), &id.0])?;
            note(connection, id, who, what)
        })
    }

    /// A job that is over is to be tried again.
    pub fn retry(&self, id: &JobId, retry: &Retry, who: &str, event: &JobEvent) -> Result<(), StoreError> {
        let what = if retry.script.is_some() { "retry with a new script" } else { "retry" };
        self.write(|connection| {
            connection.execute(
                "UPDATE jobs SET retry = ?, wanted = 'run', state = 'Queued', cause = NULL, ended_us = NULL WHERE id = ?",
                [&retry.to_text(), &id.0],
            )?;
            note(connection, id, who, what)?;
            tell(connection, event)
        })
    }

    /// A job came into another state. `begun`: a retry that was wanted has begun.
    pub fn state(
        &self,
        id: &JobId,
        state: JobState,
        cause: Option<&str>,
        begun: bool,
        event: Option<&JobEvent>,
    ) -> Result<(), StoreError> {
        self.write(|connection| {
            let ended = state.is_final().then(|| wall_us() as i64);
            connection.execute(
                "UPDATE jobs SET state = ?, cause = ?, ended_us = ?, retry = CASE WHEN ? THEN NULL ELSE retry END WHERE id = ?",
                params![state.name(), cause, ended, begun, id.0],
            )?;
            event.map_or(Ok(()), |event| tell(connection, event))
        })
    }

    /// A retry changed what is kept of the job.
    pub fn update(&self, id: &JobId, pool: &str, priority: u8, node_count: Option<u32>) -> Result<(), StoreError> {
        self.write(|connection| {
            connection.execute(
                "UPDATE jobs SET pool = ?, priority = ?, node_count = ? WHERE id = ?",
                params![pool, priority, node_count, id.0],
            )
        })?;
        Ok(())
    }

    /// Somebody did something that is no order to a job.
    pub fn note(&self, who: &str, what: &str) -> Result<(), StoreError> {
        self.write(|connection| note(connection, &JobId(String::new()), who, what))
    }

    /// The oldest events that are still to be published: number, routing key, body.
    pub fn untold(&self, most: u32) -> Result<Vec<(i64, String, Vec<u8>)>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT seq, routing_key, body FROM outbox ORDER BY seq LIMIT ?")?;
            query.query_map([most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
    }

    /// Events up to this number are published.
    pub fn told(&self, to: i64) -> Result<(), StoreError> {
        self.write(|connection| connection.execute("DELETE FROM outbox WHERE seq <= ?", [to]))?;
        Ok(())
    }
}

fn note(connection: &Connection, id: &JobId, who: &str, what: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO audit (time_us, job, who, what) VALUES (?, ?, ?, ?)",
        params![wall_us() as i64, id.0, who, what],
    )?;
    connection.execute("DELETE FROM audit WHERE seq <= ?", [connection.last_insert_rowid() - AUDIT])?;
    Ok(())
}

fn tell(connection: &Connection, event: &JobEvent) -> rusqlite::Result<()> {
    let body = serde_json::to_vec(event).expect("plain types can be written");
    connection.execute(
        "INSERT INTO outbox (routing_key, body) VALUES (?, ?)",
        params![event_key(&event.job_id, &event.state), body],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
