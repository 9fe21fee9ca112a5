//! From the inputs of the job file to the durable list of items.
//!
//! The same inputs give the same list: files are sorted bytewise by their name relative to the input's root, lines stay in
//! their order, list files are taken in the order of their names. Inputs follow each other as in the job file and are
//! split each on its own. Memory is bounded whatever the inputs: one run of the sort (16 MiB) and one block of the list
//! (of `lines` inputs, the names of the list files are held as well).
//!
//! Of files that are items themselves nothing is looked at: whether one can be read is found out when it is handed over. Tables are read
//! to their records (`tables`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::items::{Fingerprint, GrowingList, ItemReader, ItemWriter, ItemsError, is_listed};
use fanfold_shared::job::{Input, InputType, JobSpec, MiniBatchSize, Partition};
use fanfold_shared::layout::JobDir;
use fanfold_shared::split::{Cut, Ends, Split, SplitInput};

use super::cloud::Cloud;
use super::groups;
use super::known::{apart, carried};
use super::lines::{for_each_line, for_each_line_of};
use super::names;
use super::notes::Notes;
use super::partitions::{self, Parts};
use super::sort::{RUN_BYTES, Sorter};
use super::source::{Look, Source};
use super::splitter::{Grace, Splitting};
use super::tables::{TableFile, Tables};
use super::walk::Identities;
use super::{Cancel, ListError, empty};

/// Entries between two looks at whether to stop.
const CANCEL_EVERY: u64 = 4096;

/// A list that is durable, and complete unless it says otherwise.
#[derive(Debug)]
pub struct Listed {
    /// The list, with its split.
    pub items: ItemReader,
    /// What goes on: large tables are still being split.
    pub splitting: Option<Splitting>,
    /// What was left out, and why: one line each, for the user. Empty for a list that was there already.
    pub notes: Vec<String>,
}

/// What [`list`] would list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// As the list's would be.
    pub split: Split,
    /// As in [`Listed::notes`].
    pub notes: Vec<String>,
}

/// The directories that a job writes to, to be left out where they lie inside an input: the job directory, the parts of
/// it that must stay out even if it is itself an input's folder, the folder of all job directories, and `output`.
pub fn own_directories(job: &JobDir, output: &Path) -> Vec<PathBuf> {
    let mut own = vec![job.root().to_path_buf(), job.internal(), job.logs().root().to_path_buf(), output.to_path_buf()];
    own.extend(job.driver_log().parent().map(Path::to_path_buf));
    own.extend(job.root().parent().filter(|parent| parent.ends_with("fanfold-jobs")).map(Path::to_path_buf));
    own
}

/// Makes sure that the job has its list in the directory `dir` ([`JobDir::items`]): the one that is there, whatever has
/// become of the inputs since, else a list of the inputs of `spec` as they are now. Directories in `excluded`
/// ([`own_directories`]) are left out. `cancel` is asked every few thousand items; true stops with
/// [`ListError::Canceled`], and leaves nothing complete. Large tables are split on after that ([`Listed::splitting`]), unless `grace` is
/// endless.
pub fn list(
    spec: &JobSpec,
    dir: &Path,
    excluded: &[PathBuf],
    grace: Grace,
    cancel: &Cancel<'_>,
) -> Result<Listed, ListError> {
    if is_listed(dir) {
        let splitting = match GrowingList::resume(dir)? {
            Some(list) => Splitting::begin(spec, list, dir, grace, cancel)?,
            None => None,
        };
        return Ok(Listed { items: ItemReader::open(dir)?, splitting, notes: Vec::new() });
    }
    list_in_runs(spec, dir, excluded, grace, cancel, RUN_BYTES)
}

/// [`list`] with runs of a sort that take so many bytes of memory, however few: for tests of what is larger than memory.
#[doc(hidden)]
pub fn list_with(spec: &JobSpec, dir: &Path, excluded: &[PathBuf], run_bytes: usize) -> Result<Listed, ListError> {
    list_in_runs(spec, dir, excluded, Grace::Endless, &|| Ok(()), run_bytes)
}

