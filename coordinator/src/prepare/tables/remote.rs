//! Tables in the cloud: text is read once as it comes, of Parquet the footer alone.

use std::io::{self, Cursor, Read};

use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;
use fanfold_shared::items::{Fingerprint, WHOLE};
use fanfold_shared::job::InputType;
use fanfold_store::{Client, Object, Why};

use super::{After, TableFile, Tables, Take, fill, parquet, text};
use crate::prepare::cloud::fingerprint;
use crate::prepare::{Cancel, ListError};

/// What is fetched of the end of a Parquet file at once: most footers are shorter, so that one request does.
const TAIL: u64 = 64 << 10;

/// Reads an object and hands on its slices. It must be the one that was listed.
pub(super) fn slices(
    tables: &Tables<'_>,
    of: &TableFile<'_>,
    client: &Client,
    known: Fingerprint,
    after: Option<After>,
    cancel: &Cancel<'_>,
    take: &mut Take<'_>,
) -> std::result::Result<(), ListError> {
    if tables.kind == InputType::Parquet {
        let file = Remote::open(client, of, known)?;
        let magic: Vec<u8> = file.tail.iter().rev().take(4).rev().copied().collect();
        return parquet::slices(of, &file, &magic, tables.size, after, take);
    }
    if let Some(after) = after {
        // Only what is not compressed is gone on with.
        let object = client.head()?;
        same(client, &object, known)?;
        if after.end == WHOLE || after.end >= object.size {
            return Ok(());
        }
        let rest = client.read_from(after.end, &object)?;
        return text::slices(
            tables,
            of,
            text::From::Stream(Box::new(rest)),
            text::Compression::None,
            Some(after),
            cancel,
            take,
        );
    }
    let mut download = client.read(None)?;
    same(client, download.object(), known)?;
    let mut head = [0; 8];
    let read = fill(&mut download, &mut head).map_err(|error| of.unreadable("read", error))?;
    let compression = text::Compression::of(of, &head[..read])?;
    let whole = Cursor::new(head).take(read as u64).chain(download);
    text::slices(tables, of, text::From::Stream(Box::new(whole)), compression, None, cancel, take)
}

fn same(client: &Client, found: &Object, known: Fingerprint) -> std::result::Result<(), ListError> {
    if fingerprint(found) == known {
        return Ok(());
    }
    let (uri, credentials) = (Box::new(client.uri().clone()), client.credentials().into());
    let why = Why::Changed("it was written while the job listed it".into());
    Err(fanfold_store::StoreError { operation: "read", uri, why, credentials, near: None }.into())
}

/// A Parquet file in the cloud.
struct Remote<'a> {
    client: &'a Client,
    object: Object,
    /// Its last bytes.
    tail: Bytes,
}

impl Remote<'_> {
    fn open<'a>(
        client: &'a Client,
        of: &TableFile<'_>,
        known: Fingerprint,
    ) -> std::result::Result<Remote<'a>, ListError> {
        let Fingerprint::File { size, .. } = known else { return Err(of.refuse("nothing is known of it", "")) };
        // What is wrong with its size or version shows in the answer.
        let object = client.head()?;
        same(client, &object, known)?;
        let tail = client.get_range(size.saturating_sub(TAIL)..size, Some(&object))?;
        Ok(Remote { client, object, tail })
    }
}

impl Length for Remote<'_> {
    fn len(&self) -> u64 {
        self.object.size
    }
}

impl ChunkReader for Remote<'_> {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Cursor<Bytes>> {
        let len = self.object.size.saturating_sub(start);
        Ok(Cursor::new(self.get_bytes(start, len as usize)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let begins = self.object.size - self.tail.len() as u64;
        let end = start + length as u64;
        if end > self.object.size {
            return Err(ParquetError::EOF("it ends before its footer does".into()));
        }
        if start >= begins {
            let from = (start - begins) as usize;
            return Ok(self.tail.slice(from..from + length));
        }
        let bytes = self.client.get_range(start..end, Some(&self.object));
        bytes.map_err(|error| ParquetError::External(Box::new(io::Error::other(error))))
    }
}
