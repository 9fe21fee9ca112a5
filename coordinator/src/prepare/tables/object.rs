//! An object that is read here and there, as Parquet files are: in blocks, of which those that were used last are kept.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fanfold_shared::items::Fingerprint;
use fanfold_store::{Client, Object, StoreError};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::TableFile;
use super::remote::same;
use crate::prepare::ListError;

/// What is fetched of the end at once: most footers are shorter, so that one request does.
const TAIL: u64 = 64 << 10;
/// Bytes that are fetched at once elsewhere. The pages of a column follow each other, each with a header of its own that is read first.
const BLOCK: u64 = 1 << 20;
/// Blocks that are kept: columns are read side by side, each somewhere else.
const KEPT: usize = 32;

/// See the module documentation. Clones share what they know.
#[derive(Clone)]
pub(in crate::prepare) struct ObjectFile(Arc<Shared>);

struct Shared {
    client: Client,
    object: Object,
    /// Its last bytes.
    tail: Bytes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By where they begin; the one that was used last at the end.
    blocks: VecDeque<(u64, Bytes)>,
    /// What the store said: what the library makes of it may be another error.
    trouble: Option<StoreError>,
}

impl ObjectFile {
    /// Opens an object, which must be the one that was listed, and stay that.
    pub(in crate::prepare) fn open(
        client: &Client,
        of: &TableFile<'_>,
        known: Fingerprint,
    ) -> std::result::Result<ObjectFile, ListError> {
        let Fingerprint::File { size, .. } = known else { return Err(of.refuse("nothing is known of it", "")) };
        // What is wrong with its size or version shows in the answer.
        let object = client.head()?;
        same(client, &object, known)?;
        let tail = client.get_range(size.saturating_sub(TAIL)..size, Some(&object))?;
        Ok(ObjectFile(Arc::new(Shared { client: client.clone(), object, tail, state: Mutex::default() })))
    }

    /// What the store said, if it is at fault.
    pub(in crate::prepare) fn trouble(&self) -> Option<StoreError> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Its last bytes.
    pub(super) fn tail(&self) -> &[u8] {
        &self.0.tail
    }

    /// Some bytes from `at` on, as many as are at hand there; none at the end.
    fn from(&self, at: u64) -> io::Result<Bytes> {
        let Shared { client, object, tail, state } = &*self.0;
        let begins = object.size - tail.len() as u64;
        if at >= object.size {
            return Ok(Bytes::new());
        }
        if at >= begins {
            return Ok(tail.slice((at - begins) as usize..));
        }
        let start = at - at % BLOCK;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.blocks.iter().position(|(block, _)| *block == start).and_then(|at| state.blocks.remove(at));
        let block = match known {
            Some((_, bytes)) => bytes,
            None => match client.get_range(start..(start + BLOCK).min(begins), Some(object)) {
                Ok(bytes) => bytes,
                Err(error) => {
                    state.trouble = Some(error.clone());
                    return Err(io::Error::other(error));
                }
            },
        };
        state.blocks.push_back((start, block.clone()));
        if state.blocks.len() > KEPT {
            state.blocks.pop_front();
        }
        Ok(block.slice((at - start) as usize..))
    }
}

impl Length for ObjectFile {
    fn len(&self) -> u64 {
        self.0.object.size
    }
}

impl ChunkReader for ObjectFile {
    type T = Reading;

    fn get_read(&self, start: u64) -> Result<Reading> {
        Ok(Reading { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.object.size) {
            return Err(ParquetError::EOF("it ends before its footer does".into()));
        }
        let first = self.from(start)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        let mut bytes = Vec::with_capacity(length);
        Reading { file: self.clone(), at: start }.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads an object from a place on.
pub(in crate::prepare) struct Reading {
    file: ObjectFile,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.from(self.at)?;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        self.at += len as u64;
        Ok(len)
    }
}
