//! Partitions by columns: gathers the rows of each combination of values, wherever they lie, so that a mini-batch is a run of bytes again
//! (`docs/design/groups.md`).
//!
//! An external sort in bounded memory. What dies before the list is complete leaves nothing that counts.

mod columns;
mod count;
mod csv;
mod json;
mod key;
#[cfg(test)]
mod memory_tests;
mod parquet;
mod room;
mod rows;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::items::{
    Fingerprint, Fingerprints, GroupWriter, GrowingList, ItemReader, ItemsError, Origin, ShapeId, check,
};
use fanfold_shared::job::{ColumnStep, Input, InputType, JobSpec};
use fanfold_shared::text::counted;
use fanfold_store::Client;

use super::cloud::Cloud;
use super::sort::Sorter;
use super::tables::TableFile;
use super::{Cancel, ListError, empty};
pub(super) use columns::encoded;
pub(super) use count::count;
pub(super) use csv::fields;
use rows::Reader;

/// The memory that a run of the sort of rows may take, of which the list's takes `of_list`, bytes: rows are longer than names.
pub(super) fn run_bytes(of_list: usize) -> usize {
    4 * of_list
}

/// All headers together, bytes.
const HEADERS: usize = 64 << 20;
/// From how many times the row groups that there are on their reading is worth a word.
const OFTEN: u64 = 4;

/// Whether rows of the job are gathered.
pub(super) fn is_wanted(spec: &JobSpec) -> bool {
    Reader::of(spec).is_some()
}

/// Gathers the rows of a job whose files are named in `list`, in its directory `dir`, and adds their slices. Returns what the user is to be told.
///
/// # Errors
/// A file can't be read, has not the columns, or changes meanwhile; there is no room.
pub(super) fn gather(
    spec: &JobSpec,
    dir: &Path,
    list: &mut GrowingList,
    cancel: &Cancel<'_>,
    run_bytes: usize,
) -> Result<Vec<String>, ListError> {
    let names = list.names()?;
    let fingerprints = Fingerprints::create(dir, names.entries())?;
    fingerprints.take(&names, 0..names.entries())?;
    let by_origin = spec.input_type == InputType::Parquet;
    room::check(dir, names.entries(), &fingerprints, spec.input_type)?;
    let cloud = Cloud::default();
    let clients = names.split().inputs.iter().map(|input| input.uri().map(|uri| cloud.open(&uri)).transpose());
    let mut gathering = Gathering {
        spec,
        names: &names,
        fingerprints,
        clients: clients.collect::<Result<_, _>>()?,
        reader: Reader::of(spec).expect("the job is partitioned by columns"),
        writer: GroupWriter::create(dir, by_origin)?,
        shapes: HashMap::new(),
        headers: 0,
        row_groups: 0,
        row_groups_read: 0,
        groups: 0,
    };
    let mut next = 0;
    while next < spec.inputs.len() {
        let table = table_of(spec, next);
        next = table.end;
        let mut sorter = Sorter::new(dir, run_bytes, cancel);
        for number in table.clone() {
            for entry in names.split().inputs[number].entries.clone() {
                gathering.read(number, &spec.inputs[number], entry, cancel, &mut sorter)?;
            }
        }
        gathering.reader.end_table(&spec.inputs[table.end - 1])?;
        gathering.write(table.start, sorter, list)?;
        if list.rows_of(table.start) == 0 {
            return Err(empty::no_rows_of(&names, table.start, spec.input_type)?);
        }
    }
    let Gathering { writer, row_groups, row_groups_read, groups, .. } = gathering;
    writer.finish()?;
    let mut notes = Vec::new();
    if by_origin && row_groups_read > OFTEN * row_groups {
        notes.push(format!(
            "the rows of {} are scattered: the {} of the files will be read {} times in all; files that are sorted by `partition_keys` are \
             read about once",
            counted(groups, "combination"),
            counted(row_groups, "row group"),
            row_groups_read
        ));
    }
    Ok(notes)
}

/// The inputs that are one table with the input of this number: the `paths` of an MLTable, which are called `name-1`, `name-2` … Their rows are
/// gathered together, as items of the first.
fn table_of(spec: &JobSpec, number: usize) -> Range<usize> {
    let part = |number: usize| -> Option<(&str, usize)> {
        let (table, part) = spec.inputs.get(number)?.name.rsplit_once('-')?;
        Some((table, part.parse().ok()?))
    };
    let (true, Some((table, at))) = (spec.mltable.is_some(), part(number)) else { return number..number + 1 };
    let Some(start) = (at > 0).then(|| (number + 1).checked_sub(at)).flatten() else { return number..number + 1 };
    let mut end = start;
    while part(end) == Some((table, end - start + 1)) {
        end += 1;
    }
    if (start..end).contains(&number) { start..end } else { number..number + 1 }
}

struct Gathering<'a> {
    spec: &'a JobSpec,
    names: &'a ItemReader,
    fingerprints: Fingerprints,
    /// Of the inputs that lie in the cloud.
    clients: Vec<Option<Client>>,
    reader: Reader<'a>,
    writer: GroupWriter,
    shapes: HashMap<(Vec<u8>, u32), ShapeId>,
    /// Bytes of all headers.
    headers: usize,
    /// Of Parquet: how many there are, and how many groups read them.
    row_groups: u64,
    row_groups_read: u64,
    groups: u64,
}

/// What stands behind the key of a sorted row, before its record: the entry, the row, the shape, the row group.
const PLACE: usize = 4 + 8 + 4 + 4;

