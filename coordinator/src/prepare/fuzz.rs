//! The splitters as the fuzz targets call them (`fuzz/`).

use std::path::Path;

pub use fanfold_shared::items::Slice;
use fanfold_shared::job::{InputType, MiniBatchSize, ReadCsv};

use super::ListError;
use super::tables::{TableFile, Tables};

/// A kind of table.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text with delimiters.
    Csv(Csv),
    /// A JSON text a line.
    Jsonl,
    /// Row groups.
    Parquet,
}

/// How records of CSV are told apart; all of it ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Csv {
    /// Between fields.
    pub sep: u8,
    /// Around fields; None: nothing is.
    pub quote: Option<u8>,
    /// The first record is the header.
    pub header: bool,
}

/// The size of a mini-batch.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// In rows.
    Rows(u64),
    /// In bytes.
    Bytes(u64),
}

/// The slices of the file at `path` with their rows, those behind `after`.
///
/// # Errors
/// It is no table of this kind.
pub fn slices(
    path: &Path,
    kind: Kind,
    size: Size,
    after: Option<&(Slice, u64)>,
) -> Result<Vec<(Slice, u64)>, ListError> {
    let mut read_csv = ReadCsv::new(',');
    let kind = match kind {
        Kind::Csv(csv) => {
            (read_csv.sep, read_csv.quotechar, read_csv.header) =
                (csv.sep.into(), csv.quote.map(char::from), csv.header);
            InputType::Csv
        }
        Kind::Jsonl => InputType::Jsonl,
        Kind::Parquet => InputType::Parquet,
    };
    let size = match size {
        Size::Rows(rows) => MiniBatchSize::Rows(rows),
        Size::Bytes(bytes) => MiniBatchSize::Bytes(bytes),
    };
    let mut found = Vec::new();
    let of = TableFile { input: "input", path, entry: 0, object: None, first: true };
    Tables::raw(kind, size, &read_csv).slices(
        of,
        after.map(|(slice, rows)| (slice, *rows)),
        &|| Ok(()),
        &mut |slice, rows| {
            found.push((slice, rows));
            Ok(())
        },
    )?;
    Ok(found)
}

/// Whether the first bytes of a file say that it is no text, or compressed.
pub fn is_no_text(content: &[u8]) -> bool {
    super::tables::is_no_text(&content[..content.len().min(8)])
}
