//! Slices of Parquet files: row groups, put together up to the size of a mini-batch. Only the footer is read.

use std::io;

use fanfold_shared::footer;
use fanfold_shared::items::Slice;
use fanfold_shared::job::MiniBatchSize;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::ChunkReader;

use super::{After, TableFile, Take};
use crate::prepare::ListError;

/// What to do about a file that is not Parquet.
const NOT_PARQUET: &str = "is it a Parquet file, and whole? `input_type` may also be `csv`, `tsv` or `jsonl`";

/// Refuses a file whose footer would keep the library busy for ever ([`footer`]). What else is wrong with it, the library says.
pub(in crate::prepare) fn is_plausible<R: ChunkReader>(of: &TableFile<'_>, file: &R) -> Result<(), ListError> {
    let bytes = || {
        let end = file.len().checked_sub(8)?;
        let tail = file.get_bytes(end, 8).ok()?;
        let len = u32::from_le_bytes(tail[..4].try_into().ok()?);
        let start = end.checked_sub(len.into()).filter(|_| &tail[4..] == b"PAR1")?;
        file.get_bytes(start, len as usize).ok()
    };
    match bytes().map(|bytes| footer::check(&bytes)) {
        Some(Err(why)) => Err(of.refuse(format!("it can't be read as Parquet: {why}"), NOT_PARQUET)),
        _ => Ok(()),
    }
}

/// Hands on the slices of a Parquet file.
pub(super) fn slices<R: ChunkReader>(
    of: &TableFile<'_>,
    file: &R,
    head: &[u8],
    size: MiniBatchSize,
    after: Option<After>,
    take: &mut Take<'_>,
) -> Result<(), ListError> {
    if head == b"PARE" {
        return Err(of.refuse("its footer is encrypted", "write it without encryption"));
    }
    is_plausible(of, file)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).map_err(|error| {
        if let ParquetError::External(error) = error {
            let error = error.downcast::<io::Error>().map_or_else(io::Error::other, |error| *error);
            return of.unreadable("read", error);
        }
        of.refuse(format!("it can't be read as Parquet: {error}"), NOT_PARQUET)
    })?;
    let (mut start, mut first_row) = after.map_or((0, 0), |after| (after.end, after.first_row));
    let (mut rows, mut bytes) = (0, 0u64);
    let mut all_rows = first_row;
    for (number, group) in metadata.row_groups().iter().enumerate().skip(start as usize) {
        let number = number as u64;
        let more =
            |what: i64| u64::try_from(what).map_err(|_| of.refuse("its footer has negative sizes", "write it anew"));
        let (group_rows, group_bytes) = (
            more(group.num_rows())?,
            group.columns().iter().try_fold(0u64, |sum, column| {
                // Of a footer that is made up, the library's own sum overflows.
                more(column.compressed_size()).map(|bytes| sum.saturating_add(bytes))
            })?,
        );
        all_rows = all_rows
            .checked_add(group_rows)
            .ok_or_else(|| of.refuse("its footer has too many rows", "write it anew"))?;
        let too_much = match size {
            MiniBatchSize::Items(most) | MiniBatchSize::Rows(most) => rows + group_rows > most,
            MiniBatchSize::Bytes(most) => bytes.saturating_add(group_bytes) > most,
        };
        if rows > 0 && too_much {
            take(Slice { entry: of.entry, files: 1, header_len: 0, first_row, part: start..number }, rows)?;
            first_row += rows;
            (start, rows, bytes) = (number, 0, 0);
        }
        rows += group_rows;
        bytes = bytes.saturating_add(group_bytes);
    }
    if rows > 0 {
        let end = metadata.num_row_groups() as u64;
        take(Slice { entry: of.entry, files: 1, header_len: 0, first_row, part: start..end }, rows)?;
    }
    Ok(())
}
