//! Reads list files: one item a line.
//!
//! A line is what stands before `\n` or `\r\n`, byte for byte; the last one needs no end. Lines of nothing but ASCII white
//! space are skipped, so is a UTF-8 byte order mark. A line may have 1 MiB, which bounds memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use fanfold_shared::items::MAX_ITEM_BYTES;

use super::{Cancel, ListError};

const BUFFER: usize = 256 * 1024;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// The encoding that a text which begins so is in, if ends of lines are more than a byte in it.
pub(super) fn wide(start: &[u8]) -> Option<&'static str> {
    match start {
        // First: its mark begins with the one of UTF-16.
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Calls `visit` with each item of the list file `path` of the input called `input`. `cancel` is asked at every buffer.
pub(super) fn for_each_line(
    input: &str,
    path: &Path,
    cancel: &Cancel<'_>,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let file = File::open(path).map_err(|error| ListError::unreadable(input, "open", path, error))?;
    for_each_line_of(input, path, file, cancel, visit)
}

/// The same for one that is open already; messages call it `path`.
pub(super) fn for_each_line_of(
    input: &str,
    path: &Path,
    file: impl Read,
    cancel: &Cancel<'_>,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let unreadable = |operation| move |error: io::Error| ListError::unreadable(input, operation, path, error);
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let start = reader.fill_buf().map_err(unreadable("read"))?;
    if let Some(encoding) = wide(start) {
        return Err(ListError::Wide { path: path.to_path_buf(), encoding });
    }
    let mark = if start.starts_with(UTF8_MARK) { UTF8_MARK.len() } else { 0 };
    reader.consume(mark);

    let mut line = 0u64;
    let mut take = |bytes: &[u8]| {
        line += 1;
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.len() > MAX_ITEM_BYTES {
            return Err(ListError::LineTooLong { path: path.to_path_buf(), line });
        }
        if bytes.trim_ascii().is_empty() { Ok(()) } else { visit(bytes) }
    };
    // The beginning of a line whose end is not in the buffer.
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome.map_err(unreadable("read"))?,
        };
        if buffer.is_empty() {
            return if begun.is_empty() { Ok(()) } else { take(&begun) };
        }
        cancel()?;
        let len = buffer.len();
        let mut rest = buffer;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if begun.is_empty() {
                take(&rest[..end])?;
            } else {
                begun.extend_from_slice(&rest[..end]);
                take(&begun)?;
                begun.clear();
            }
            rest = &rest[end + 1..];
        }
        begun.extend_from_slice(rest);
        reader.consume(len);
        // With room for a `\r` that does not count. `take` refuses it, and knows the line's number.
        if begun.len() > MAX_ITEM_BYTES + 1 {
            take(&begun)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(content: &[u8]) -> Result<Vec<Vec<u8>>, ListError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut items = Vec::new();
        for_each_line("list", file.path(), &|| Ok(()), &mut |item| {
            items.push(item.to_vec());
            Ok(())
        })?;
        Ok(items)
    }

    #[test]
    fn a_line_is_an_item_and_blank_ones_are_not() {
        let table: [(&[u8], &[&[u8]]); 8] = [
            (b"a\nb\n", &[b"a", b"b"]),
            (b"a\r\nb", &[b"a", b"b"]),
            (b"\xef\xbb\xbfa\n", &[b"a"]),
            (b"\n \t\r\n\na\n\n", &[b"a"]),
            (b" a b \n", &[b" a b "]),
            (b"a\rb\n\r\r\n", &[b"a\rb"]),
            (b"nul\0and\xff\n", &[b"nul\0and\xff"]),
            (b"", &[]),
        ];
        for (content, expected) in table {
            assert_eq!(items(content).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_line_of_1_mib_is_an_item_and_a_longer_one_is_refused_by_number() {
        let longest = vec![b'x'; MAX_ITEM_BYTES];
        for end in ["", "\n", "\r\n"] {
            assert_eq!(items(&[b"a\n", &longest[..], end.as_bytes()].concat()).unwrap()[1], longest);
        }
        for end in ["", "\n", "\r\n", "\nmore\n"] {
            let error = items(&[b"a\n\nb\n", &longest[..], b"x", end.as_bytes()].concat()).unwrap_err();
            assert!(matches!(error, ListError::LineTooLong { line: 4, .. }), "{error:?}");
        }
        let endless = vec![b'x'; 5 * MAX_ITEM_BYTES];
        assert!(matches!(items(&endless).unwrap_err(), ListError::LineTooLong { line: 1, .. }));
    }

    #[test]
    fn utf_16_is_refused_by_name() {
        for (text, name) in [
            (&b"\xff\xfea\0\n\0"[..], "UTF-16"),
            (b"\xfe\xff\0a\0\n", "UTF-16"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0a", "UTF-32"),
        ] {
            assert!(matches!(items(text).unwrap_err(), ListError::Wide { encoding, .. } if encoding == name), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_splits_like_the_standard_library(lines in prop::collection::vec("[a-c]{0,9}|x{100000}", 0..9)) {
            let text = lines.join("\n");
            let expected: Vec<Vec<u8>> =
                text.lines().filter(|line| !line.is_empty()).map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(items(text.as_bytes()).unwrap(), expected);
        }
    }
}
