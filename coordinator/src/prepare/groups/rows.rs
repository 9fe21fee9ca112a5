//! The rows of the files of a job, each with the values of its keys.

use fanfold_shared::job::{Input, InputType, JobSpec};

use super::columns::{Keys, Place, of_csv, of_json};
use super::{csv, parquet};
use crate::prepare::tables::{Part, TableFile, Tables};
use crate::prepare::{Cancel, ListError};

/// A row.
pub(super) struct Row<'a> {
    /// Its values, as `key.rs` has them.
    pub(super) key: &'a [u8],
    /// Its number in the file, from 0.
    pub(super) number: u64,
    /// The header that it is read with.
    pub(super) header: &'a [u8],
    /// The columns of its file, where there is no header; else 0.
    pub(super) columns: u32,
    /// Its bytes, with an end; none of Parquet, where it stays in its file.
    pub(super) record: &'a [u8],
    /// Of Parquet the number of its row group.
    pub(super) row_group: u32,
}

/// Takes a row.
pub(super) type TakeRow<'a> = dyn FnMut(Row<'_>) -> Result<(), ListError> + 'a;

/// Reads files, one after the other.
pub(super) struct Reader<'a> {
    spec: &'a JobSpec,
    tables: Tables<'a>,
    keys: Keys<'a>,
    /// The header of the first file, where it counts for all.
    first_header: Option<Vec<u8>>,
    /// Which keys the lines of a table of JSON had.
    seen: Vec<bool>,
}

impl<'a> Reader<'a> {
    /// None: the job is not partitioned by columns.
    pub(super) fn of(spec: &'a JobSpec) -> Option<Reader<'a>> {
        Some(Reader { spec, tables: Tables::of(spec)?, keys: Keys::of(spec)?, first_header: None, seen: Vec::new() })
    }

    pub(super) fn keys(&self) -> Keys<'a> {
        self.keys
    }

    /// Hands on the rows of a file, in order.
    ///
    /// # Errors
    /// It can't be read, or has not the columns.
    pub(super) fn read(
        &mut self,
        input: &Input,
        of: &TableFile<'_>,
        cancel: &Cancel<'_>,
        take: &mut TakeRow<'_>,
    ) -> Result<(), ListError> {
        let in_path = self.keys.in_path(input, of)?;
        match self.spec.input_type {
            InputType::Parquet => parquet::rows(&self.keys, of, &in_path, cancel, take),
            InputType::Jsonl => self.json(of, &in_path, cancel, take),
            _ => self.csv(of, &in_path, cancel, take),
        }
    }

    fn csv(
        &mut self,
        of: &TableFile<'_>,
        in_path: &[Option<Vec<u8>>],
        cancel: &Cancel<'_>,
        take: &mut TakeRow<'_>,
    ) -> Result<(), ListError> {
        let (dialect, keys) = (self.tables.dialect(), self.keys);
        let only_first = self.spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file);
        let has_header = self.spec.read_csv.header;
        let mut header = self.first_header.clone();
        let mut places: Option<Vec<Place>> = None;
        let (mut key, mut texts, mut whole, mut columns, mut number) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
        self.tables.records(of, cancel, &mut |part| {
            let record = match part {
                Part::Header(bytes) => {
                    header = Some(plain_header(bytes, dialect.delimiter.expect("CSV")));
                    return Ok(());
                }
                Part::Row(record) => record,
            };
            let places = match &places {
                Some(places) => places,
                None => {
                    let fields = csv::fields(record, dialect, |_, _| true);
                    let found = match header.as_deref().filter(|_| has_header) {
                        Some(header) => {
                            let names = csv::fields(header, dialect, |_, _| true);
                            if fields > names {
                                let what = format!(
                                    "its header has {} and its first row {fields}: pandas makes an index of the first ones then, and the \
                                     columns are called otherwise",
                                    fanfold_shared::text::counted(names as u64, "field")
                                );
                                return Err(of.refuse(what, "give each column a name in the header"));
                            }
                            keys.in_header(of, in_path, header, dialect)?
                        }
                        None => {
                            columns = fields as u32;
                            keys.by_number(of, in_path, fields)?
                        }
                    };
                    places.insert(found)
                }
            };
            key.clear();
            of_csv(record, dialect, places, &mut texts, &mut key);
            let record = with_end(record, &mut whole, |last| matches!(last, b'\n' | b'\r'));
            let header = header.as_deref().unwrap_or_default();
            let row = Row { key: &key, number, header, columns, record, row_group: 0 };
            number += 1;
            take(row)
        })?;
        if only_first && of.first {
            self.first_header = header;
        }
        Ok(())
    }

    fn json(
        &mut self,
        of: &TableFile<'_>,
        in_path: &[Option<Vec<u8>>],
        cancel: &Cancel<'_>,
        take: &mut TakeRow<'_>,
    ) -> Result<(), ListError> {
        let names: Vec<&str> = self.keys.names().iter().map(String::as_str).collect();
        let (mut key, mut values, mut whole, mut number) = (Vec::new(), vec![None; names.len()], Vec::new(), 0);
        self.seen.resize(names.len(), false);
        let Reader { tables, seen, .. } = self;
        tables.records(of, cancel, &mut |part| {
            let (Part::Row(line) | Part::Header(line)) = part;
            key.clear();
            of_json(line, &names, in_path, &mut values, seen, &mut key).map_err(|why| {
                let hint = "each line must be an object whose keys of `partition_keys` are texts, numbers, true, false or null";
                of.refuse(format!("row {}: {why}", number + 1), hint)
            })?;
            let record = with_end(line, &mut whole, |last| last == b'\n');
            let row = Row { key: &key, number, header: b"", columns: 0, record, row_group: 0 };
            number += 1;
            take(row)
        })?;
        // A value of the path is there in any case.
        seen.iter_mut().zip(in_path).for_each(|(seen, of_path)| *seen |= of_path.is_some());
        Ok(())
    }

    /// All files of a table were read, of which `input` is the last.
    ///
    /// # Errors
    /// No line of JSON had one of the keys: it is misspelt.
    pub(super) fn end_table(&mut self, input: &Input) -> Result<(), ListError> {
        let seen = std::mem::take(&mut self.seen);
        match self.keys.names().iter().zip(seen).find(|(_, seen)| !seen) {
            Some((key, _)) => Err(ListError::NoKey { input: input.name.clone(), key: key.clone() }),
            None => Ok(()),
        }
    }
}

/// A record with an end of its own: the last one of a file may have none.
fn with_end<'r>(record: &'r [u8], whole: &'r mut Vec<u8>, is_end: impl Fn(u8) -> bool) -> &'r [u8] {
    if record.last().is_some_and(|last| is_end(*last)) {
        return record;
    }
    whole.clear();
    whole.extend_from_slice(record);
    whole.push(b'\n');
    whole
}

/// A header without blank lines before it, and with the end that all have: files that differ in these only have the same.
fn plain_header(header: &[u8], delimiter: u8) -> Vec<u8> {
    let header = &header[csv::start(header, delimiter)..];
    let header = header.strip_suffix(b"\n").unwrap_or(header);
    let mut plain = header.strip_suffix(b"\r").unwrap_or(header).to_vec();
    plain.push(b'\n');
    plain
}
