//! What can be wrong with a list of items.

use std::ops::Range;
use std::path::PathBuf;

use crate::report::{ExitCode, IoError, Report};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum ItemsError {
    /// There is no manifest: making the list was interrupted, or never begun.
    #[error("the list of items in `{}` is not complete", dir.display())]
    Incomplete {
        /// The list's directory.
        dir: PathBuf,
    },
    /// A list must not be made where a complete one lies: the ledger's ordinals mean that one.
    #[error("`{}` already holds a complete list of items", dir.display())]
    AlreadyComplete {
        /// The list's directory.
        dir: PathBuf,
    },
    /// The list was written by a program that is newer than this one.
    #[error("the list of items `{}` has version {found}, this program reads version {}", path.display(), super::format::VERSION)]
    Version {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A file of the list is not what was written.
    #[error("`{}` is damaged{}: {what}", path.display(), items.as_ref().map_or(String::new(), |items| {
        format!(" (items {} to {})", items.start, items.end.saturating_sub(1))
    }))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The ordinals of the items that can't be read; None: all.
        items: Option<Range<u64>>,
        /// How it shows.
        what: String,
    },
    /// More was asked for than there is: a task of another job, or a bug.
    #[error("items {} to {} were asked for, but the list `{}` has {items}", range.start, range.end, dir.display())]
    Beyond {
        /// The list's directory.
        dir: PathBuf,
        /// What was asked for.
        range: Range<u64>,
        /// How many items there are.
        items: u64,
    },
    /// An item would be read back as two, or is too long for the list.
    #[error("item {ordinal} can't be listed: {what}")]
    Unlistable {
        /// Its ordinal.
        ordinal: u64,
        /// Why.
        what: &'static str,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl ItemsError {
    /// Whether it is room that was wanting.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, ItemsError::Io(error) if error.is_disk_full())
    }
}

impl Report for ItemsError {
    fn exit_code(&self) -> ExitCode {
        match self {
            ItemsError::Incomplete { .. } => ExitCode::Failed,
            ItemsError::Damaged { .. } | ItemsError::Version { .. } | ItemsError::Unlistable { .. } => ExitCode::Usage,
            ItemsError::AlreadyComplete { .. } | ItemsError::Beyond { .. } => ExitCode::Bug,
            ItemsError::Io(error) => error.exit_code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ItemsError::Incomplete { .. } => Some("run the same job again: the list is then made anew".into()),
            ItemsError::Version { .. } => {
                Some("continue the job with the program that started it, or a newer one".into())
            }
            ItemsError::Damaged { .. } => Some(
                "the job's results refer to this list, so it can't be made anew: restore the job directory from a \
                 backup, or start the job in a new one; look at the disk (`dmesg`) first"
                    .into(),
            ),
            ItemsError::Io(error) => error.hint(),
            ItemsError::AlreadyComplete { .. } | ItemsError::Beyond { .. } | ItemsError::Unlistable { .. } => None,
        }
    }
}
