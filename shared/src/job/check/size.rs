//! `mini_batch_size`: a count for files and lines; sizes wait for tables.

use crate::job::error::shown;
use crate::job::keys;
use crate::job::reader::Reader;
use crate::job::spec::InputType;

/// Items of a mini-batch unless the job says otherwise: the original's.
const DEFAULT: u64 = 10;

/// Reads `mini_batch_size`. `input_type` is None if it is at fault itself.
pub(super) fn read(reader: &mut Reader, input_type: Option<InputType>) -> u64 {
    let Some((scalar, node)) = reader.scalar("mini_batch_size") else { return DEFAULT };
    let text = scalar.text.trim();
    let takes = keys::key("mini_batch_size").takes;
    let (message, hint) = match (size(text), input_type) {
        // The count goes to the processes as 32 bits.
        (Some(Size::Count(count)), _) if (1..=u64::from(u32::MAX)).contains(&count) => return count,
        (Some(Size::Count(0)), _) => {
            (format!("`mini_batch_size` must be {takes}"), "for example `mini_batch_size: 10`".to_string())
        }
        (Some(Size::Count(_)), _) => (
            format!("`mini_batch_size` must be at most {}", u32::MAX),
            "it is the number of items given to one `run()`".to_string(),
        ),
        // Then the fault of `input_type` says what there is to say.
        (Some(Size::Bytes | Size::Rows), None) => return DEFAULT,
        (Some(Size::Bytes), Some(input_type)) => (
            format!(
                "`mini_batch_size` must be {takes}: with `input_type: {}` there are no sizes in bytes",
                input_type.name()
            ),
            "for example `mini_batch_size: 10`; sizes like `1MB` work with tables, which are not available yet"
                .to_string(),
        ),
        (Some(Size::Rows), Some(_)) => (
            format!("`mini_batch_size: {}` works with tables, which are not available yet", shown(text)),
            "give a count of files or lines, for example `mini_batch_size: 10`".to_string(),
        ),
        (None, _) => (format!("`mini_batch_size` must be {takes}"), "for example `mini_batch_size: 10`".to_string()),
    };
    reader.fault("mini_batch_size", node.span, message, Some(hint));
    DEFAULT
}

#[derive(Debug, PartialEq, Eq)]
enum Size {
    Count(u64),
    Bytes,
    Rows,
}

/// `10`; `1MB`, also with a space as some write it; `1000rows`.
fn size(text: &str) -> Option<Size> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return None;
    }
    match unit.trim().to_ascii_lowercase().as_str() {
        // A number too large to hold is a count all the same, and too large.
        "" => Some(Size::Count(number.parse().unwrap_or(u64::MAX))),
        "kb" | "mb" | "gb" | "b" | "kib" | "mib" | "gib" | "k" | "m" | "g" => Some(Size::Bytes),
        "row" | "rows" => Some(Size::Rows),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sizes_and_rows_are_told_apart() {
        assert_eq!(size("10"), Some(Size::Count(10)));
        assert_eq!(size("99999999999999999999999"), Some(Size::Count(u64::MAX)));
        for bytes in ["1MB", "10kb", "100 kb", "1G"] {
            assert_eq!(size(bytes), Some(Size::Bytes), "{bytes}");
        }
        assert_eq!(size("1000rows"), Some(Size::Rows));
        for none in ["", "-1", "1.5", "MB", "ten", "1MBB", "٣"] {
            assert_eq!(size(none), None, "{none}");
        }
    }
}
