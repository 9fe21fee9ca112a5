//! `.fanfold/job.json`: what makes a directory a job's. Written by the coordinator, read by whoever finds the directory.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::JobSpec;
use crate::ids::JobId;
use crate::layout::JobDir;
use crate::report::{During, ExitCode, IoError, Report};

/// The version of the record.
pub const RECORD_VERSION: u32 = 1;

/// See the module documentation.
#[derive(Serialize, Deserialize)]
pub struct JobRecord {
    /// [`RECORD_VERSION`]
    pub version: u32,
    /// The job's id.
    pub id: JobId,
    /// When it was first submitted, microseconds since the epoch.
    pub created_us: u64,
    /// What it is, as it was taken up last.
    pub spec: JobSpec,
    /// The job file that it was submitted with, absolute: beside a script it is no part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_file: Option<PathBuf>,
}

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not one.
    #[error("`{}` does not describe a job", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It was made by a later version.
    #[error("`{}` was written by a later version of fanfold (format {found}, this program knows {RECORD_VERSION})", path.display())]
    Later {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Report for RecordError {
    fn exit_code(&self) -> ExitCode {
        match self {
            RecordError::Damaged { .. } | RecordError::Later { .. } => ExitCode::Usage,
            RecordError::Io(error) => error.exit_code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RecordError::Damaged { path, .. } => Some(format!(
                "nothing was changed; restore `{}` from a copy, or run the job in a new directory",
                path.display()
            )),
            RecordError::Later { .. } => Some("continue this job with the newer fanfold".into()),
            RecordError::Io(error) => error.hint(),
        }
    }
}

impl JobRecord {
    /// The record of the job in `dir`; None if there is no job.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(dir: &JobDir) -> Result<Option<JobRecord>, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let path = dir.job_json();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.during("read", &path)?,
        };
        let damaged = |source| RecordError::Damaged { path: path.clone(), source };
        let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version > RECORD_VERSION {
            return Err(RecordError::Later { path, found: version });
        }
        Ok(Some(serde_json::from_slice(&bytes).map_err(damaged)?))
    }
}
