//! What can keep a snapshot from being taken.

use std::path::PathBuf;

use fanfold_shared::report::{ExitCode, IoError, Report};

use super::size::{self, Largest};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source is larger than a snapshot may be.
    #[error("the snapshot of `{}` would have {} in {files} files (at most {} in {} files); the largest: {largest}",
        source_directory.display(), size::shown(*bytes), size::shown(size::MAX_BYTES), size::MAX_FILES)]
    TooLarge {
        /// The source.
        source_directory: PathBuf,
        /// All its files, bytes.
        bytes: u64,
        /// How many they are; counting stops where it is too many anyway.
        files: u64,
        /// What makes it so.
        largest: Largest,
    },
    /// The entry script is in the source, but left out.
    #[error("entry script `{entry_script}` is left out of the snapshot of `{}`", source_directory.display())]
    ScriptLeftOut {
        /// As in the job file.
        entry_script: String,
        /// The source.
        source_directory: PathBuf,
    },
    /// The entry script is not in the source.
    #[error("entry script `{entry_script}` is not in `{}`", source_directory.display())]
    ScriptMissing {
        /// As in the job file.
        entry_script: String,
        /// The source.
        source_directory: PathBuf,
    },
    /// The script's settings file is none.
    #[error("`{}` can't be used: {why}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        why: String,
    },
    /// The source can't be read.
    #[error("the source of the entry script can't be read")]
    Unreadable(#[source] IoError),
    /// The copy can't be written.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Report for SnapshotError {
    fn exit_code(&self) -> ExitCode {
        match self {
            SnapshotError::Io(error) => error.exit_code(),
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SnapshotError::TooLarge { .. } => Some(
                "list what the script does not need in a file `.amlignore` in that folder (patterns as in `.gitignore`); \
                 large files that it reads are `side_inputs` or `models`, which are not copied"
                    .into(),
            ),
            SnapshotError::ScriptLeftOut { .. } => Some(
                "look for it in `.amlignore` or `.gitignore`; inputs, side inputs, models, job directories, the output and \
                 virtual environments are left out as well"
                    .into(),
            ),
            SnapshotError::ScriptMissing { .. } => Some("its path is relative to `source_directory`".into()),
            SnapshotError::Settings { .. } => Some(
                "it sets how returned frames are written, as in `{\"append_row\": {\"pandas.DataFrame.to_csv\": {\"sep\": \",\"}}}`; \
                 without it they are written as ever"
                    .into(),
            ),
            SnapshotError::Unreadable(_) => {
                Some("if the script does not need that file, list it in `.amlignore` beside it".into())
            }
            SnapshotError::Io(error) => error.hint(),
        }
    }
}
