//! Tables in the cloud: text is read once as it comes, of Parquet the footer alone.

use std::io::{Cursor, Read};

use fanfold_shared::items::{Fingerprint, WHOLE};
use fanfold_shared::job::InputType;
use fanfold_store::{Client, Object, Why};

use super::object::ObjectFile;
use super::{After, TableFile, Tables, Take, fill, parquet, text};
use crate::prepare::cloud::fingerprint;
use crate::prepare::{Cancel, ListError};

/// Reads an object and hands on its slices. It must be the one that was listed.
pub(super) fn slices(
    tables: &Tables<'_>,
    of: &TableFile<'_>,
    client: &Client,
    known: Fingerprint,
    after: Option<After>,
    cancel: &Cancel<'_>,
    take: &mut Take<'_>,
) -> Result<(), ListError> {
    if tables.kind == InputType::Parquet {
        let file = ObjectFile::open(client, of, known)?;
        let magic: Vec<u8> = file.tail().iter().rev().take(4).rev().copied().collect();
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
    let (stream, compression) = open(of, client, known)?;
    text::slices(tables, of, text::From::Stream(Box::new(stream)), compression, None, cancel, take)
}

/// The bytes of an object of text, which must be the one that was listed, and how they are compressed.
pub(super) fn open(
    of: &TableFile<'_>,
    client: &Client,
    known: Fingerprint,
) -> Result<(impl Read + use<>, text::Compression), ListError> {
    let mut download = client.read(None)?;
    same(client, download.object(), known)?;
    let mut head = [0; 8];
    let read = fill(&mut download, &mut head).map_err(|error| of.unreadable("read", error))?;
    let compression = text::Compression::of(of, &head[..read])?;
    Ok((Cursor::new(head).take(read as u64).chain(download), compression))
}

/// Refuses an object that is another one than was listed.
pub(super) fn same(client: &Client, found: &Object, known: Fingerprint) -> Result<(), ListError> {
    if fingerprint(found) == known {
        return Ok(());
    }
    let (uri, credentials) = (Box::new(client.uri().clone()), client.credentials().into());
    let why = Why::Changed("it was written while the job listed it".into());
    Err(fanfold_store::StoreError { operation: "read", uri, why, credentials, near: None }.into())
}
