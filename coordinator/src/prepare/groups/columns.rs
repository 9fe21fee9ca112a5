//! Where the values of the keys stand: in columns, or in the paths of the files.

use fanfold_shared::job::{Input, JobSpec, Partition, ReadCsv};
use fanfold_shared::partition::column_number;

use super::{csv, json, key};
use crate::prepare::ListError;
use crate::prepare::partitions;
use crate::prepare::tables::{Dialect, TableFile};

/// The keys of a job.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    partition: &'a Partition,
    read_csv: &'a ReadCsv,
    of_mltable: bool,
}

/// Where the value of one key stands in the files of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the path of the file, and it is this.
    Path(Vec<u8>),
    /// In the column with this number.
    Column(usize),
}

impl<'a> Keys<'a> {
    /// None: the job is not partitioned by columns.
    pub(super) fn of(spec: &'a JobSpec) -> Option<Keys<'a>> {
        let partition = spec.partition.as_ref().filter(|partition| partition.is_by_columns())?;
        Some(Keys { partition, read_csv: &spec.read_csv, of_mltable: spec.mltable.is_some() })
    }

    pub(super) fn len(&self) -> usize {
        self.partition.keys.len()
    }

    pub(super) fn names(&self) -> &'a [String] {
        &self.partition.keys
    }

    /// For each key its value in the path of a file; None: it is a column.
    pub(super) fn in_path(&self, input: &Input, of: &TableFile<'_>) -> Result<Vec<Option<Vec<u8>>>, ListError> {
        let Some(format) = &self.partition.format else { return Ok(vec![None; self.len()]) };
        let values = partitions::values_of(format, input, of.path)?;
        let value = |key: &String| {
            let at = format.names().iter().position(|name| name == key)?;
            Some(values[at].to_vec())
        };
        Ok(self.names().iter().map(value).collect())
    }

    /// Finds the columns in a header.
    pub(super) fn in_header(
        &self,
        of: &TableFile<'_>,
        in_path: &[Option<Vec<u8>>],
        header: &[u8],
        dialect: Dialect,
    ) -> Result<Vec<Place>, ListError> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        csv::fields(header, dialect, |_, name| {
            names.push(name.to_vec());
            true
        });
        self.places(in_path, |key| {
            let wanted = encoded(&self.read_csv.encoding, key);
            let mut found = names.iter().enumerate().filter(|(_, name)| Some(*name) == wanted.as_ref());
            let first = found.next().map(|(at, _)| at);
            if first.is_some() && found.next().is_some() {
                let hint = "give the columns different names";
                return Err(of.refuse(format!("its header has `{key}` twice, and `partition_keys` names it"), hint));
            }
            first.ok_or_else(|| {
                let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
                self.missing(of, key, &names.join(", "))
            })
        })
    }

    /// Of a file without a header, whose rows have so many fields.
    pub(super) fn by_number(
        &self,
        of: &TableFile<'_>,
        in_path: &[Option<Vec<u8>>],
        columns: usize,
    ) -> Result<Vec<Place>, ListError> {
        self.places(in_path, |key| {
            let number = column_number(key, self.of_mltable).map(|number| number as usize);
            number.filter(|number| *number < columns).ok_or_else(|| {
                let first = u32::from(self.of_mltable);
                let name = |number: usize| match self.of_mltable {
                    true => format!("Column{number}"),
                    false => number.to_string(),
                };
                self.missing(of, key, &format!("{} to {}", name(first as usize), name(columns - 1 + first as usize)))
            })
        })
    }

    pub(super) fn places(
        &self,
        in_path: &[Option<Vec<u8>>],
        mut column: impl FnMut(&str) -> Result<usize, ListError>,
    ) -> Result<Vec<Place>, ListError> {
        let keys = self.names().iter().zip(in_path);
        keys.map(|(key, value)| match value {
            Some(value) => Ok(Place::Path(value.clone())),
            None => column(key).map(Place::Column),
        })
        .collect()
    }

    pub(super) fn missing(&self, of: &TableFile<'_>, key: &str, names: &str) -> ListError {
        let what = format!("it has no column `{key}`, which `partition_keys` names");
        of.refuse(what, format!("its columns are: {names}"))
    }
}

/// The bytes of a name in an encoding, as far as that is known here.
pub(in crate::prepare) fn encoded(encoding: &str, name: &str) -> Option<Vec<u8>> {
    let bare: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    match () {
        () if name.is_ascii() || bare.eq_ignore_ascii_case("utf8") || bare.eq_ignore_ascii_case("utf8sig") => {
            Some(name.as_bytes().to_vec())
        }
        () if bare.eq_ignore_ascii_case("latin1") || bare.starts_with("iso88591") => {
            name.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
        }
        () => None,
    }
}

/// Appends the key of a record of CSV.
pub(super) fn of_csv(record: &[u8], dialect: Dialect, places: &[Place], texts: &mut Vec<Vec<u8>>, out: &mut Vec<u8>) {
    texts.resize(places.len(), Vec::new());
    texts.iter_mut().for_each(Vec::clear);
    let last = places.iter().filter_map(|place| if let Place::Column(at) = place { Some(*at) } else { None }).max();
    csv::fields(record, dialect, |number, text| {
        for (place, slot) in places.iter().zip(texts.iter_mut()) {
            if *place == Place::Column(number) {
                slot.extend_from_slice(text);
            }
        }
        Some(number) < last
    });
    for (place, text) in places.iter().zip(texts.iter()) {
        match place {
            Place::Path(value) => key::push(out, Some(value)),
            // A field that a short row has not is empty.
            Place::Column(_) => key::push(out, Some(text)),
        }
    }
}

/// Appends the key of a line of JSON Lines. Sets `seen` for the names that it has.
pub(super) fn of_json(
    line: &[u8],
    names: &[&str],
    in_path: &[Option<Vec<u8>>],
    values: &mut [Option<Vec<u8>>],
    seen: &mut [bool],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    json::values(line, names, values, seen)?;
    for (value, of_path) in values.iter().zip(in_path) {
        key::push(out, of_path.as_deref().or(value.as_deref()));
    }
    Ok(())
}