pub(super) fn list_in_runs(
    spec: &JobSpec,
    dir: &Path,
    excluded: &[PathBuf],
    grace: Grace,
    cancel: &Cancel<'_>,
    run_bytes: usize,
) -> Result<Listed, ListError> {
    let mut writer = ItemWriter::create(dir, spec.input_type.separator())?;
    if let Some(count) = spec.rank_mini_batch_count {
        for rank in 0..count {
            if rank % CANCEL_EVERY == 0 {
                cancel()?;
            }
            writer.push(format!("rank {rank}").as_bytes())?;
        }
        let Counted { split, notes } = ranks(spec, count);
        return Ok(Listed { items: writer.finish(split)?, splitting: None, notes });
    }
    let mut notes = look_at_names(spec, excluded, cancel)?;
    let (tables, gathers) = (Tables::of(spec), groups::is_wanted(spec));
    if tables.is_some() {
        writer.items_are_rows();
    }
    let split = split_inputs(spec, excluded, cancel, &mut notes, |number, source, look, notes| {
        let (input, mut sorter) = (&spec.inputs[number], Sorter::new(dir, run_bytes, cancel));
        match (&spec.partition, spec.input_type) {
            (_, InputType::Lines) => lines(input, source, look, notes, &mut |line| Ok(writer.push(line)?))?,
            (Some(partition @ Partition { format: Some(format), .. }), _) if !gathers => {
                let mut parts = Parts::new(partition, format, source, input);
                let visit = &mut |name: &[u8], known| sorter.push(&carried(&parts.keyed(name)?, known));
                source.for_each_known(&input.name, look, notes, visit)?;
                sorter.drain(|keyed| {
                    let (keyed, known) = apart(keyed, source.objects().is_some());
                    let (key, name) = partitions::key_and_name(keyed);
                    let entry = writer.entries();
                    let mut rows = 1;
                    if let Some(tables) = tables {
                        let path = source.root().join(OsStr::from_bytes(name));
                        rows = tables.rows(table_file(input, source, name, &path, entry, known)?, cancel)?;
                    }
                    if let Some((slice, items)) = parts.next(key, entry, rows)? {
                        writer.push_slice(&slice, items, number)?;
                    }
                    push(&mut writer, name, known)
                })?;
                if let Some((slice, items)) = parts.last(writer.entries())? {
                    writer.push_slice(&slice, items, number)?;
                }
            }
            (_, _) => {
                let visit = &mut |name: &[u8], known: Option<Fingerprint>| match known {
                    None => sorter.push(name),
                    known => sorter.push(&carried(name, known)),
                };
                source.for_each_known(&input.name, look, notes, visit)?;
                sorter.drain(|name| {
                    let (name, known) = apart(name, source.objects().is_some());
                    if let Some(format) = spec.path_format() {
                        partitions::values_of(format, input, &source.root().join(OsStr::from_bytes(name)))?;
                    }
                    push(&mut writer, name, known)
                })?;
            }
        }
        let items = if spec.partition.is_some() && !gathers { writer.sliced() } else { writer.entries() };
        Ok((items, writer.entries()))
    })?;
    if gathers {
        let mut list = writer.finish_names(split)?;
        notes.extend(groups::gather(spec, dir, &mut list, cancel, groups::run_bytes(run_bytes))?);
        return Ok(Listed { items: list.finish()?, splitting: None, notes });
    }
    if tables.is_none() || spec.partition.is_some() {
        return Ok(Listed { items: writer.finish(split)?, splitting: None, notes });
    }
    let splitting = Splitting::begin(spec, writer.finish_names(split)?, dir, grace, cancel)?;
    Ok(Listed { items: ItemReader::open(dir)?, splitting, notes })
}

