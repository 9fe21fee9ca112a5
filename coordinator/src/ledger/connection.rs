//! Connections to a ledger, and what a database must say of itself to be one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfold_shared::report::is_disk_full;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::LedgerError;
use super::reader::damaged;
use super::schema::{APPLICATION_ID, VERSION};

/// For readers.
pub(super) const READ_ONLY: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

pub(super) fn connect(path: impl AsRef<Path>, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    // Only for the moments in which another connection recovers or removes the log.
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `file:/path?immutable=1`, with what URIs reserve escaped.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02X}").bytes()),
            byte => uri.push(*byte),
        }
    }
    uri.extend(b"?immutable=1");
    PathBuf::from(OsString::from_vec(uri))
}

/// For a file that nobody writes to while it is read.
pub(super) fn connect_immutable(path: &Path) -> rusqlite::Result<Connection> {
    connect(immutable_uri(path), READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// Sorts an error of a connection that may write. SQLite has no code for a full quota, or for shared memory (which readers make, too) without
/// room: it reports a failed write, and keeps the number.
pub(super) fn write_error(
    connection: &Connection,
    operation: &'static str,
    path: &Path,
    error: rusqlite::Error,
) -> LedgerError {
    if let rusqlite::Error::SqliteFailure(failure, _) = &error
        && failure.code == ErrorCode::SystemIoFailure
        // A failed sync (another extended code) is not lack of space even if the number says so: the commit may be in the log.
        && matches!(failure.extended_code, rusqlite::ffi::SQLITE_IOERR_WRITE | rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
    {
        // SAFETY: the handle belongs to `connection`, which is alive and used by this thread only.
        let errno = unsafe { rusqlite::ffi::sqlite3_system_errno(connection.handle()) };
        if is_disk_full(&io::Error::from_raw_os_error(errno)) {
            return LedgerError::Full { path: path.to_path_buf(), source: Box::new(error) };
        }
    }
    LedgerError::from_sqlite(operation, path, error)
}

/// Bytes of the write-ahead log: of commits that may not be in the database file yet.
pub(super) fn log_len(path: &Path) -> u64 {
    fs::metadata(with_suffix(path, "-wal")).map_or(0, |file| file.len())
}

/// What a database says it is.
pub(super) struct Version {
    application_id: i64,
    version: i64,
}

/// Reads what a database says it is.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Version> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok(Version { application_id: pragma("application_id")?, version: pragma("user_version")? })
}

impl Version {
    pub(super) fn check(&self, path: &Path) -> Result<(), LedgerError> {
        if self.application_id != APPLICATION_ID {
            return Err(damaged(path, "it is empty, or a database of another program".into()));
        }
        if self.version > VERSION {
            return Err(LedgerError::Newer { path: path.to_path_buf(), found: self.version, known: VERSION });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_can_be_opened_as_immutable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a?b=c#d%41 e");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (7);").unwrap();
        drop(connection);
        let reader = connect_immutable(&path).unwrap();
        assert_eq!(reader.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)), Ok(7));
        assert_eq!((log_len(&path), fs::read_dir(dir.path()).unwrap().count()), (0, 1), "nothing is made beside it");
        assert!(reader.execute("INSERT INTO t VALUES (8)", []).is_err());
    }
}
