//! JSON Lines of any bytes: rows are the lines that are not blank.
#![no_main]

mod common;

use common::{Table, size};
use fanfold::prepare::fuzz::{Kind, Size, is_no_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [by, content @ ..] = data else { return };
    let size = size(*by);
    let found = Table::new(content, Kind::Jsonl).holds_together(size, |slice, rows| match size {
        Size::Rows(most) => rows == most,
        Size::Bytes(most) => slice.part.end - slice.part.start >= most,
    });
    if is_no_text(content) {
        return;
    }
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let is_blank = |line: &[u8]| line.iter().all(|byte| matches!(byte, b'\t'..=b'\r' | b' ' | 0x1c..=0x1f));
    let rows = text.split(|byte| *byte == b'\n').filter(|line| !is_blank(line)).count() as u64;
    let found = found.expect("any bytes are lines");
    assert_eq!(found.iter().map(|(_, rows)| *rows).sum::<u64>(), rows);
    for (slice, _) in &found {
        let end = slice.part.end as usize;
        assert!(end == content.len() || content[end - 1] == b'\n', "a slice ends at the end of a line");
    }
});
