//! What the user should know about a listing that succeeded: what was left out, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why something in an input's folder is not an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    /// A pipe, socket or device: reading it would wait for ever.
    Special,
    /// A symbolic link to a folder that it lies in: its files are listed already.
    Loop,
    /// A directory of the job itself.
    Own,
    /// `lost+found`, which only root may read.
    LostFound,
}

/// Counts, with an example each: bounded, whatever the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Folders that were read.
    pub(super) folders: u64,
    /// List files that were found.
    pub(super) files: u64,
    left_out: BTreeMap<LeftOut, (u64, PathBuf)>,
}

impl Notes {
    pub(super) fn leave_out(&mut self, why: LeftOut, path: &Path) {
        self.left_out.entry(why).or_insert_with(|| (0, path.to_path_buf())).0 += 1;
    }

    pub(super) fn count(&self, why: LeftOut) -> u64 {
        self.left_out.get(&why).map_or(0, |(count, _)| *count)
    }

    /// One line for each reason.
    pub(super) fn lines(&self, input: &str) -> Vec<String> {
        let line = |(why, (count, example)): (&LeftOut, &(u64, PathBuf))| {
            let what = match why {
                LeftOut::Special => "pipes, sockets or devices (not regular files)",
                LeftOut::Loop => "symbolic links to a folder that they lie in (its files are listed once)",
                LeftOut::Own => "directories of the job itself",
                LeftOut::LostFound => "unreadable `lost+found`",
            };
            format!("input `{input}`: left out {count} {what}, the first is `{}`", example.display())
        };
        self.left_out.iter().map(line).collect()
    }
}
