//! The names of a table's columns, from its beginning (of Parquet: from its end), without reading the rest.

use std::fs::File;
use std::io::{self, Read, Seek};

use fanfold_shared::job::InputType;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::records::Records;
use super::text::{Compression, Frames, UTF8_MARK};
use super::{TableFile, Tables, fill, parquet as pieces};
use crate::prepare::groups;

/// A first record of more is not looked at, bytes.
const MOST: usize = 1 << 20;

impl Tables<'_> {
    /// The names of the columns of a file on this machine, as bytes of its encoding; of JSON Lines the keys of the first line. None: it has none, or
    /// can't be read so; whoever lists its rows says what is wrong with it.
    pub(in crate::prepare) fn columns(&self, of: &TableFile<'_>) -> Option<Vec<Vec<u8>>> {
        let mut file = File::open(of.path).ok()?;
        if self.kind == InputType::Parquet {
            pieces::is_plausible(of, &file).ok()?;
            return Some(of_parquet(&ParquetMetaDataReader::new().parse_and_finish(&file).ok()?));
        }
        let mut head = [0; 8];
        let read = fill(&mut file, &mut head).ok()?;
        file.rewind().ok()?;
        let record = match Compression::of(of, &head[..read]).ok()? {
            Compression::None => self.first_record(file),
            Compression::Gzip => self.first_record(flate2::read::MultiGzDecoder::new(io::BufReader::new(file))),
            Compression::Zstd => self.first_record(Frames::new(io::BufReader::new(file))),
        }?;
        match self.kind {
            InputType::Jsonl => {
                let line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&record).ok()?;
                Some(line.into_iter().map(|(key, _)| key.into_bytes()).collect())
            }
            _ if !self.has_header(of) => None,
            _ => {
                let mut names = Vec::new();
                groups::fields(&record, self.dialect(), |_, name| {
                    names.push(name.to_vec());
                    true
                });
                Some(names)
            }
        }
    }

    fn first_record(&self, from: impl Read) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        from.take(MOST as u64).read_to_end(&mut text).ok()?;
        let start = if text.starts_with(UTF8_MARK) { UTF8_MARK.len() } else { 0 };
        let mut records = Records::new(self.dialect(), 0);
        let body = &text[start..];
        let end = match records.feed(body, Err) {
            Err(end) => end as usize,
            // The only one, without an end of its own.
            Ok(()) if text.len() < MOST => match records.finish() {
                Ok((true, end)) => end as usize,
                _ => return None,
            },
            Ok(()) => return None,
        };
        Some(body[..end].to_vec())
    }
}

/// Those that become columns of a frame: what pandas wrote as an index becomes one again.
fn of_parquet(metadata: &ParquetMetaData) -> Vec<Vec<u8>> {
    let file = metadata.file_metadata();
    let pandas = file.key_value_metadata().and_then(|all| all.iter().find(|entry| entry.key == "pandas"));
    let pandas: Option<serde_json::Value> = pandas.and_then(|entry| serde_json::from_str(entry.value.as_deref()?).ok());
    let index = pandas.as_ref().and_then(|pandas| pandas.get("index_columns")?.as_array());
    let is_index = |name: &str| index.is_some_and(|index| index.iter().any(|column| column.as_str() == Some(name)));
    let fields = file.schema_descr().root_schema().get_fields().iter();
    fields.map(|field| field.name()).filter(|name| !is_index(name)).map(|name| name.as_bytes().to_vec()).collect()
}
