//! Which bytes of a Parquet file the row groups of a slice are: its footer says so.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use fanfold_shared::footer;
use fanfold_shared::items::Fingerprint;
use fanfold_store::Client;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::Cloud;
use super::bring::Part;
use super::one::is_the_listed;

/// What is fetched of the end at once: most footers are shorter.
const TAIL: u64 = 64 << 10;
/// A longer footer is none that is worth it.
const LONGEST: u64 = 64 << 20;
/// A file that is shorter is fetched whole, and kept: that serves its other slices.
const SMALL: u64 = 4 << 20;
/// Files whose footers are remembered.
const REMEMBERED: usize = 32;

/// Of one file: which one, where its footer begins, and the bytes and the rows of each row group.
pub(super) struct Footer {
    address: String,
    known: Fingerprint,
    start: u64,
    size: u64,
    groups: Vec<Range<u64>>,
    /// Where the rows of each end.
    ends: Vec<u64>,
}

impl Footer {
    /// The number of the row group that a row is in.
    pub(super) fn group_of(&self, row: u64) -> u64 {
        self.ends.partition_point(|end| *end <= row) as u64
    }

    /// The part of the file that these row groups are, which are in order. None: it has no such ones.
    pub(super) fn part(&self, groups: impl IntoIterator<Item = u64>) -> Option<Part> {
        let mut rows: Vec<Range<u64>> = Vec::new();
        for number in groups {
            let group = self.groups.get(usize::try_from(number).ok()?)?;
            match rows.last_mut() {
                Some(last) if last.end == group.start => last.end = group.end,
                _ => rows.push(group.clone()),
            }
        }
        rows.push(self.start..self.size);
        Some(Part { header: 0, beginning: 0, rows })
    }
}

pub(super) type Footers = VecDeque<Arc<Footer>>;

impl Cloud {
    /// The part of a file that these row groups are. None: it is to be fetched whole, as it is small, or its footer can't be read; what is wrong with it shows then.
    pub(super) fn groups(&self, client: &Client, known: Fingerprint, groups: Range<u64>) -> Option<Part> {
        self.footer(client, known)?.part(groups)
    }

    /// What the footer of a file says. None: the file is small, or its footer can't be read.
    pub(super) fn footer(&self, client: &Client, known: Fingerprint) -> Option<Arc<Footer>> {
        let Fingerprint::File { size, .. } = known else { return None };
        if size <= SMALL {
            return None;
        }
        let address = client.uri().to_string();
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |footer: &&Arc<Footer>| footer.address == address && footer.known == known;
        if let Some(found) = footers.iter().find(is_it).cloned() {
            return Some(found);
        }
        // Not under the lock: a server may take its time.
        drop(footers);
        let footer = Arc::new(read(client, known, size, address)?);
        footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        footers.push_back(footer.clone());
        if footers.len() > REMEMBERED {
            footers.pop_front();
        }
        Some(footer)
    }
}

fn read(client: &Client, known: Fingerprint, size: u64, address: String) -> Option<Footer> {
    let object = client.head().ok()?;
    is_the_listed(client, known, &object).ok()?;
    let tail = client.get_range(size.saturating_sub(TAIL)..size, Some(&object)).ok()?;
    let (rest, end) = tail.split_at_checked(tail.len().checked_sub(8)?)?;
    if &end[4..] != b"PAR1" {
        return None;
    }
    let len = u64::from(u32::from_le_bytes(end[..4].try_into().ok()?));
    if len > LONGEST || len + 8 > size {
        return None;
    }
    let start = size - 8 - len;
    let metadata = match usize::try_from(len).ok().and_then(|len| rest.len().checked_sub(len)) {
        Some(from) => decode(&rest[from..]),
        None => decode(&client.get_range(start..size - 8, Some(&object)).ok()?),
    };
    let metadata = metadata?;
    let mut ends = Vec::with_capacity(metadata.num_row_groups());
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).ok()?;
        ends.push(ends.last().copied().unwrap_or(0u64).checked_add(rows)?);
    }
    Some(Footer { address, known, start, size, groups: groups(&metadata, size)?, ends })
}

fn decode(footer: &[u8]) -> Option<ParquetMetaData> {
    footer::check(footer).ok()?;
    ParquetMetaDataReader::decode_metadata(footer).ok()
}

/// The bytes of each row group; None: they can't be.
fn groups(metadata: &ParquetMetaData, size: u64) -> Option<Vec<Range<u64>>> {
    let of_group = |group: &parquet::file::metadata::RowGroupMetaData| {
        let mut bytes: Option<Range<u64>> = None;
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or(i64::MAX).min(column.data_page_offset());
            let start = u64::try_from(start).ok()?;
            let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?).filter(|end| *end <= size)?;
            bytes = Some(bytes.map_or(start..end, |bytes| bytes.start.min(start)..bytes.end.max(end)));
        }
        bytes
    };
    metadata.row_groups().iter().map(of_group).collect()
}
