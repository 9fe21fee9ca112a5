//! Files that are compressed as a whole, or say so: any bytes behind the marks of gzip and zstd.
#![no_main]

mod common;

use common::{Table, size};
use fanfold::prepare::fuzz::{Csv, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [options, by, rest @ ..] = data else { return };
    let mark: &[u8] = if options & 1 == 0 { &[0x1f, 0x8b] } else { &[0x28, 0xb5, 0x2f, 0xfd] };
    let content = [mark, rest].concat();
    let kind = match options & 2 {
        0 => Kind::Csv(Csv { sep: b',', quote: Some(b'"'), header: options & 4 == 0 }),
        _ => Kind::Jsonl,
    };
    if let Some(found) = Table::new(&content, kind).slices(size(*by), None) {
        assert!(found.len() <= 1 && found.iter().all(|(slice, rows)| slice.part.start == 0 && *rows > 0), "{found:?}");
    }
});
