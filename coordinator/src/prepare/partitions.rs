//! Files by the values in their paths: sorted by these first, so that each combination is a run of the list.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::items::{ItemsError, Slice};
use fanfold_shared::job::{Input, Partition};
use fanfold_shared::partition::PartitionFormat;

use super::ListError;
use super::source::Source;

/// Behind each value: a byte that no path has.
const END: u8 = 0;

/// The partitions of one input, in the order of their values.
pub(super) struct Parts<'a> {
    partition: &'a Partition,
    format: &'a PartitionFormat,
    root: PathBuf,
    input: &'a Input,
    /// The values of the one that is being made, its first entry, and its items.
    key: Vec<u8>,
    first: u64,
    items: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        partition: &'a Partition,
        format: &'a PartitionFormat,
        source: &Source,
        input: &'a Input,
    ) -> Parts<'a> {
        Parts { partition, format, root: source.root().to_path_buf(), input, key: Vec::new(), first: 0, items: 0 }
    }

    /// The name of a file with its values before it.
    pub(super) fn keyed(&self, name: &[u8]) -> Result<Vec<u8>, ListError> {
        let path = self.root.join(std::ffi::OsStr::from_bytes(name));
        let values = values_of(self.format, self.input, &path)?;
        let mut keyed = Vec::with_capacity(name.len() + 32);
        for value in self.partition.key_values(&values) {
            keyed.extend_from_slice(value);
            keyed.push(END);
        }
        keyed.extend_from_slice(name);
        Ok(keyed)
    }

    /// A file with these values follows, as `entry`, with so many items. Returns the partition that ends before it, if one does.
    pub(super) fn next(&mut self, key: &[u8], entry: u64, items: u64) -> Result<Option<(Slice, u64)>, ListError> {
        let ended = if self.key == key { None } else { self.last(entry)? };
        if self.key != key {
            (self.key, self.first) = (key.to_vec(), entry);
        }
        self.items += items;
        Ok(ended)
    }

    /// The last partition, which ends before `entry`. One of tables without a row is none.
    pub(super) fn last(&mut self, entry: u64) -> Result<Option<(Slice, u64)>, ListError> {
        let items = std::mem::take(&mut self.items);
        let too_many = |_| ItemsError::Unlistable { ordinal: entry, what: "there are more than 4 billion files" };
        let first = u32::try_from(self.first).map_err(too_many)?;
        let files = u32::try_from(entry - self.first).map_err(too_many)?;
        Ok((items > 0).then(|| (Slice::whole(first, files), items)))
    }
}

/// The values that `format` takes from the path of a file of `input`.
pub(super) fn values_of<'p>(
    format: &PartitionFormat,
    input: &Input,
    path: &'p Path,
) -> Result<Vec<&'p [u8]>, ListError> {
    format.values(path.as_os_str().as_bytes()).ok_or_else(|| {
        let (input, path, format) = (input.name.clone(), path.to_path_buf(), format.to_string());
        ListError::NoPartition { input, path, format }
    })
}

/// Divides what [`Parts::keyed`] made.
pub(super) fn key_and_name(keyed: &[u8]) -> (&[u8], &[u8]) {
    let name = keyed.iter().rposition(|byte| *byte == END).map_or(0, |at| at + 1);
    keyed.split_at(name)
}
