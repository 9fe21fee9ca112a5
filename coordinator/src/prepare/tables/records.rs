//! Finds where the records of a text file end, as pandas' readers see them, without looking at what lies between.
//!
//! CSV (the tokenizer of `pandas.read_csv`, engine `c`): a quote opens a quoted field only where a field begins; outside of quotes `\n`,
//! `\r\n` and `\r` end a record; lines of nothing but spaces and tabs are no records. JSON Lines: `\n` ends a record; lines of nothing
//! but white space are none.

use memchr::{memchr, memchr2, memchr3};

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Between two fields of CSV; None: JSON Lines.
    pub delimiter: Option<u8>,
    /// None: a quote is a character like any other.
    pub quote: Option<u8>,
}

impl Dialect {
    /// JSON Lines.
    pub const JSONL: Dialect = Dialect { delimiter: None, quote: None };

    fn is_csv(self) -> bool {
        self.delimiter.is_some()
    }

    /// Whether a line of nothing but such bytes is no record.
    fn is_blank(self, byte: u8) -> bool {
        match self.delimiter {
            Some(delimiter) => matches!(byte, b' ' | b'\t') && byte != delimiter,
            // What Python's `str.strip` takes away, of ASCII.
            None => matches!(byte, b'\t'..=b'\r' | b' ' | 0x1c..=0x1f),
        }
    }
}

/// A scan of one file, fed in pieces of any size.
#[derive(Debug)]
pub struct Records {
    dialect: Dialect,
    /// Bytes before the next piece.
    at: u64,
    state: State,
    /// The record so far is blank.
    blank: bool,
    /// The byte before, within the record.
    last: Option<u8>,
    /// Where the quoted field began that is open.
    quote_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Outside of quotes.
    Field,
    /// Inside, up to another one of this byte.
    Quoted(u8),
    /// Behind one inside: perhaps it was the first of two.
    QuoteInQuoted(u8),
    /// Behind a `\r` outside of quotes, whose record is not reported yet; whether it was a record.
    CarriageReturn(bool),
}

/// A file that ends inside a quoted field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed {
    /// The byte of its quote.
    pub at: u64,
}

impl Records {
    /// At the beginning of a file; `start` bytes of it (a byte order mark) were taken already.
    pub fn new(dialect: Dialect, start: u64) -> Records {
        Records { dialect, at: start, state: State::Field, blank: true, last: None, quote_at: 0 }
    }

    /// Takes the next piece. `ended` is called with the byte behind each record that ends in it; an error of it ends the scan.
    pub fn feed<E>(&mut self, piece: &[u8], mut ended: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        let mut i = 0;
        while i < piece.len() {
            match self.state {
                State::CarriageReturn(counts) => {
                    // Behind a blank line that `\r` ends, pandas takes a delimiter for a part of that end.
                    let swallowed = !counts && Some(piece[i]) == self.dialect.delimiter;
                    i += usize::from(piece[i] == b'\n' || swallowed);
                    self.begin();
                    if counts {
                        ended(self.at + i as u64)?;
                    }
                }
                State::Quoted(quote) => match memchr(quote, &piece[i..]) {
                    None => i = piece.len(),
                    Some(found) => {
                        i += found + 1;
                        self.state = State::QuoteInQuoted(quote);
                    }
                },
                State::QuoteInQuoted(quote) if piece[i] == quote => {
                    i += 1;
                    self.state = State::Quoted(quote);
                }
                State::QuoteInQuoted(quote) => (self.state, self.last) = (State::Field, Some(quote)),
                State::Field => i = self.field(piece, i, &mut ended)?,
            }
        }
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Goes on outside of quotes, from `i` up to and with the next quote or end of a line; returns where it stands then.
    fn field<E>(&mut self, piece: &[u8], i: usize, ended: &mut impl FnMut(u64) -> Result<(), E>) -> Result<usize, E> {
        let rest = &piece[i..];
        let found = match (self.dialect.is_csv(), self.dialect.quote) {
            (true, Some(quote)) => memchr3(quote, b'\n', b'\r', rest),
            (true, None) => memchr2(b'\n', b'\r', rest),
            (false, _) => memchr(b'\n', rest),
        };
        let before = &rest[..found.unwrap_or(rest.len())];
        self.blank = self.blank && before.iter().all(|byte| self.dialect.is_blank(*byte));
        self.last = before.last().copied().or(self.last);
        let Some(found) = found else { return Ok(piece.len()) };
        let at = i + found;
        match piece[at] {
            b'\n' => {
                let counts = !self.blank;
                self.begin();
                if counts {
                    ended(self.at + at as u64 + 1)?;
                }
            }
            b'\r' => self.state = State::CarriageReturn(!self.blank),
            quote => {
                // Its field begins here.
                if self.last.is_none_or(|last| Some(last) == self.dialect.delimiter) {
                    self.state = State::Quoted(quote);
                    self.quote_at = self.at + at as u64;
                }
                (self.blank, self.last) = (false, Some(quote));
            }
        }
        Ok(at + 1)
    }

    /// Bytes read so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn begin(&mut self) {
        (self.state, self.blank, self.last) = (State::Field, true, None);
    }

