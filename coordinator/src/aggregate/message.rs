//! What a message must be to be believed. Nodes are trusted programs, but messages outlive versions and disks.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use fanfold_shared::message::{ItemError, Outcome, OutcomeEnd, Results};
use fanfold_shared::split::Split;

/// Checks that the rows are as long as the outcomes say.
pub(super) fn announced_length(results: &Results) -> Result<(), String> {
    let mut announced = 0u64;
    for outcome in &results.outcomes {
        if let OutcomeEnd::Returned { rows_len, spooled: None, .. } = &outcome.end {
            announced = announced.saturating_add(*rows_len);
        }
    }
    if announced == results.rows.len() as u64 {
        Ok(())
    } else {
        Err(format!("{announced} bytes of rows were announced, {} came", results.rows.len()))
    }
}

/// Checks that an outcome is one of a mini-batch of the job.
#[inline]
pub(super) fn consistent(
    outcome: &Outcome,
    unreadable: &[ItemError],
    split: &Split,
    mini_batches: u64,
) -> Result<(), &'static str> {
    if outcome.mini_batch >= mini_batches {
        return Err("it is beyond the split");
    }
    let whole = split.mini_batch(outcome.mini_batch).1;
    let Range { start, end } = outcome.items;
    if whole != outcome.items && (start >= end || start < whole.start || end > whole.end) {
        // An interval that is not of one mini-batch has no place in the packed records.
        return Err("its items are not those of the split");
    }
    if outcome.attempt == 0 {
        return Err("attempts are counted from 1");
    }
    // Ascending, so that none is named twice.
    let ascending = unreadable.windows(2).all(|pair| pair[0].item < pair[1].item);
    if !ascending || unreadable.iter().any(|error| !outcome.items.contains(&error.item)) {
        return Err("it reports items that it has not got");
    }
    Ok(())
}

/// Which items of its mini-batch a consistent outcome is of, counted within it; None: all of them.
#[inline]
pub(super) fn part_of(outcome: &Outcome, split: &Split) -> Option<Range<u64>> {
    let whole = split.mini_batch(outcome.mini_batch).1;
    let Range { start, end } = outcome.items;
    (whole != outcome.items).then(|| start - whole.start..end - whole.start)
}

/// The path of a spooled file of `len` bytes, if it is one of this job's and whole. `lost` are those that were not.
pub(super) fn spooled(spool: &Path, path: &Path, len: u64, lost: &HashMap<PathBuf, String>) -> Result<PathBuf, String> {
    // A message names a place in the spool, never anything else: the file is removed afterwards.
    let path = spool.join(path);
    if !path.starts_with(spool) || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{}` is not in the spool", path.display()));
    }
    if let Some(why) = lost.get(&path) {
        return Err(format!("`{}`: {why}", path.display()));
    }
    match path.symlink_metadata() {
        Ok(file) if !file.is_file() => Err(format!("`{}` is not a file", path.display())),
        Ok(file) if file.len() != len => {
            Err(format!("`{}` has {} bytes, {len} were announced", path.display(), file.len()))
        }
        Ok(_) => Ok(path),
        Err(error) => Err(format!("`{}`: {error}", path.display())),
    }
}
