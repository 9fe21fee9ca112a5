//! What can go wrong with the output file and its ledger, in the user's words.

use std::error::Error;
use std::path::PathBuf;

use fanfold_shared::report::{ExitCode, IoError, Report};

use crate::ledger::LedgerError;

/// Why a job's ledger and output file can't be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Something is there that this job did not write.
    #[error("output `{}` exists already and is not this job's", path.display())]
    OutputExists {
        /// What is in the way.
        path: PathBuf,
    },
    /// Another job writes there.
    #[error("output `{}` is being written by another program", path.display())]
    OutputBusy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// Somebody shortened or removed it.
    #[error("output `{}` has {found} bytes, but the ledger proves {committed}", path.display())]
    OutputShort {
        /// The file.
        path: PathBuf,
        /// Its length, bytes.
        found: u64,
        /// What the ledger says, bytes.
        committed: u64,
    },
    /// Somebody, or the disk, changed it.
    #[error("output `{}` was changed between bytes {offset} and {}: its checksum is not the ledger's", path.display(), offset + length)]
    OutputDamaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged commit begins.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// A Parquet file is not the one that the job wrote.
    #[error("output `{}` is not the file that the job wrote: its length or its checksum is another", path.display())]
    ResultChanged {
        /// The file.
        path: PathBuf,
    },
    /// The job's output is set to another place than when it began.
    #[error("the output of this job is `{}`, not `{}`", recorded.display(), wanted.display())]
    OutputMoved {
        /// Where it is.
        recorded: PathBuf,
        /// Where it was looked for.
        wanted: PathBuf,
    },
    /// An earlier error left open what is on disk.
    #[error("the ledger is closed after an earlier error")]
    Stopped,
    /// A file.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Report for OpenError {
    fn exit_code(&self) -> ExitCode {
        match self {
            OpenError::Ledger(error) => error.exit_code(),
            OpenError::Io(error) => error.exit_code(),
            OpenError::Stopped => ExitCode::Failed,
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            OpenError::Ledger(error) => return error.hint(),
            OpenError::Io(error) => return error.hint(),
            OpenError::OutputExists { .. } => {
                "move it away, or set another `output` or `append_row_file_name`; nothing was overwritten".into()
            }
            OpenError::Stopped => "run the same command again: it goes on from what the ledger proves".into(),
            OpenError::OutputBusy { .. } => "set another `output` or `append_row_file_name`".into(),
            OpenError::OutputShort { .. } | OpenError::OutputDamaged { .. } | OpenError::ResultChanged { .. } => {
                "bring the file back from a copy, or run the job again in another --job-dir; nothing was changed".into()
            }
            OpenError::OutputMoved { recorded, .. } => {
                format!("set `output` back so that the job goes on with `{}`", recorded.display())
            }
        })
    }
}

/// Why a commit, a change of state or the end did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no room. Nothing happened, nothing is lost: call again with the same arguments when there is some.
    #[error("no space for `{}`", path.display())]
    DiskFull {
        /// The output file or the ledger.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The output file could not be written or synced, twice.
    #[error(transparent)]
    Output(IoError),
    /// The ledger. What it holds is known only when it is opened anew.
    #[error(transparent)]
    Ledger(LedgerError),
    /// Something took the output's final name while the job ran. The job may be finished once it is gone.
    #[error("output `{}` appeared while the job ran and is not this job's", path.display())]
    OutputExists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The end was asked for while mini-batches are missing.
    #[error("{remaining} mini-batches are not settled yet")]
    Unsettled {
        /// How many.
        remaining: u64,
    },
    /// An earlier error left open what is on disk.
    #[error("the ledger is closed after an earlier error")]
    Stopped,
}

impl CommitError {
    /// Whether to call again, when there is room, rather than to give up.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, CommitError::DiskFull { .. })
    }
}

impl Report for CommitError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CommitError::OutputExists { .. } => ExitCode::Usage,
            CommitError::Ledger(error) => error.exit_code(),
            CommitError::Unsettled { .. } => ExitCode::Bug,
            _ => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CommitError::DiskFull { path, .. } => {
                // Who reads it as an error has a program that ended: nobody was there yet who waits, or there was no use in it.
                Some(format!(
                    "make room on the file system of `{}`, then run the same command again: nothing is lost",
                    path.display()
                ))
            }
            CommitError::Output(_) | CommitError::Stopped => {
                Some("check the disk, then run the same command again: it goes on from what the ledger proves".into())
            }
            CommitError::OutputExists { .. } => Some("move it away, then run the same command again".into()),
            CommitError::Ledger(error) => error.hint(),
            CommitError::Unsettled { .. } => None,
        }
    }
}
