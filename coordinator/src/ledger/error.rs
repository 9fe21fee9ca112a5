//! What can be wrong with a ledger, in the user's words.

use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{ExitCode, IoError, Report, is_disk_full};
use rusqlite::ErrorCode;

/// Why a ledger can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another program holds the job directory's lock.
    #[error("job directory `{}` is in use by {holder}", job.display())]
    InUse {
        /// The job directory.
        job: PathBuf,
        /// Process id, host and since when, as the holder wrote it.
        holder: String,
    },
    /// There is no ledger.
    #[error("job directory `{}` has no ledger", job.display())]
    Absent {
        /// The job directory.
        job: PathBuf,
    },
    /// The ledger lies outside the job directory, and not on this machine or not any more.
    #[error("ledger `{}`, named by `{}`, does not exist", ledger.display(), pointer.display())]
    PointeeAbsent {
        /// The file that names it.
        pointer: PathBuf,
        /// What it names.
        ledger: PathBuf,
    },
    /// The ledger would lie on a network file system.
    #[error("ledger `{}` can't lie on a network file system ({file_system})", ledger.display())]
    Network {
        /// Where it lies or would lie.
        ledger: PathBuf,
        /// Such as `nfs`.
        file_system: &'static str,
        /// Whether it lies there already: somebody copied it.
        exists: bool,
    },
    /// It belongs to another job.
    #[error("ledger `{}` belongs to another job: its {what} is `{recorded}`, this job's is `{wanted}`", path.display())]
    OtherJob {
        /// The ledger.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the ledger says.
        recorded: String,
        /// What was asked for.
        wanted: String,
    },
    /// A later program wrote it.
    #[error("ledger `{}` has schema version {found}, this program knows up to {known}", path.display())]
    Newer {
        /// The ledger.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Its content can't be right.
    #[error("ledger `{}` is damaged: {what}", path.display())]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
        /// What SQLite says, where SQLite found it.
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// There is no room for it. Nothing was recorded.
    #[error("no space for ledger `{}`", path.display())]
    Full {
        /// The ledger.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Any other refusal of SQLite's.
    #[error("cannot {operation} ledger `{}`", path.display())]
    Sqlite {
        /// A verb.
        operation: &'static str,
        /// The ledger.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A file beside the ledger.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl LedgerError {
    /// Sorts an error of SQLite's: damage and lack of space have their own names.
    pub(super) fn from_sqlite(operation: &'static str, path: &Path, source: rusqlite::Error) -> LedgerError {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => LedgerError::damaged_by(path, "SQLite can't follow its pages", source),
            Some(ErrorCode::NotADatabase) => LedgerError::damaged_by(path, "it is not a database", source),
            Some(ErrorCode::DiskFull) => LedgerError::Full { path, source: Box::new(source) },
            _ if matches!(
                source,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::QueryReturnedNoRows
            ) =>
            {
                LedgerError::damaged_by(path, "a row is missing or holds what can't be there", source)
            }
            _ => LedgerError::Sqlite { operation, path, source },
        }
    }

    fn damaged_by(path: PathBuf, what: &str, source: rusqlite::Error) -> LedgerError {
        LedgerError::Damaged { path, what: what.to_string(), source: Some(source) }
    }

    /// An error of the operating system on the ledger itself.
    pub(super) fn from_io(operation: &'static str, path: &Path, source: io::Error) -> LedgerError {
        match is_disk_full(&source) {
            true => LedgerError::Full { path: path.to_path_buf(), source: Box::new(source) },
            false => IoError { operation, path: path.to_path_buf(), source }.into(),
        }
    }
}

impl Report for LedgerError {
    fn exit_code(&self) -> ExitCode {
        match self {
            LedgerError::Full { .. } | LedgerError::Sqlite { .. } => ExitCode::Failed,
            LedgerError::Io(error) => error.exit_code(),
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            LedgerError::InUse { .. } => "wait for it or stop it; `fanfold status` shows what it does".into(),
            LedgerError::Absent { job } => {
                format!("check the path; `fanfold run JOB.yaml --job-dir {}` starts a job there", job.display())
            }
            LedgerError::PointeeAbsent { ledger, .. } => format!(
                "run this on the machine that started the job, or bring `{}` back; without it nobody knows which \
                 results are in",
                ledger.display()
            ),
            LedgerError::Network { exists: false, .. } => {
                "set XDG_STATE_HOME to a directory on a local disk: SQLite needs shared memory".into()
            }
            LedgerError::Network { exists: true, .. } => {
                "copy the job directory to a local disk and go on there".into()
            }
            LedgerError::OtherJob { .. } => {
                "choose another --job-dir; inputs, sizes, scripts, arguments and output format of a job never change"
                    .into()
            }
            LedgerError::Newer { .. } => "use the version of fanfold that began the job, or a later one".into(),
            LedgerError::Damaged { .. } => {
                "nothing was changed; bring the file back from a copy, or run the job again \
                 in another --job-dir (`fanfold doctor --verify` says what is wrong)"
                    .into()
            }
            LedgerError::Full { .. } => {
                "make room on that file system, then run the same command again: nothing is lost".into()
            }
            LedgerError::Sqlite { source, .. } if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                "read it as the user who owns the job directory".into()
            }
            LedgerError::Sqlite { .. } => "run the same command again: it goes on from what the ledger proves".into(),
            LedgerError::Io(error) => return error.hint(),
        })
    }
}
