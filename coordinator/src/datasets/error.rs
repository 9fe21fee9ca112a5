//! Why a dataset can't be registered or found.

use std::path::PathBuf;

use fanfold_shared::job::DatasetId;
use fanfold_shared::report::{ExitCode, IoError, Report};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A name that can't be one.
    #[error("a dataset can't be called `{0}`")]
    BadName(String),
    /// Not `name`, `name:3` or `name@latest`.
    #[error("`{0}` names no dataset")]
    BadReference(String),
    /// Nothing is registered under that name.
    #[error("there is no dataset `{name}`")]
    NoSuchDataset {
        /// The name.
        name: String,
        /// One that looks like it.
        nearest: Option<String>,
        /// Whether there are any.
        any: bool,
    },
    /// It has other versions.
    #[error("dataset `{}` has no version {}", .id.name, .id.version)]
    NoSuchVersion {
        /// What was looked for.
        id: DatasetId,
        /// What there is.
        versions: Vec<u32>,
    },
    /// The name is taken.
    #[error("`{}` is registered already: `{newest}` has {difference}", newest.name)]
    Exists {
        /// The newest version.
        newest: DatasetId,
        /// What is different there.
        difference: String,
    },
    /// A record is none.
    #[error("`{}` does not describe a version of a dataset", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A record lies where another one belongs.
    #[error("`{}` describes `{found}`", path.display())]
    Misplaced {
        /// The record.
        path: PathBuf,
        /// What it describes.
        found: DatasetId,
    },
    /// A record was written by a later version.
    #[error("`{}` was written by a later version of fanfold (format {found})", path.display())]
    Later {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is no directory for them.
    #[error("there is no place for datasets: neither XDG_STATE_HOME nor HOME is an absolute path")]
    NoPlace,
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Report for DatasetError {
    fn exit_code(&self) -> ExitCode {
        match self {
            DatasetError::Io(error) => error.exit_code(),
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            DatasetError::BadName(_) => {
                "a name is a letter, then letters, digits, `_` and `-`, at most 64 in all".into()
            }
            DatasetError::BadReference(_) => "write `iris`, `iris:3` or `iris@latest`".into(),
            DatasetError::NoSuchDataset { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? `fanfold dataset list` shows all")
            }
            DatasetError::NoSuchDataset { any: true, .. } => "`fanfold dataset list` shows all".into(),
            DatasetError::NoSuchDataset { name, .. } => {
                format!("nothing is registered yet; `fanfold dataset register {name} --path PATH` registers it")
            }
            DatasetError::NoSuchVersion { id, versions } => {
                let named: Vec<String> = versions.iter().map(|version| format!("`{}:{version}`", id.name)).collect();
                match &named[..] {
                    [one] => format!("there is {one}"),
                    [first, .., last] => {
                        format!(
                            "there are {} versions, {first} to {last}; `fanfold dataset list {}` shows all",
                            named.len(),
                            id.name
                        )
                    }
                    [] => "`fanfold dataset list` shows all".into(),
                }
            }
            DatasetError::Exists { newest, .. } => format!(
                "versions don't change: `--new-version` registers this as `{}:{}`; `fanfold dataset show {}` shows what is there",
                newest.name,
                newest.version.saturating_add(1),
                newest.name
            ),
            DatasetError::Damaged { path, .. } | DatasetError::Misplaced { path, .. } => format!(
                "nothing was changed; bring `{}` back from a copy, or remove it and register the data again",
                path.display()
            ),
            DatasetError::Later { .. } => "use the newer fanfold".into(),
            DatasetError::NoPlace => "set XDG_STATE_HOME".into(),
            DatasetError::Io(error) => return error.hint(),
        })
    }
}
