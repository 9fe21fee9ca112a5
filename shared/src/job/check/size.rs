//! `mini_batch_size`: a count of files and lines; of tables about so many bytes, or rows. And `rank_mini_batch_count`, in its place.

use crate::job::error::shown;
use crate::job::keys;
use crate::job::reader::Reader;
use crate::job::spec::{InputType, MiniBatchSize};

/// Files and lines of a mini-batch unless the job says otherwise: the original's, as is the next.
const ITEMS: MiniBatchSize = MiniBatchSize::Items(10);
/// The same of a table.
const BYTES: MiniBatchSize = MiniBatchSize::Bytes(1 << 20);
/// Rows are counted with 32 bits, and a row has two bytes at least.
const MOST_BYTES: u64 = 4 << 30;

/// Reads `mini_batch_size`. `input_type` is None if it is at fault itself.
pub(super) fn read(reader: &mut Reader, input_type: Option<InputType>) -> MiniBatchSize {
    let is_table = input_type.is_some_and(InputType::is_table);
    let default = if is_table { BYTES } else { ITEMS };
    let Some((scalar, node)) = reader.scalar("mini_batch_size") else { return default };
    let text = scalar.text.trim();
    let takes = keys::key("mini_batch_size").takes;
    let example = if is_table { "`mini_batch_size: 1MB` or `1000rows`" } else { "`mini_batch_size: 10`" };
    let example = format!("for example {example}");
    if let Some((bytes, has_unit)) = fraction(text)
        && (is_table || !has_unit)
    {
        let of = if is_table { " of bytes, `kB`, `MB`, `GB` or `rows`" } else { "" };
        let message = format!("`mini_batch_size` must be a whole number{of}; `{}` is none", shown(text));
        let hint = match bytes {
            0 => example,
            _ if !has_unit => example,
            1..1024 => format!("write it with a smaller unit: `mini_batch_size: {bytes}`, in bytes"),
            _ => format!("write it with a smaller unit: `mini_batch_size: {}kB`", bytes.div_ceil(1 << 10)),
        };
        reader.fault("mini_batch_size", node.span, message, Some(hint));
        return default;
    }
    let (message, hint) = match size(text) {
        // Then the fault of `input_type` says what there is to say.
        Some(Size::Bytes(_) | Size::Rows(_)) if input_type.is_none() => return default,
        Some(Size::Count(0) | Size::Bytes(0) | Size::Rows(0)) | None => {
            (format!("`mini_batch_size` must be {takes}"), example)
        }
        Some(Size::Count(bytes) | Size::Bytes(bytes)) if is_table => match bytes <= MOST_BYTES {
            true => return MiniBatchSize::Bytes(bytes),
            false => (
                "`mini_batch_size` must be at most 4GB".to_string(),
                "one `run()` gets it as one frame: it must fit into memory several times".to_string(),
            ),
        },
        // The count goes to the processes as 32 bits.
        Some(Size::Count(count) | Size::Rows(count)) if count > u64::from(u32::MAX) => (
            format!("`mini_batch_size` must be at most {}", u32::MAX),
            "it is the number of items given to one `run()`".to_string(),
        ),
        Some(Size::Rows(rows)) if is_table => return MiniBatchSize::Rows(rows),
        Some(Size::Count(count)) => return MiniBatchSize::Items(count),
        Some(Size::Bytes(_) | Size::Rows(_)) => (
            format!(
                "`mini_batch_size` must be a count with `input_type: {}`: sizes and rows are for tables",
                input_type.unwrap_or(InputType::Files).name()
            ),
            "write a count, for example `mini_batch_size: 10`; or `input_type: csv` (`tsv`, `jsonl`, `parquet`) if the inputs are tables"
                .to_string(),
        ),
    };
    reader.fault("mini_batch_size", node.span, message, Some(hint));
    default
}

