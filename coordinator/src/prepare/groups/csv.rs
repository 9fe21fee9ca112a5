//! The fields of a record of CSV, as the tokenizer of `pandas.read_csv` (engine `c`) makes them.

use memchr::{memchr, memchr3};

use crate::prepare::tables::Dialect;

/// Where the record begins behind blank lines.
pub(super) fn start(record: &[u8], delimiter: u8) -> usize {
    let mut at = 0;
    loop {
        let rest = &record[at..];
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t') && **byte != delimiter).count();
        match rest.get(blank) {
            Some(b'\n') => at += blank + 1,
            Some(b'\r') => {
                at += blank + 1;
                // A delimiter there pandas takes for a part of that end.
                at += usize::from(record.get(at).is_some_and(|next| *next == b'\n' || *next == delimiter));
            }
            _ => return at,
        }
    }
}

/// Calls `take` with the number and the text of each field; returns how many there are. False of `take`: no more are wanted.
pub(in crate::prepare) fn fields(record: &[u8], dialect: Dialect, mut take: impl FnMut(usize, &[u8]) -> bool) -> usize {
    let delimiter = dialect.delimiter.expect("a dialect of CSV");
    let mut at = start(record, delimiter);
    let (mut quoted, mut number) = (Vec::new(), 0);
    loop {
        quoted.clear();
        let is_quoted = dialect.quote.is_some() && record.get(at).copied() == dialect.quote;
        if let Some(quote) = dialect.quote.filter(|_| is_quoted) {
            at += 1;
            while let Some(found) = memchr(quote, &record[at..]) {
                quoted.extend_from_slice(&record[at..at + found]);
                at += found + 1;
                if record.get(at) != Some(&quote) {
                    break;
                }
                quoted.push(quote);
                at += 1;
            }
        }
        let rest = &record[at..];
        let end = memchr3(delimiter, b'\n', b'\r', rest).unwrap_or(rest.len());
        let goes_on = match is_quoted {
            false => take(number, &rest[..end]),
            true => {
                quoted.extend_from_slice(&rest[..end]);
                take(number, &quoted)
            }
        };
        number += 1;
        at += end + 1;
        if !goes_on || rest.get(end) != Some(&delimiter) {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_the_texts_that_pandas_sees() {
        let csv = Dialect { delimiter: Some(b','), quote: Some(b'"') };
        let told = |record: &str| {
            let mut told = Vec::new();
            let count = fields(record.as_bytes(), csv, |_, text| {
                told.push(String::from_utf8(text.to_vec()).unwrap());
                true
            });
            assert_eq!(count, told.len());
            told.join("|")
        };
        for (record, fields) in [
            ("a,b\n", "a|b"),
            ("a,,\r\n", "a||"),
            ("\"a\",\"b\"", "a|b"),
            ("\"a\"\"b,\nc\",d\n", "a\"b,\nc|d"),
            ("\"a\"b\"c,d", "ab\"c|d"),
            ("5\" pipe, \"x\"\r", "5\" pipe| \"x\""),
            ("\n \t\r\n\ra,b\n", "a|b"),
            ("\r,a\n", "a"),
            ("  a,b\n", "  a|b"),
            ("\"\"\n", ""),
            (",\n", "|"),
        ] {
            assert_eq!(told(record), fields, "{record:?}");
        }
        let plain = Dialect { delimiter: Some(b'\t'), quote: None };
        assert_eq!(fields(b"\"a\t\t\"b\n", plain, |number, _| number < 1), 2, "no more than are wanted");
    }
}