impl Gathering<'_> {
    /// Sorts the rows of a file in.
    fn read(
        &mut self,
        number: usize,
        input: &Input,
        entry: u64,
        cancel: &Cancel<'_>,
        sorter: &mut Sorter<'_>,
    ) -> Result<(), ListError> {
        let (name, path) = self.file(number, entry)?;
        let beyond = |_| ItemsError::Unlistable { ordinal: entry, what: "there are more than 4 billion files" };
        let entry_number = u32::try_from(entry).map_err(beyond)?;
        let known = self.fingerprints.get(entry..entry + 1)?;
        let object = self.clients[number].as_ref().map(|client| (client.at(&String::from_utf8_lossy(&name)), known[0]));
        let is_object = object.is_some();
        let of = TableFile { input: &input.name, path: &path, entry: entry_number, first: entry == 0, object };
        let Gathering { reader, writer, shapes, headers, row_groups, .. } = self;
        let (mut shape, mut row_group) = (None, None);
        let mut sorted = Vec::new();
        reader.read(input, &of, cancel, &mut |row| {
            let shape = match shape {
                Some(shape) => shape,
                None => *shape.insert(match shapes.get(&(row.header.to_vec(), row.columns)) {
                    Some(known) => *known,
                    None => {
                        *headers += row.header.len();
                        if *headers > HEADERS {
                            let hint = "partitions by columns are for tables of a few forms";
                            return Err(of.refuse("the headers of the files differ, and take 64 MiB up to here", hint));
                        }
                        let shape = writer.shape(row.header, row.columns)?;
                        shapes.insert((row.header.to_vec(), row.columns), shape);
                        shape
                    }
                }),
            };
            if row_group != Some(row.row_group) {
                row_group = Some(row.row_group);
                *row_groups += 1;
            }
            sorted.clear();
            sorted.extend_from_slice(row.key);
            sorted.extend_from_slice(&of.entry.to_be_bytes());
            sorted.extend_from_slice(&row.number.to_be_bytes());
            sorted.extend_from_slice(&shape.0.to_be_bytes());
            sorted.extend_from_slice(&row.row_group.to_be_bytes());
            sorted.extend_from_slice(row.record);
            sorter.push(&sorted)
        })?;
        // Every answer of a store says which version it is of.
        if is_object {
            return Ok(());
        }
        let root = Path::new(&self.names.split().inputs[number].root);
        match check(root, [name.as_slice()], &known).pop() {
            None => Ok(()),
            Some((_, trouble)) => {
                let hint = "start the job again when nothing writes to its inputs any more";
                Err(of.refuse(format!("{trouble} while its rows were gathered"), hint))
            }
        }
    }

    fn file(&self, number: usize, entry: u64) -> Result<(Vec<u8>, PathBuf), ListError> {
        let name = self.names.item(entry)?;
        let path = Path::new(&self.names.split().inputs[number].root).join(OsStr::from_bytes(&name));
        Ok((name, path))
    }

    /// Writes the groups of a table that begins with the input of this number.
    fn write(&mut self, number: usize, sorter: Sorter<'_>, list: &mut GrowingList) -> Result<(), ListError> {
        let first = self.names.split().inputs[number].entries.start as u32;
        let keys = self.reader.keys().len();
        // Columns made of the path differ from file to file.
        let apart = self
            .spec
            .column_steps()
            .iter()
            .any(|step| matches!(step, ColumnStep::Path | ColumnStep::Values | ColumnStep::ValuesFirst));
        let Gathering { writer, row_groups_read, groups, .. } = self;
        let mut current: Option<Vec<u8>> = None;
        let mut last = None;
        let mut end = |writer: &mut GroupWriter, key: &[u8]| {
            *groups += 1;
            let (slice, rows) = writer.end(key::values(key), first)?;
            Ok::<_, ListError>(list.push(&slice, rows, number)?)
        };
        sorter.drain(|sorted| {
            let (key, rest) = sorted.split_at(key::len(sorted, keys));
            let (place, record) = rest.split_at(PLACE);
            let half = |at: usize| u32::from_be_bytes(place[at..at + 4].try_into().expect("four bytes"));
            let row = u64::from_be_bytes(place[4..12].try_into().expect("eight bytes"));
            let origin = Origin { entry: half(0), row };
            if current.as_deref() != Some(key) {
                if let Some(ended) = current.replace(key.to_vec()) {
                    end(writer, &ended)?;
                }
                last = None;
            }
            if last.replace((origin.entry, half(16))) != Some((origin.entry, half(16))) {
                *row_groups_read += 1;
            }
            Ok(writer.row(origin, ShapeId(half(12)), record, apart)?)
        })?;
        match current {
            Some(ended) => end(writer, &ended),
            None => Ok(()),
        }
    }
}

/// The size of a file as it was found.
fn size(fingerprint: &Fingerprint) -> u64 {
    match fingerprint {
        Fingerprint::File { size, .. } => *size,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::tests::spec;

    #[test]
    fn paths_of_an_mltable_are_one_table() {
        let named = |names: &[&str]| JobSpec {
            inputs: names.iter().map(|name| Input { name: (*name).into(), path: "/".into(), dataset: None }).collect(),
            mltable: Some(Default::default()),
            ..spec()
        };
        let tables = |spec: &JobSpec| (0..spec.inputs.len()).map(|number| table_of(spec, number)).collect::<Vec<_>>();
        assert_eq!(tables(&named(&["a-1", "a-2", "b", "c-1", "d-1"])), [0..2, 0..2, 2..3, 3..4, 4..5]);
        assert_eq!(tables(&named(&["a-2", "a-1", "x-0", "input0"])), [0..1, 1..2, 2..3, 3..4]);
        let other = JobSpec { mltable: None, ..named(&["a-1", "a-2"]) };
        assert_eq!(tables(&other), [0..1, 1..2]);
    }
}
