//! How many rows each combination of values has, without gathering them: for who only wants to know what would run.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use fanfold_shared::items::ItemsError;
use fanfold_shared::job::JobSpec;
use fanfold_shared::split::{Cut, Ends};

use super::rows::Reader;
use super::table_of;
use crate::prepare::listing::{Counted, NO_ITEMS, first_file, split_inputs, table_file};
use crate::prepare::source::Source;
use crate::prepare::tables::TableFile;
use crate::prepare::{Cancel, ListError, empty};

/// Counts what would be gathered, and writes nothing. The combinations are held in memory.
///
/// # Errors
/// As of gathering them.
pub(in crate::prepare) fn count(
    spec: &JobSpec,
    excluded: &[PathBuf],
    cancel: &Cancel<'_>,
) -> Result<Counted, ListError> {
    let mut reader = Reader::of(spec).expect("the job is partitioned by columns");
    let only_first = spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file);
    let (mut notes, mut entries, mut items, ends) = (Vec::new(), 0, 0, Ends::growing());
    let mut by_values: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut split = split_inputs(spec, excluded, cancel, &mut notes, |number, source, look, notes| {
        let (input, before) = (&spec.inputs[number], entries);
        let is_first = entries == 0 && only_first;
        let (first, known) = if is_first { first_file(input, source, look)? } else { Default::default() };
        if !first.is_empty() {
            // Its header is that of all, and files come in any order.
            let path = source.root().join(OsStr::from_bytes(&first));
            let of = TableFile { first: true, ..table_file(input, source, &first, &path, 0, known)? };
            reader.read(input, &of, cancel, &mut |_| Ok(()))?;
        }
        source.for_each_known(&input.name, look, notes, &mut |name, known| {
            entries += 1;
            let path = source.root().join(OsStr::from_bytes(name));
            let of = TableFile { first: name == first, ..table_file(input, source, name, &path, 0, known)? };
            reader.read(input, &of, cancel, &mut |row| {
                match by_values.get_mut(row.key) {
                    Some(rows) => *rows += 1,
                    None => drop(by_values.insert(row.key.to_vec(), 1)),
                }
                Ok(())
            })
        })?;
        let table = table_of(spec, number);
        if number + 1 == table.end && entries > before {
            reader.end_table(input)?;
            if by_values.is_empty() {
                let only = if let Source::File(root, name) = source { Some(root.join(name)) } else { None };
                let files = entries - before;
                return Err(empty::no_rows(&input.name, spec.input_type, source.root(), only.as_deref(), files));
            }
            for rows in std::mem::take(&mut by_values).into_values() {
                items += rows;
                if !ends.push(items, table.start) {
                    return Err(ItemsError::Unlistable { ordinal: items, what: NO_ITEMS }.into());
                }
            }
        }
        Ok((entries, entries))
    })?;
    ends.complete_with(0);
    split.cut = Cut::Listed(ends);
    Ok(Counted { split: split.with_items(), notes })
}
