//! Slices of text: CSV and JSON Lines, as they are or compressed as a whole.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use fanfold_shared::items::{Slice, WHOLE};
use fanfold_store::Download;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::pieces::{self, PIECE, Pieces};
use super::records::{Records, Unclosed};
use super::{After, TableFile, Tables, Take};
use crate::prepare::lines::wide;
use crate::prepare::{Cancel, ListError};

/// A record of more is none, bytes.
const LONGEST: u64 = 1 << 30;

pub(super) const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a file is compressed, by its first bytes: names may say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::prepare) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(in crate::prepare) fn of(file: &TableFile<'_>, head: &[u8]) -> Result<Compression, ListError> {
        let packed = |what: &str| {
            Err(file.refuse(
                format!("it is {what}"),
                "unpack it, or compress it with gzip or zstd; uncompressed, large files are split",
            ))
        };
        match head {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', ..] => packed("compressed with bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => packed("compressed with xz"),
            [b'P', b'K', 3, 4, ..] => packed("a zip archive"),
            [b'P', b'A', b'R', b'1', ..] => Err(file.refuse("it is a Parquet file", "write `input_type: parquet`")),
            _ => match wide(head) {
                Some(encoding) => Err(ListError::Wide { path: file.path.to_path_buf(), encoding }),
                None => Ok(Compression::None),
            },
        }
    }
}

/// Where the bytes of a file come from.
pub(super) enum From<'a> {
    File(File),
    /// From its beginning, once.
    Stream(Box<dyn Read + 'a>),
}

/// Hands on the slices of a text file.
pub(super) fn slices(
    tables: &Tables<'_>,
    of: &TableFile<'_>,
    from: From<'_>,
    compression: Compression,
    after: Option<After>,
    cancel: &Cancel<'_>,
    take: &mut Take<'_>,
) -> Result<(), ListError> {
    let mut cutter = Cutter::new(tables, of, compression != Compression::None);
    if let Some(after) = after {
        if cutter.whole {
            return Ok(());
        }
        cutter.go_on(after);
    }
    let file: Box<dyn Read + '_> = match (compression, from) {
        (Compression::None, From::File(file)) => {
            let start = after.map_or(0, |after| after.end);
            (&file).seek(SeekFrom::Start(start)).map_err(|error| of.unreadable("read", error))?;
            return pieces::of_file(&file, |pieces| cutter.cut(pieces, cancel, take));
        }
        (_, From::File(file)) => Box::new(file),
        (_, From::Stream(stream)) => stream,
    };
    let mut source = io::BufReader::with_capacity(PIECE, file);
    match compression {
        Compression::None => cutter.cut(&mut source, cancel, take),
        Compression::Gzip => {
            let mut decoder = flate2::read::MultiGzDecoder::new(source);
            cutter.cut(&mut decoder, cancel, take)
        }
        Compression::Zstd => cutter.cut(&mut Frames::new(source), cancel, take),
    }
}

/// All frames of a zstd file, one behind the other.
pub(super) struct Frames<R: BufRead> {
    /// Before a frame, and at the end.
    source: Option<R>,
    frame: Option<StreamingDecoder<R, FrameDecoder>>,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Frames<R> {
        Frames { source: Some(source), frame: None }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
                self.source = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(StreamingDecoder::new(source).map_err(io::Error::other)?);
        }
    }
}

/// Why nothing more can be read of a file.
pub(super) fn unreadable(of: &TableFile<'_>, packed: bool, error: io::Error) -> ListError {
    match packed && Download::error(&error).is_none() {
        false => of.unreadable("read", error),
        true => of.refuse(
            format!("it can't be unpacked: {error}"),
            "is it whole, with nothing behind its end? `gzip -t` and `zstd -t` tell",
        ),
    }
}

