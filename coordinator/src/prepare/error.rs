//! What can keep the inputs of a job from being listed.

use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::items::ItemsError;
use fanfold_shared::report::{ExitCode, IoError, Report};
use fanfold_shared::text::size;
use fanfold_store::datastores::DatastoresError;
use fanfold_store::{Download, StoreError};

/// Whether the caller still wants what is being made: asked regularly, and an error, as a rule [`ListError::Canceled`], ends it with that.
pub type Cancel<'a> = dyn Fn() -> Result<(), ListError> + 'a;

/// See the variants. `input` is the input's name in the job file.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The path of an input, or the folder where its pattern begins, is not there.
    #[error("input `{input}`: `{}` does not exist", path.display())]
    Missing {
        /// The input.
        input: String,
        /// What is missing.
        path: PathBuf,
        /// What there is instead.
        hint: String,
    },
    /// An input yields no item.
    #[error("input `{input}` is empty: {what}")]
    Empty {
        /// The input.
        input: String,
        /// The path or pattern, and what was looked at.
        what: String,
        /// What might be meant.
        hint: String,
    },
    /// An input is neither file nor folder.
    #[error("input `{input}`: `{}` is neither a file nor a folder", path.display())]
    Special {
        /// The input.
        input: String,
        /// The path.
        path: PathBuf,
    },
    /// An input's pattern can't be understood.
    #[error("input `{input}`: `{pattern}` is not a valid pattern")]
    Pattern {
        /// The input.
        input: String,
        /// As typed.
        pattern: String,
        /// Why not.
        #[source]
        source: globset::Error,
    },
    /// An input is a folder that the job itself writes to.
    #[error("input `{input}`: `{}` is a directory of the job itself", path.display())]
    OwnDirectory {
        /// The input.
        input: String,
        /// The folder.
        path: PathBuf,
    },
    /// The folders of an input never seem to end.
    #[error("input `{input}`: `{}` is nested too deeply: more than {limit} folders", path.display())]
    TooDeep {
        /// The input.
        input: String,
        /// Where it was given up.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A line of a list file is too long to be an item.
    #[error("line {line} of `{}` is longer than 1 MiB", path.display())]
    LineTooLong {
        /// The list file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
    },
    /// A text is in an encoding whose lines can't be told by bytes.
    #[error("`{}` is encoded in {encoding}", path.display())]
    Wide {
        /// The file.
        path: PathBuf,
        /// Which one.
        encoding: &'static str,
    },
    /// A file's path has no values to partition it by.
    #[error("input `{input}`: the path of `{}` does not fit `partition_format: {format}`", path.display())]
    NoPartition {
        /// The input.
        input: String,
        /// The file.
        path: PathBuf,
        /// As typed.
        format: String,
    },
    /// A file is no table of the kind that the job says, or one that can't be split.
    #[error("`{}`: {what}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
        /// What can be done.
        hint: String,
    },
    /// A column that a type is given to is in no file.
    #[error("`read_csv.dtype` names a column `{column}`, and {}", if *files == 1 { "the file has none of that name" } else { "no file has one of that name" })]
    NoColumn {
        /// The column.
        column: String,
        /// How many there are.
        files: u64,
        /// What columns there are.
        hint: String,
    },
    /// The pandas of the job knows no such type.
    #[error("`read_csv.dtype`: the pandas of `{python}` knows no dtype `{name}`: {why}")]
    Dtype {
        /// As typed.
        name: String,
        /// The interpreter.
        python: String,
        /// What pandas says.
        why: String,
    },
    /// No line of an input has a key that it is partitioned by.
    #[error("input `{input}`: none of its rows has a `{key}`, which `partition_keys` names")]
    NoKey {
        /// The input.
        input: String,
        /// The key.
        key: String,
    },
    /// Rows can't be gathered where the job directory lies.
    #[error(
        "there is not enough room to gather the rows by `partition_keys`: they need about {} at {}, where {} are free",
        size(*needed), dir.display(), size(*free)
    )]
    NoRoom {
        /// The directory of the list.
        dir: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// A folder or a list file can't be read.
    #[error("input `{input}` can't be read")]
    Unreadable {
        /// The input.
        input: String,
        /// Why not.
        #[source]
        source: IoError,
    },
    /// An address can't be used.
    #[error("input `{input}`: the address can't be used: {why}")]
    Address {
        /// The input.
        input: String,
        /// What is wrong with it.
        why: String,
        /// What to write.
        hint: String,
    },
    /// Something in the cloud can't be listed or read.
    #[error(transparent)]
    Cloud(#[from] StoreError),
    /// The file of datastores can't be used.
    #[error(transparent)]
    Datastores(#[from] DatastoresError),
    /// The caller said stop.
    #[error("listing the inputs was stopped before it was complete")]
    Canceled,
    /// The list can't be written.
    #[error(transparent)]
    Items(#[from] ItemsError),
    /// A sorted run can't be written or read back.
    #[error(transparent)]
    Spill(IoError),
}

impl ListError {
    /// What a [`Cancel`] answers: [`ListError::Canceled`] if it `is` so.
    pub fn canceled_if(is: bool) -> Result<(), ListError> {
        if is { Err(ListError::Canceled) } else { Ok(()) }
    }

    /// `path` of the input called `input` can't be read; what the cloud says of an object is told as it is.
    pub(super) fn unreadable(input: &str, operation: &'static str, path: &Path, error: io::Error) -> ListError {
        match Download::error(&error) {
            Some(error) => ListError::Cloud(error.clone()),
            None => {
                let source = IoError { operation, path: path.to_path_buf(), source: error };
                ListError::Unreadable { input: input.to_string(), source }
            }
        }
    }
}

impl Report for ListError {
    fn exit_code(&self) -> ExitCode {
        match self {
            ListError::Canceled | ListError::NoRoom { .. } => ExitCode::Failed,
            ListError::Items(error) => error.exit_code(),
            ListError::Spill(error) => error.exit_code(),
            ListError::Cloud(error) => error.exit_code(),
            _ => ExitCode::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ListError::Missing { hint, .. }
            | ListError::Empty { hint, .. }
            | ListError::Table { hint, .. }
            | ListError::NoColumn { hint, .. } => Some(hint.clone()).filter(|hint| !hint.is_empty()),
            ListError::Dtype { .. } => {
                Some("for example `str`, `Int64`, `float` or `category`; or leave it out, and pandas infers the type".into())
            }
            ListError::NoPartition { .. } => Some(
                "each `{name}` is a part of the path or in one, counted from its end; `*` stands for what does not matter; give the input as a \
                 pattern to leave files out"
                    .into(),
            ),
            ListError::NoKey { .. } => Some("is it spelt as in the files? of rows that lack it the value is None".into()),
            ListError::NoRoom { .. } => Some("make room there, or choose a `--job-dir` on another disk".into()),
            ListError::Special { .. } => Some("give a file, a folder or a pattern such as `data/**/*.png`".into()),
            ListError::Pattern { .. } => Some(
                "`*`, `?`, `[a-z]`, `{a,b}` and `**/` have a meaning; to match one of them as it is, put it in brackets: `[[]`"
                    .into(),
            ),
            ListError::OwnDirectory { .. } => {
                Some("choose another `output` or `--job-dir`: a folder inside the input is fine, it is left out".into())
            }
            ListError::TooDeep { .. } => Some("look there for a folder that was copied into itself".into()),
            ListError::LineTooLong { .. } => Some("each line is one item: is this a list file?".into()),
            ListError::Wide { .. } => Some("save it as UTF-8".into()),
            ListError::Unreadable { source, .. } => source.hint(),
            ListError::Address { hint, .. } => Some(hint.clone()),
            ListError::Cloud(error) => error.hint(),
            ListError::Datastores(error) => error.hint(),
            ListError::Canceled => None,
            ListError::Items(error) => error.hint(),
            ListError::Spill(error) => error.hint(),
        }
    }
}
