//! Whether the data of a dataset is of the kind that it is registered as, by the first bytes of its first file.
//!
//! Every job over it would find out; whoever registers it hears of it at once. What lies in the cloud is not looked at.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use fanfold_shared::job::{Input, InputType};

use super::cloud::Cloud;
use super::lines::wide;
use super::listing::first_file;
use super::source::{Look, Source};
use super::tables::{Compression, TableFile, fill};
use super::walk::Identities;
use super::{Cancel, ListError};

/// Bytes that are looked at.
const HEAD: usize = 512;

/// Refuses the path, folder or pattern `path`, which messages call the input `name`, if it is surely not of this kind.
///
/// # Errors
/// That; it is not there or can't be read.
pub fn is_of_kind(name: &str, path: &str, kind: InputType, cancel: &Cancel<'_>) -> Result<(), ListError> {
    if !kind.is_table() {
        return Ok(());
    }
    let (excluded, cloud) = (Identities::default(), Cloud::default());
    let look = Look { excluded: &excluded, cancel, of_mltable: false, input_type: kind, cloud: &cloud };
    let input = Input { name: name.into(), path: path.into(), dataset: None };
    let source = Source::resolve(&input, look)?;
    if source.objects().is_some() {
        return Ok(());
    }
    let path = source.root().join(OsStr::from_bytes(&first_file(&input, &source, look)?.0));
    let of = TableFile { input: name, path: &path, entry: 0, object: None, first: true };
    let mut head = [0; HEAD];
    let read = File::open(&path).and_then(|mut file| fill(&mut file, &mut head));
    let head = &head[..read.map_err(|error| of.unreadable("read", error))?];
    let is_parquet = head.starts_with(b"PAR1");
    match kind {
        // An encrypted footer is the job's to refuse.
        InputType::Parquet if is_parquet || head.starts_with(b"PARE") => Ok(()),
        InputType::Parquet => {
            let (what, kind) = likeness(&of, head);
            let hint = match kind {
                Some(kind) => {
                    format!("register it with `--input-type {kind}`; or name the Parquet files alone, by a pattern")
                }
                None => "name the Parquet files alone, by a pattern such as `data/*.parquet`".into(),
            };
            Err(of.refuse(format!("it is no Parquet file: {what}"), hint))
        }
        _ if is_parquet => Err(of.refuse("it is a Parquet file", "register it with `--input-type parquet`")),
        _ => Compression::of(&of, head).map(drop),
    }
}

/// What a file looks like that begins so, and the kind of table that it may be.
fn likeness(of: &TableFile<'_>, head: &[u8]) -> (String, Option<&'static str>) {
    if head.is_empty() {
        return ("it is empty".into(), None);
    }
    if let Some(encoding) = wide(head) {
        return (format!("it looks like text in {encoding}"), None);
    }
    match Compression::of(of, head) {
        Ok(Compression::Gzip) => return ("it is compressed with gzip".into(), None),
        Ok(Compression::Zstd) => return ("it is compressed with zstd".into(), None),
        Ok(Compression::None) => (),
        Err(ListError::Table { what, .. }) => return (what, None),
        Err(error) => return (error.to_string(), None),
    }
    if head.iter().any(|byte| *byte < b' ' && !byte.is_ascii_whitespace()) {
        return ("its first bytes are none of it".into(), None);
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let line = head.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    match line {
        [b'{', ..] => ("it looks like JSON Lines".into(), Some("jsonl")),
        _ if count(b'\t') > count(b',') => ("it looks like text with tabs".into(), Some("tsv")),
        _ if count(b',') + count(b';') > 0 => ("it looks like CSV".into(), Some("csv")),
        _ => ("it looks like text".into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let told = |head: &[u8], kind| {
            std::fs::write(dir.path().join("t"), head).unwrap();
            is_of_kind("x", dir.path().to_str().unwrap(), kind, &|| Ok(())).map_err(|error| {
                let said = error.to_string();
                said.rsplit_once("`: ").map_or(said.clone(), |(_, what)| what.to_string())
            })
        };
        for (head, what) in [
            (&b"id,name\n1,a\n"[..], "it is no Parquet file: it looks like CSV"),
            (b"id\tname\n1\ta,b,c\n", "it is no Parquet file: it looks like text with tabs"),
            (b"\xef\xbb\xbf{\"id\": 1}\n", "it is no Parquet file: it looks like JSON Lines"),
            (b"", "it is no Parquet file: it is empty"),
            (b"\x1f\x8b\x08", "it is no Parquet file: it is compressed with gzip"),
            (b"PK\x03\x04", "it is no Parquet file: it is a zip archive"),
            (b"\xff\xfea\0", "it is no Parquet file: it looks like text in UTF-16"),
            (b"\x89PNG\r\n\x1a\n\0", "it is no Parquet file: its first bytes are none of it"),
        ] {
            assert_eq!(told(head, InputType::Parquet), Err(what.to_string()));
        }
        for kind in [InputType::Csv, InputType::Tsv, InputType::Jsonl] {
            assert_eq!(told(b"PAR1\x15", kind), Err("it is a Parquet file".into()));
            assert_eq!(told(b"\x1f\x8b\x08", kind), Ok(()));
            assert_eq!(told(b"anything\n", kind), Ok(()));
        }
        assert_eq!(told(b"PAR1\x15", InputType::Parquet), Ok(()));
        assert_eq!(told(b"PAR1\x15", InputType::Files), Ok(()));
    }
}
