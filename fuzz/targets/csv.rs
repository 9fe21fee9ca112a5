//! CSV of any bytes: the splitter beside pandas' tokenizer written down once more, byte by byte.
#![no_main]

mod common;

use common::{Table, size};
use fanfold::prepare::fuzz::{Csv, Kind, Size};
use libfuzzer_sys::fuzz_target;

/// Where the records end that are none but blank lines; None: a quote is never closed. `pandas/_libs/src/parser/tokenizer.c`, states and all.
fn records(text: &[u8], csv: Csv) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        StartRecord,
        StartField,
        InField,
        InQuoted,
        QuoteInQuoted,
        EatCrNl,
        WhitespaceLine,
        EatCrNlNoOp,
    }
    use State::*;
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t') && byte != csv.sep;
    let (mut ends, mut state, mut at) = (Vec::new(), StartRecord, 0);
    while at < text.len() {
        let byte = text[at];
        let again = match state {
            // A record is blank as long as it has nothing but spaces, and no line of them is one.
            StartRecord | WhitespaceLine => {
                state = match byte {
                    b'\n' => StartRecord,
                    b'\r' => EatCrNlNoOp,
                    _ if is_space(byte) => WhitespaceLine,
                    // Behind spaces a field has begun, and a quote is a character of it.
                    _ if state == WhitespaceLine => InField,
                    _ => StartField,
                };
                matches!(state, StartField | InField)
            }
            EatCrNlNoOp => {
                state = StartRecord;
                // The end of a blank line takes a delimiter with it.
                byte != b'\n' && byte != csv.sep
            }
            StartField if Some(byte) == csv.quote => {
                state = InQuoted;
                false
            }
            StartField | InField | QuoteInQuoted => {
                let doubled = state == QuoteInQuoted && Some(byte) == csv.quote;
                state = match byte {
                    _ if doubled => InQuoted,
                    b'\n' => {
                        ends.push(at + 1);
                        StartRecord
                    }
                    b'\r' => EatCrNl,
                    _ if byte == csv.sep => StartField,
                    _ => InField,
                };
                false
            }
            InQuoted => {
                if Some(byte) == csv.quote {
                    state = QuoteInQuoted;
                }
                false
            }
            EatCrNl => {
                ends.push(if byte == b'\n' { at + 1 } else { at });
                state = StartRecord;
                byte != b'\n'
            }
        };
        at += usize::from(!again);
    }
    match state {
        InQuoted => return None,
        StartRecord | WhitespaceLine | EatCrNlNoOp => (),
        StartField | InField | QuoteInQuoted | EatCrNl => ends.push(text.len()),
    }
    Some(ends)
}

fuzz_target!(|data: &[u8]| {
    let [options, by, content @ ..] = data else { return };
    let csv = Csv {
        sep: [b',', b';', b'\t', b' '][usize::from(options & 3)],
        quote: [Some(b'"'), Some(b'\''), None, Some(b'"')][usize::from(options >> 2 & 3)],
        header: options & 16 == 0,
    };
    let table = Table::new(content, Kind::Csv(csv));
    let size = size(*by);
    let found = table.holds_together(size, |slice, rows| match size {
        Size::Rows(most) => rows == most,
        Size::Bytes(most) => slice.part.end - slice.part.start >= most,
    });
    // What is compressed or no text by its first bytes is another target's.
    let refused = fanfold::prepare::fuzz::is_no_text(content);
    if refused {
        return;
    }
    let mark = if content.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let expected =
        records(&content[mark..], csv).map(|ends| ends.into_iter().map(|end| end + mark).collect::<Vec<_>>());
    let Some(mut expected) = expected else { return assert!(found.is_none(), "a quote is never closed") };
    let found = found.expect("it is a table");
    if csv.header && !expected.is_empty() {
        let header = expected.remove(0);
        assert!(
            found.first().is_none_or(|(first, _)| first.header_len as usize == header),
            "the header ends at {header}"
        );
    }
    assert_eq!(found.iter().map(|(_, rows)| *rows).sum::<u64>(), expected.len() as u64, "rows");
    let mut row = 0;
    for (slice, rows) in &found {
        row += *rows as usize;
        assert_eq!(slice.part.end as usize, expected[row - 1], "the record before row {row} ends there");
    }
});
