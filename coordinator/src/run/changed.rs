//! Whether the files that are still to be read are those that the job began with.
//!
//! Asked when a job goes on, before anything of it runs: a table that was written to since can't be mixed with what it was, so each of its rows
//! would fail, and fail again at every retry. What is committed of a file needs it no more, so only files count of which something is still to
//! run; `docs/design/tables.md` has the rule.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::items::{Fingerprint, Fingerprints, ItemReader, ItemsError, Trouble, check};
use fanfold_shared::job::{InputType, JobSpec};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, IoError, Report, Result};
use fanfold_shared::text::{counted, one_line};

use super::Purpose;
use crate::aggregate::Aggregate;
use crate::ledger::LedgerError;

/// Entries that are looked at together.
const STRETCH: u64 = 1024;

/// A file is not what it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "input `{input}`: `{}` {trouble}, and {} still to be run{}", one_line(&path.to_string_lossy(), usize::MAX), part(*rows), others(*more)
)]
pub struct InputChanged {
    /// The input's name in the job file.
    input: String,
    /// The file.
    path: PathBuf,
    /// What happened to it.
    trouble: Trouble,
    /// It is a table.
    rows: bool,
    /// How many other files are not what they were, either.
    more: u64,
}

fn part(rows: bool) -> &'static str {
    if rows { "rows of it are" } else { "it is" }
}

fn others(more: u64) -> String {
    match more {
        0 => String::new(),
        more => format!("; {} more changed or vanished", counted(more, "file")),
    }
}

impl Report for InputChanged {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(
            "nothing was run or changed; bring the file back as it was, its time of change included (`cp -p`, `touch -d`), and give the same \
             command; or run what is there now as a new job, in a new directory"
                .into(),
        )
    }
}

/// Refuses to go on with the job in `dir` over files that are not what they were.
///
/// # Errors
/// [`InputChanged`], or the list or the ledger can't be read.
pub(super) fn refuse(
    spec: &JobSpec,
    dir: &JobDir,
    items: &ItemReader,
    aggregate: &Aggregate,
    purpose: Purpose,
) -> Result<()> {
    let fingerprints = match Fingerprints::open(&dir.items(), items.entries()) {
        // None was taken: nothing of the job ran.
        Err(ItemsError::Io(IoError { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        fingerprints => fingerprints?,
    };
    let look = Look { spec, items, fingerprints };
    let open = items_to_run(aggregate, purpose)?;
    let mut found = match spec.partition.as_ref().is_some_and(|partition| partition.is_by_columns()) {
        true => look.at_gathered(&open)?,
        false => look.at_slices(&open)?,
    };
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len() as u64 - 1;
    let (entry, trouble) = found.swap_remove(0);
    let input = items.input_of(entry);
    let path = Path::new(&input.root).join(OsStr::from_bytes(&items.item(entry)?));
    Err(InputChanged { input: input.name.clone(), path, trouble, rows: items.has_rows(), more }.into())
}

/// The intervals of items that are to run, in order.
fn items_to_run(aggregate: &Aggregate, purpose: Purpose) -> Result<Vec<Range<u64>>> {
    let (settled, end) = (aggregate.settled(), aggregate.split().items());
    let (mut open, mut from) = (Vec::new(), 0);
    while let Some(gap) = settled.next_gap(from, end) {
        from = gap.end;
        open.push(gap);
    }
    if purpose.is_retry() {
        let mut again = |(_, items)| {
            open.push(items);
            Ok::<_, LedgerError>(())
        };
        aggregate.ledger().for_each_failed(&mut again)?;
        aggregate.ledger().for_each_failed_part(&mut again)?;
        open.sort_unstable_by_key(|items| items.start);
    }
    Ok(open)
}

struct Look<'a> {
    spec: &'a JobSpec,
    items: &'a ItemReader,
    fingerprints: Fingerprints,
}

impl Look<'_> {
    /// Of mini-batches that are parts of files, or files.
    fn at_slices(&self, open: &[Range<u64>]) -> Result<Vec<(u64, Trouble)>> {
        let (mut found, mut looked) = (Vec::new(), 0);
        // Its header is that of all files.
        if !open.is_empty() && self.spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file) {
            self.at(0..1, &mut found)?;
            looked = 1;
        }
        for items in open {
            let entries = match self.items.has_rows() {
                true => self.items.entries_of(self.mini_batches(items))?,
                // Files, in the same order.
                false => items.clone(),
            };
            // A file has more mini-batches than one.
            self.at(entries.start.max(looked)..entries.end, &mut found)?;
            looked = looked.max(entries.end);
        }
        Ok(found)
    }

    /// Of mini-batches whose rows were gathered: those of text are read from the copy, those of Parquet where they lie.
    fn at_gathered(&self, open: &[Range<u64>]) -> Result<Vec<(u64, Trouble)>> {
        let mut found = Vec::new();
        if self.spec.input_type == InputType::Parquet {
            self.at(0..self.items.entries(), &mut found)?;
        }
        if found.is_empty() {
            return Ok(found);
        }
        // Only now is it worth it to read what each mini-batch is made of.
        let mut wanted = vec![false; found.len()];
        for mini_batch in open.iter().flat_map(|items| self.mini_batches(items)) {
            let Some(slice) = self.items.slice(mini_batch)? else { continue };
            for segment in self.items.group(&slice)?.segments {
                if let Ok(at) = found.binary_search_by_key(&u64::from(segment.entry), |(entry, _)| *entry) {
                    wanted[at] = true;
                }
            }
        }
        let mut wanted = wanted.into_iter();
        found.retain(|_| wanted.next().unwrap_or(false));
        Ok(found)
    }

    /// Those that some of the items are of.
    fn mini_batches(&self, items: &Range<u64>) -> Range<u64> {
        let split = self.items.split();
        split.mini_batch_of(items.start)..split.mini_batch_of(items.end - 1) + 1
    }

    /// Adds the files among `entries` that are not what they were.
    fn at(&self, entries: Range<u64>, found: &mut Vec<(u64, Trouble)>) -> Result<()> {
        for input in &self.items.split().inputs {
            // Lines are in the list. Objects are compared when they are fetched: to ask for each would take a request.
            if input.root.is_empty() || input.uri().is_some() {
                continue;
            }
            let mut start = entries.start.max(input.entries.start);
            while start < entries.end.min(input.entries.end) {
                let stretch = start..entries.end.min(input.entries.end).min(start + STRETCH);
                let known = self.fingerprints.get(stretch.clone())?;
                let names = self.items.read(stretch.clone())?;
                let names = names.split(|byte| *byte == self.items.separator()).take(known.len());
                let troubles = check(Path::new(&input.root), names, &known).into_iter();
                found.extend(
                    troubles
                        .filter(|(at, trouble)| matches!(known[*at], Fingerprint::File { .. }) && self.counts(trouble))
                        .map(|(at, trouble)| (stretch.start + at as u64, trouble)),
                );
                start = stretch.end;
            }
        }
        Ok(())
    }

    /// Whether nothing of the file can be run any more, on whatever node.
    fn counts(&self, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::SizeChanged { .. } | Trouble::Modified { .. } => true,
            Trouble::Vanished
            | Trouble::DanglingLink
            | Trouble::Directory
            | Trouble::Special(_)
            | Trouble::SymlinkLoop => {
                // A file that is an item itself and gone is one failed item; those beside it in a mini-batch are run.
                self.items.has_rows()
            }
            // It is there, and may be read by others or by and by.
            Trouble::PermissionDenied | Trouble::Other(_) => false,
        }
    }
}