/// Counts what [`list`] would list, and writes nothing.
pub fn count(spec: &JobSpec, excluded: &[PathBuf], cancel: &Cancel<'_>) -> Result<Counted, ListError> {
    if let Some(count) = spec.rank_mini_batch_count {
        return Ok(ranks(spec, count));
    }
    let mut notes = look_at_names(spec, excluded, cancel)?;
    if groups::is_wanted(spec) {
        let mut counted = groups::count(spec, excluded, cancel)?;
        counted.notes.splice(..0, notes);
        return Ok(counted);
    }
    let tables = Tables::of(spec);
    let (mut entries, mut items, ends) = (0, 0, Ends::growing());
    let mut split = split_inputs(spec, excluded, cancel, &mut notes, |number, source, look, notes| {
        let input = &spec.inputs[number];
        let first = match entries == 0 && spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file) {
            true => first_file(input, source, look)?.0,
            false => Vec::new(),
        };
        let parts = spec
            .partition
            .as_ref()
            .and_then(|partition| Some(Parts::new(partition, partition.format.as_ref()?, source, input)));
        // The items of each combination of values.
        let mut by_values: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut end = |more| {
            items += more;
            match ends.push(items, number) {
                true => Ok(()),
                false => Err(ListError::from(ItemsError::Unlistable { ordinal: items, what: NO_ITEMS })),
            }
        };
        let mut count = |name: &[u8], known: Option<Fingerprint>| {
            entries += 1;
            let path = source.root().join(OsStr::from_bytes(name));
            match (&parts, tables) {
                (None, None) => Ok(()),
                (None, Some(tables)) => {
                    if let Some(format) = spec.path_format() {
                        partitions::values_of(format, input, &path)?;
                    }
                    let file = TableFile { first: name == first, ..table_file(input, source, name, &path, 0, known)? };
                    tables.slices(file, None, cancel, &mut |_, rows| end(rows))
                }
                (Some(parts), tables) => {
                    let keyed = parts.keyed(name)?;
                    let rows =
                        |tables: Tables<'_>| tables.rows(table_file(input, source, name, &path, 0, known)?, cancel);
                    let rows = tables.map(rows).transpose()?;
                    *by_values.entry(partitions::key_and_name(&keyed).0.to_vec()).or_default() += rows.unwrap_or(1);
                    Ok(())
                }
            }
        };
        match spec.input_type {
            InputType::Lines => lines(input, source, look, notes, &mut |line| count(line, None))?,
            _ => source.for_each_known(&input.name, look, notes, &mut count)?,
        }
        by_values.into_values().filter(|items| *items > 0).try_for_each(&mut end)?;
        Ok((if is_sliced(spec) { items } else { entries }, entries))
    })?;
    if is_sliced(spec) {
        ends.complete_with(0);
        split.cut = Cut::Listed(ends);
    }
    Ok(Counted { split, notes })
}

/// Refuses what the job says of columns that the tables can't have ([`names`]).
fn look_at_names(spec: &JobSpec, excluded: &[PathBuf], cancel: &Cancel<'_>) -> Result<Vec<String>, ListError> {
    let (excluded, cloud) = (Identities::new(excluded), Cloud::default());
    names::check(spec, look_for(spec, &excluded, cancel, &cloud))
}

/// How the inputs of a job are looked at.
fn look_for<'a>(spec: &JobSpec, excluded: &'a Identities, cancel: &'a Cancel<'a>, cloud: &'a Cloud) -> Look<'a> {
    Look { excluded, cancel, of_mltable: spec.mltable.is_some(), input_type: spec.input_type, cloud }
}

pub(super) const NO_ITEMS: &str = "its mini-batch has no items";

/// Whether mini-batches end where slices say, and not after a number of items.
fn is_sliced(spec: &JobSpec) -> bool {
    spec.input_type.is_table() || spec.partition.is_some()
}

/// Mini-batches without input: each is an item, so that thresholds and progress count them.
fn ranks(spec: &JobSpec, count: u64) -> Counted {
    let mut split = Split::even(1);
    split.inputs.push(SplitInput::of_items("ranks", "", 0..count));
    let notes = match spec.inputs[..] {
        [] => Vec::new(),
        _ => vec!["`inputs` is not split: with `rank_mini_batch_count` mini-batches have no input".to_string()],
    };
    Counted { split, notes }
}

/// What the inputs hold as they are now, for comparison with a list: calls `visit` with the number of the input, its root, and each entry as
/// [`list`] would list it, of objects with their fingerprints. Files come in no particular order, lines in theirs; tables are not read.
pub fn each_entry(
    spec: &JobSpec,
    excluded: &[PathBuf],
    cancel: &Cancel<'_>,
    mut visit: impl FnMut(usize, &Path, &[u8], Option<Fingerprint>) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let (excluded, cloud) = (Identities::new(excluded), Cloud::default());
    let look = look_for(spec, &excluded, cancel, &cloud);
    for (number, input) in spec.inputs.iter().enumerate() {
        let source = Source::resolve(input, look)?;
        let notes = &mut Notes::default();
        match spec.input_type {
            InputType::Lines => {
                lines(input, &source, look, notes, &mut |line| visit(number, Path::new(""), line, None))?
            }
            _ => {
                let visit = &mut |name: &[u8], known| visit(number, source.root(), name, known);
                source.for_each_known(&input.name, look, notes, visit)?;
            }
        }
    }
    Ok(())
}

/// Every file that `path` is or holds, by its root and its name, in no particular order; `name` is what messages call it.
pub fn each_file(
    name: &str,
    path: &Path,
    cancel: &Cancel<'_>,
    mut visit: impl FnMut(&Path, &[u8], Option<Fingerprint>) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let (excluded, cloud) = (Identities::default(), Cloud::default());
    let look = Look { excluded: &excluded, cancel, of_mltable: false, input_type: InputType::Files, cloud: &cloud };
    let path = path.to_str().expect("a path in the job file, which is text").to_string();
    let source = Source::resolve(&Input { name: name.into(), path, dataset: None }, look)?;
    let visit = &mut |name: &[u8], known| visit(source.root(), name, known);
    source.for_each_known(name, look, &mut Notes::default(), visit)
}