/// Reads `rank_mini_batch_count`.
pub(super) fn ranks(reader: &mut Reader) -> Option<u64> {
    // It becomes a list of as many entries.
    reader.whole("rank_mini_batch_count", 1..=i64::from(u32::MAX)).map(i64::unsigned_abs)
}

#[derive(Debug, PartialEq, Eq)]
enum Size {
    Count(u64),
    Bytes(u64),
    Rows(u64),
}

/// `10`; `1MB`, also with a space as some write it; `1000rows`. Units count in steps of 1024, as the original's do.
fn size(text: &str) -> Option<Size> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return None;
    }
    // What is too large to hold is too large.
    let number = number.parse().unwrap_or(u64::MAX);
    let bytes = |shift: u32| Some(Size::Bytes(number.saturating_mul(1 << shift)));
    match unit.trim().to_ascii_lowercase().as_str() {
        "" => Some(Size::Count(number)),
        "b" => bytes(0),
        "k" | "kb" | "kib" => bytes(10),
        "m" | "mb" | "mib" => bytes(20),
        "g" | "gb" | "gib" => bytes(30),
        "row" | "rows" => Some(Size::Rows(number)),
        _ => None,
    }
}

/// A number with a fraction, in bytes, and whether it has a unit of them; None: it is something else.
fn fraction(text: &str) -> Option<(u64, bool)> {
    let number = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').count();
    let (number, unit) = text.split_at(number);
    let value: f64 = number.parse().ok().filter(|_| number.contains('.'))?;
    let one = match unit.trim() {
        "" => 1,
        unit => match size(&format!("1{unit}"))? {
            Size::Bytes(bytes) => bytes,
            Size::Rows(_) | Size::Count(_) => 1,
        },
    };
    Some(((value * one as f64).round() as u64, one > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sizes_and_rows_are_told_apart() {
        assert_eq!(size("10"), Some(Size::Count(10)));
        assert_eq!(size("99999999999999999999999"), Some(Size::Count(u64::MAX)));
        for (text, bytes) in [("1MB", 1 << 20), ("10kb", 10 << 10), ("100 kb", 100 << 10), ("1G", 1 << 30), ("7b", 7)] {
            assert_eq!(size(text), Some(Size::Bytes(bytes)), "{text}");
        }
        assert_eq!(size("1000rows"), Some(Size::Rows(1000)));
        for none in ["", "-1", "1.5", "MB", "ten", "1MBB", "٣"] {
            assert_eq!(size(none), None, "{none}");
        }
    }

    #[test]
    fn fractions_are_known_as_such() {
        assert_eq!(fraction("1.5MB"), Some((1536 << 10, true)));
        assert_eq!(fraction("0.5 kb"), Some((512, true)));
        assert_eq!(fraction("2.5rows"), Some((3, false)));
        assert_eq!(fraction("2.5"), Some((3, false)));
        for none in ["1MB", "ten", "1.2.3MB", "1.5XB", ".", ""] {
            assert_eq!(fraction(none), None, "{none}");
        }
    }

    #[test]
    fn a_size_is_spelt_as_it_is_read() {
        for text in ["1MB", "3KB", "4GB", "1000", "1023"] {
            let bytes = match size(text) {
                Some(Size::Bytes(bytes) | Size::Count(bytes)) => bytes,
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(MiniBatchSize::Bytes(bytes).to_string(), text);
        }
        assert_eq!(MiniBatchSize::Rows(1000).to_string(), "1000rows");
        for (size, text) in [
            (MiniBatchSize::Items(10), "10"),
            (MiniBatchSize::Rows(1000), "\"1000rows\""),
            (MiniBatchSize::Bytes(3 << 20), "\"3MB\""),
            (MiniBatchSize::Bytes(1023), "\"1023\""),
        ] {
            assert_eq!(serde_json::to_string(&size).unwrap(), text);
            assert_eq!(serde_json::from_str::<MiniBatchSize>(text).unwrap(), size);
        }
        assert!(serde_json::from_str::<MiniBatchSize>("\"5TB\"").is_err());
    }
}
