//! What a job says of columns by their names, against the columns that its tables have: found out before the rows are read.
//!
//! Files may differ, so a column is missing only if no file has it. The beginnings of [`MOST`] files are looked at, at most; where there are more
//! it is a note and no refusal. What lies in the cloud is not looked at: each file would take a request.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fanfold_shared::job::{JobSpec, nearest};
use fanfold_shared::text::{grouped, one_line};

use super::ListError;
use super::groups::encoded;
use super::notes::Notes;
use super::source::{Look, Source};
use super::tables::{TableFile, Tables};

/// Files whose beginnings are looked at.
const MOST: u64 = 1000;
/// Columns that a hint names.
const NAMED: usize = 20;

/// Refuses names of `partition_format` that a file has as columns, and dtypes of columns that no file has. Returns what the user should know.
///
/// # Errors
/// That, or an input is not there.
pub(super) fn check(spec: &JobSpec, look: Look<'_>) -> Result<Vec<String>, ListError> {
    // What an `MLTable` makes of columns is looked at when they are there.
    let Some(tables) = Tables::of(spec).filter(|_| spec.mltable.is_none()) else { return Ok(Vec::new()) };
    let of_paths = spec.path_format().map_or(&[][..], |format| format.names());
    let dtypes =
        if spec.input_type.is_csv() && spec.read_csv.header { spec.read_csv.dtype.columns() } else { Vec::new() };
    if of_paths.is_empty() && dtypes.is_empty() {
        return Ok(Vec::new());
    }
    // What can't be written in the encoding of the files can't be looked for either.
    let written = |name: &str| match spec.input_type.is_csv() {
        true => encoded(&spec.read_csv.encoding, name),
        false => Some(name.as_bytes().to_vec()),
    };
    let of_paths: Vec<(&String, Vec<u8>)> = of_paths.iter().filter_map(|name| Some((name, written(name)?))).collect();
    let mut missing: Vec<(&str, Vec<u8>)> =
        dtypes.into_iter().filter_map(|name| Some((name, written(name)?))).collect();
    let (mut files, mut first, mut all) = (0, None, true);
    for input in &spec.inputs {
        let source = Source::resolve(input, look)?;
        if source.objects().is_some() {
            all = false;
            continue;
        }
        let mut enough = false;
        let seen = source.for_each_file(&input.name, look, &mut Notes::default(), &mut |name| {
            enough = files == MOST || (missing.is_empty() && of_paths.is_empty());
            if enough {
                return Err(ListError::Canceled);
            }
            files += 1;
            let path = source.root().join(OsStr::from_bytes(name));
            let of = TableFile { input: &input.name, path: &path, entry: 0, object: None, first: true };
            let Some(columns) = tables.columns(&of) else {
                // Who knows what it has.
                all = false;
                return Ok(());
            };
            if let Some((name, _)) = of_paths.iter().find(|(_, name)| columns.contains(name)) {
                let hint = "call it otherwise in `partition_format` (and `partition_keys`): the frame has a column for each of its values";
                return Err(of.refuse(format!("it has a column `{name}`, which `partition_format` takes from its path"), hint));
            }
            missing.retain(|(_, name)| !has(&columns, name));
            first.get_or_insert((path, columns));
            Ok(())
        });
        match seen {
            Err(ListError::Canceled) if enough => all = false,
            seen => seen?,
        }
    }
    match (missing.first(), first) {
        (Some((column, _)), Some((path, columns))) if all => Err(refusal(column, &path, &columns, files)),
        (Some((column, _)), Some(_)) if files == MOST => Ok(vec![format!(
            "`read_csv.dtype` names a column `{column}`: none of the {} files that were looked at has it",
            grouped(files)
        )]),
        _ => Ok(Vec::new()),
    }
}

/// Whether a header names a column so that pandas calls it `wanted`.
fn has(columns: &[Vec<u8>], wanted: &[u8]) -> bool {
    if columns.iter().any(|name| name == wanted) || wanted.starts_with(b"Unnamed: ") {
        return true;
    }
    // The second `a` is called `a.1`.
    let Some(dot) = wanted.iter().rposition(|byte| *byte == b'.') else { return false };
    let (name, number) = (&wanted[..dot], &wanted[dot + 1..]);
    number.iter().all(u8::is_ascii_digit) && columns.iter().filter(|other| *other == name).count() > 1
}

fn refusal(column: &str, path: &Path, columns: &[Vec<u8>], files: u64) -> ListError {
    let names: Vec<String> =
        columns.iter().map(|name| one_line(&String::from_utf8_lossy(name), 80).into_owned()).collect();
    let path = one_line(&path.to_string_lossy(), usize::MAX).into_owned();
    let meant = nearest(column, names.iter().map(String::as_str)).map(|name| format!("did you mean `{name}`? "));
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = names[..names.len().min(NAMED)].join(", ");
    let hint = format!("{}the columns of `{path}` are: {named}{more}", meant.unwrap_or_default());
    ListError::NoColumn { column: column.to_string(), files, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_called_as_pandas_calls_them() {
        let columns: Vec<Vec<u8>> = ["a", "b.1", "a", ""].map(|name| name.as_bytes().to_vec()).to_vec();
        for name in ["a", "b.1", "a.1", "Unnamed: 3"] {
            assert!(has(&columns, name.as_bytes()), "{name}");
        }
        for name in ["b", "b.1.1", "a.x", "A", "c.1"] {
            assert!(!has(&columns, name.as_bytes()), "{name}");
        }
    }
}