    /// Ends the scan at the end of the file; the last record needs no end of its own. Returns whether there is one more, and where the file ends.
    ///
    /// # Errors
    /// A quoted field is open.
    pub fn finish(self) -> Result<(bool, u64), Unclosed> {
        let one_more = match self.state {
            State::Field => !self.blank,
            State::QuoteInQuoted(_) => true,
            State::CarriageReturn(counts) => counts,
            State::Quoted(_) => return Err(Unclosed { at: self.quote_at }),
        };
        Ok((one_more, self.at))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const CSV: Dialect = Dialect { delimiter: Some(b','), quote: Some(b'"') };

    /// The records of `text`, fed in pieces that end at `cuts`.
    fn records(dialect: Dialect, text: &[u8], cuts: &[usize]) -> Result<Vec<String>, Unclosed> {
        let (mut scan, mut ends, mut from) = (Records::new(dialect, 0), Vec::new(), 0);
        for to in cuts.iter().copied().chain([text.len()]) {
            let Ok(()) = scan.feed(&text[from..to], |end| {
                ends.push(end);
                Ok::<_, Infallible>(())
            });
            from = to;
        }
        let (one_more, end) = scan.finish()?;
        assert_eq!(end, text.len() as u64);
        ends.extend(one_more.then_some(end));
        let mut from = 0;
        Ok(ends
            .into_iter()
            .map(|end| {
                let record = String::from_utf8_lossy(&text[from..end as usize]).into_owned();
                from = end as usize;
                record
            })
            .collect())
    }

    #[test]
    fn records_end_where_pandas_sees_their_end() {
        for (text, expected) in [
            ("", &[][..]),
            ("a,b", &["a,b"]),
            ("a,b\n1,2\n", &["a,b\n", "1,2\n"]),
            ("a\r\nb\r\n", &["a\r\n", "b\r\n"]),
            ("a\rb\r", &["a\r", "b\r"]),
            ("a,\"x\ny\",b\n1\n", &["a,\"x\ny\",b\n", "1\n"]),
            ("\"x\"\"\n\",b\n1\n", &["\"x\"\"\n\",b\n", "1\n"]),
            ("a,5\" pipe\n2,\"q\"\n", &["a,5\" pipe\n", "2,\"q\"\n"]),
            ("\"a\"b\"\nc\n", &["\"a\"b\"\n", "c\n"]),
            ("  \"a\nb\"\n", &["  \"a\n", "b\"\n"]),
            ("a\n\n \t\nb\n", &["a\n", "\n \t\nb\n"]),
            ("a\n\"\"\n", &["a\n", "\"\"\n"]),
            (",\"\n\"\n", &[",\"\n\"\n"]),
            ("a\n\r,\nb\n", &["a\n", "\r,\nb\n"]),
            ("a\r,\n\r,b", &["a\r", ",\n", "\r,b"]),
        ] {
            for cut in 0..=text.len() {
                assert_eq!(records(CSV, text.as_bytes(), &[cut]).unwrap(), expected, "{text:?} cut at {cut}");
            }
        }
        assert_eq!(records(CSV, b"a\nb,\"x\ny\n", &[]), Err(Unclosed { at: 4 }));
        let tsv = Dialect { delimiter: Some(b'\t'), quote: Some(b'"') };
        assert_eq!(records(tsv, b"a\n\t\n", &[]).unwrap(), ["a\n", "\t\n"], "two empty fields are a record");
        let plain = Dialect { delimiter: Some(b','), quote: None };
        assert_eq!(records(plain, b"\"a\nb\"\n", &[]).unwrap(), ["\"a\n", "b\"\n"]);
        assert_eq!(records(Dialect::JSONL, b"{}\r\n \n[\"\r\"]", &[]).unwrap(), ["{}\r\n", " \n[\"\r\"]"]);
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_in_which_pieces_a_file_comes(
            text in "[a,\"\n\r \t]{0,40}", cuts in prop::collection::vec(0usize..=40, 0..6), jsonl: bool,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let dialect = if jsonl { Dialect::JSONL } else { CSV };
            prop_assert_eq!(records(dialect, text.as_bytes(), &cuts), records(dialect, text.as_bytes(), &[]));
        }
    }
}