/// A file ends within quotes, in the row with this number.
pub(super) fn unclosed(of: &TableFile<'_>, quote: Unclosed, row: u64) -> ListError {
    of.refuse(
        format!("the quote at byte {}, in row {row}, is never closed", quote.at),
        "close it; or write `read_csv: {quotechar: null}` if quotes mean nothing in it",
    )
}

/// What was read of a file, and the slice that is being made.
struct Cutter<'a> {
    tables: &'a Tables<'a>,
    of: &'a TableFile<'a>,
    /// It can't be begun in the middle: it is one slice.
    whole: bool,
    /// The header is still to come.
    header: bool,
    header_len: u32,
    /// The slice begins here, and has so many rows so far.
    start: u64,
    rows: u64,
    /// Rows of the file before it.
    first_row: u64,
    /// Where the last record ended.
    end: u64,
}

impl<'a> Cutter<'a> {
    fn new(tables: &'a Tables<'a>, of: &'a TableFile<'a>, whole: bool) -> Cutter<'a> {
        let header = tables.has_header(of);
        Cutter { tables, of, whole, header, header_len: 0, start: 0, rows: 0, first_row: 0, end: 0 }
    }

    /// Begins behind a slice, at the start of a record.
    fn go_on(&mut self, after: After) {
        (self.header, self.header_len, self.first_row) = (false, after.header_len, after.first_row);
        (self.start, self.end) = (after.end, after.end);
    }

    fn cut(&mut self, pieces: &mut dyn Pieces, cancel: &Cancel<'_>, take: &mut Take<'_>) -> Result<(), ListError> {
        let of = self.of;
        let mut piece = Vec::new();
        let mut filled = pieces.next(&mut piece).map_err(|error| self.unreadable(error))?;
        let marked = self.start == 0 && piece[..filled].starts_with(UTF8_MARK);
        let mark = if marked { UTF8_MARK.len() } else { 0 };
        let mut records = Records::new(self.tables.dialect(), self.start + mark as u64);
        let mut from = mark;
        while filled > 0 {
            cancel()?;
            records.feed(&piece[from..filled], |end| self.record(end, take))?;
            if records.at() - self.end > LONGEST {
                let (row, start) = (self.first_row + self.rows + 1, self.end);
                return Err(of.refuse(
                    format!("row {row}, which begins at byte {start}, has no end within 1 GiB"),
                    "is it a table with these delimiters and quotes?",
                ));
            }
            from = 0;
            filled = pieces.next(&mut piece).map_err(|error| self.unreadable(error))?;
        }
        let row = self.first_row + self.rows + 1;
        let (one_more, end) = records.finish().map_err(|quote| unclosed(of, quote, row))?;
        if one_more {
            self.record(end, take)?;
        }
        self.close(take)
    }

    fn unreadable(&self, error: io::Error) -> ListError {
        unreadable(self.of, self.whole, error)
    }

    /// A record ends before byte `end`.
    fn record(&mut self, end: u64, take: &mut Take<'_>) -> Result<(), ListError> {
        self.end = end;
        if std::mem::take(&mut self.header) {
            self.header_len =
                u32::try_from(end).map_err(|_| self.of.refuse("its header is longer than 4 GiB", "is it a table?"))?;
            self.start = end;
            return Ok(());
        }
        self.rows += 1;
        if !self.whole && self.tables.is_full(self.rows, end - self.start) {
            self.close(take)?;
        }
        Ok(())
    }

    /// Hands on what there is.
    fn close(&mut self, take: &mut Take<'_>) -> Result<(), ListError> {
        if self.rows == 0 {
            return Ok(());
        }
        let part = if self.whole { 0..WHOLE } else { self.start..self.end };
        let header_len = if self.whole { 0 } else { self.header_len };
        let slice = Slice { entry: self.of.entry, files: 1, header_len, first_row: self.first_row, part };
        take(slice, self.rows)?;
        self.first_row += self.rows;
        (self.start, self.rows) = (self.end, 0);
        Ok(())
    }
}
