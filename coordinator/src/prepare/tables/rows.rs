//! The records of a text file, one after the other, with their bytes: for who looks into them.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek};

use super::pieces::{self, PIECE, Pieces};
use super::records::Records;
use super::text::{self, Compression};
use super::{TableFile, Tables, fill, remote};
use crate::prepare::{Cancel, ListError};

/// A record of more can't be held beside others, bytes.
const LONGEST: usize = 64 << 20;

/// What a file consists of. Blank lines before a record are a part of it; a byte order mark is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::prepare) enum Part<'a> {
    /// Its first record names the columns.
    Header(&'a [u8]),
    /// The rest are rows.
    Row(&'a [u8]),
}

/// Takes a part of a file.
pub(in crate::prepare) type TakePart<'a> = dyn FnMut(Part<'_>) -> Result<(), ListError> + 'a;

impl Tables<'_> {
    /// Reads a text file and hands on its records, in order. `cancel` is asked at every piece.
    ///
    /// # Errors
    /// As of [`Tables::slices`]; a record is longer than 64 MiB.
    pub(in crate::prepare) fn records(
        &self,
        of: &TableFile<'_>,
        cancel: &Cancel<'_>,
        take: &mut TakePart<'_>,
    ) -> Result<(), ListError> {
        if let Some((client, known)) = &of.object {
            let (stream, compression) = remote::open(of, client, *known)?;
            return self.records_of(of, stream, compression, cancel, take);
        }
        let mut file = File::open(of.path).map_err(|error| of.unreadable("open", error))?;
        let mut head = [0; 8];
        let read = fill(&mut file, &mut head).map_err(|error| of.unreadable("read", error))?;
        file.rewind().map_err(|error| of.unreadable("read", error))?;
        let compression = Compression::of(of, &head[..read])?;
        match compression {
            Compression::None => pieces::of_file(&file, |pieces| self.each_record(of, false, pieces, cancel, take)),
            packed => self.records_of(of, file, packed, cancel, take),
        }
    }

    fn records_of(
        &self,
        of: &TableFile<'_>,
        stream: impl Read,
        compression: Compression,
        cancel: &Cancel<'_>,
        take: &mut TakePart<'_>,
    ) -> Result<(), ListError> {
        let mut source = io::BufReader::with_capacity(PIECE, stream);
        match compression {
            Compression::None => self.each_record(of, false, &mut source, cancel, take),
            Compression::Gzip => {
                self.each_record(of, true, &mut flate2::read::MultiGzDecoder::new(source), cancel, take)
            }
            Compression::Zstd => self.each_record(of, true, &mut text::Frames::new(source), cancel, take),
        }
    }

    fn each_record(
        &self,
        of: &TableFile<'_>,
        packed: bool,
        pieces: &mut dyn Pieces,
        cancel: &Cancel<'_>,
        take: &mut TakePart<'_>,
    ) -> Result<(), ListError> {
        let (mut header, row) = (self.has_header(of), Cell::new(0));
        let mut one = |record: &[u8]| match std::mem::take(&mut header) {
            true => take(Part::Header(record)),
            false => {
                row.set(row.get() + 1);
                take(Part::Row(record))
            }
        };
        let mut piece = Vec::new();
        let mut filled = pieces.next(&mut piece).map_err(|error| text::unreadable(of, packed, error))?;
        let mark = if piece[..filled].starts_with(text::UTF8_MARK) { text::UTF8_MARK.len() } else { 0 };
        let mut records = Records::new(self.dialect(), mark as u64);
        // What is read and not handed on yet; where it begins in the file.
        let (mut held, mut at, mut from) = (Vec::new(), mark as u64, mark);
        while filled > 0 {
            cancel()?;
            let fresh = held.len();
            held.extend_from_slice(&piece[from..filled]);
            let mut done = 0;
            records.feed(&held[fresh..], |end| {
                let start = std::mem::replace(&mut done, (end - at) as usize);
                one(&held[start..done])
            })?;
            held.drain(..done);
            at += done as u64;
            if held.len() > LONGEST {
                return Err(of.refuse(
                    format!("the record that begins at byte {at} has no end within 64 MiB"),
                    "is it a table with these delimiters and quotes?",
                ));
            }
            from = 0;
            filled = pieces.next(&mut piece).map_err(|error| text::unreadable(of, packed, error))?;
        }
        let (one_more, _) = records.finish().map_err(|unclosed| text::unclosed(of, unclosed, row.get() + 1))?;
        if one_more { one(&held) } else { Ok(()) }
    }
}