/// Adds an entry, with its fingerprint where it is known.
fn push(writer: &mut ItemWriter, name: &[u8], known: Option<Fingerprint>) -> Result<(), ListError> {
    match known {
        Some(known) => writer.push_known(name, known)?,
        None => writer.push(name)?,
    }
    Ok(())
}

pub(super) fn table_file<'a>(
    input: &'a Input,
    source: &'a Source,
    name: &[u8],
    path: &'a Path,
    entry: u64,
    known: Option<Fingerprint>,
) -> Result<TableFile<'a>, ListError> {
    let object = source.objects().map(|objects| objects.at(name)).zip(known);
    let beyond = |_| ItemsError::Unlistable { ordinal: entry, what: "there are more than 4 billion files" };
    Ok(TableFile { input: &input.name, path, entry: u32::try_from(entry).map_err(beyond)?, first: false, object })
}

/// The name of the file that the list of `input` begins with, and what is known of it; an empty name: there is none.
pub(super) fn first_file(
    input: &Input,
    source: &Source,
    look: Look<'_>,
) -> Result<(Vec<u8>, Option<Fingerprint>), ListError> {
    let mut first: Option<(Vec<u8>, Option<Fingerprint>)> = None;
    source.for_each_known(&input.name, look, &mut Notes::default(), &mut |name, known| {
        if first.as_ref().is_none_or(|(first, _)| name < first.as_slice()) {
            first = Some((name.to_vec(), known));
        }
        Ok(())
    })?;
    Ok(first.unwrap_or_default())
}

/// Resolves each input, lets `take` say how many items and entries there are up to its end, and refuses one that has none.
pub(super) fn split_inputs(
    spec: &JobSpec,
    excluded: &[PathBuf],
    cancel: &Cancel<'_>,
    lines: &mut Vec<String>,
    mut take: impl FnMut(usize, &Source, Look<'_>, &mut Notes) -> Result<(u64, u64), ListError>,
) -> Result<Split, ListError> {
    let (excluded, cloud) = (Identities::new(excluded), Cloud::default());
    let look = look_for(spec, &excluded, cancel, &cloud);
    let mut split = Split::even(match spec.mini_batch_size {
        MiniBatchSize::Items(items) => items,
        // Tables are cut where their slices end.
        MiniBatchSize::Rows(_) | MiniBatchSize::Bytes(_) => 1,
    });
    for (number, input) in spec.inputs.iter().enumerate() {
        cancel()?;
        let source = Source::resolve(input, look)?;
        let mut notes = Notes::default();
        let (items, entries) = (split.items(), split.entries());
        let (items_end, entries_end) = take(number, &source, look, &mut notes)?;
        if items_end == items {
            return Err(match entries_end - entries {
                0 => empty::explain(&input.name, spec.input_type, &source, &notes, look),
                files => {
                    let only = if let Source::File(root, name) = &source { Some(root.join(name)) } else { None };
                    empty::no_rows(&input.name, spec.input_type, source.root(), only.as_deref(), files)
                }
            });
        }
        let root = match spec.input_type {
            InputType::Lines | InputType::Ranks => "",
            _ => source.root().to_str().expect("a part of a path in the job file, which is text"),
        };
        let (name, root) = (input.name.clone(), root.to_string());
        split.inputs.push(SplitInput { name, root, items: items..items_end, entries: entries..entries_end });
        lines.extend(notes.lines(&input.name));
    }
    Ok(split)
}

/// The lines of all list files of `input`.
fn lines(
    input: &Input,
    source: &Source,
    look: Look<'_>,
    notes: &mut Notes,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut names = BTreeSet::new();
    source.for_each_file(&input.name, look, notes, &mut |name| {
        names.insert(name.to_vec());
        Ok(())
    })?;
    notes.files = names.len() as u64;
    names.iter().try_for_each(|name| {
        let path = source.root().join(OsStr::from_bytes(name));
        match source.objects() {
            None => for_each_line(&input.name, &path, look.cancel, visit),
            Some(objects) => for_each_line_of(&input.name, &path, objects.at(name).read(None)?, look.cancel, visit),
        }
    })
}

#[cfg(test)]
mod tests;
