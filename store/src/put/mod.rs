//! Whole files as objects: each appears at once or not at all, on a condition, and says whose it is.
//!
//! A [`Client`] writes a small file in one request ([`Client::put_file`]) and a large one in parts ([`Client::begin_parts`]). Marks are metadata of the
//! object from its first moment; whoever finds an object later knows by them who wrote it. `docs/design/upload.md` says what is promised by which
//! service.

mod conditional;
mod parts;

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use object_store::{Attribute, Attributes, GetOptions, PutMode, PutOptions, UpdateVersion};

pub(crate) use conditional::Multipart;
pub use parts::Parts;

use crate::client::Client;
use crate::why::why;
use crate::{Over, Seen, StoreError, Version, Why};

/// Between two looks at whether somebody still waits.
const LOOK: Duration = Duration::from_millis(200);

impl Client {
    /// What is at the name; None: nothing.
    ///
    /// # Errors
    /// It can't be asked for. [`Why::Stopped`]: `watch` has said that nobody waits any longer; so it is with all that takes one.
    pub fn look(&self, watch: &mut dyn FnMut() -> bool) -> Result<Option<Seen>, StoreError> {
        let path = self.key("look at")?;
        let asked = self.connected.store.get_opts(&path, GetOptions::new().with_head(true));
        match self.watched("look at", asked, watch)? {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look at", why(&error))),
            Ok(found) => {
                let marks = found.attributes.iter().filter_map(|(attribute, value)| match attribute {
                    Attribute::Metadata(name) => Some((name.to_ascii_lowercase(), value.to_string())),
                    _ => None,
                });
                let version = Version { etag: found.meta.e_tag.clone(), generation: found.meta.version.clone() };
                Ok(Some(Seen { size: found.meta.size, marks: marks.collect(), version }))
            }
        }
    }

    /// Writes `len` bytes of `file` as the object, in one request: for files that fit into memory several times. `watch` is asked while it waits,
    /// with the bytes that are there.
    ///
    /// # Errors
    /// It can't be read, or written. [`Why::Exists`] and [`Why::Changed`]: the condition is not met, perhaps because an answer was lost.
    pub fn put_file(
        &self,
        file: &File,
        len: u64,
        over: &Over,
        marks: &BTreeMap<String, String>,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), PutError> {
        let path = self.key("write")?;
        let bytes = read(file, 0, len)?;
        let mode = match over {
            Over::Nothing => PutMode::Create,
            Over::This(version) => {
                PutMode::Update(UpdateVersion { e_tag: version.etag.clone(), version: version.generation.clone() })
            }
        };
        let options = PutOptions { mode, attributes: attributes(marks), ..PutOptions::default() };
        let put = self.connected.store.put_opts(&path, bytes.into(), options);
        let put = self.watched("write", put, &mut || watch(0))?;
        put.map(drop).map_err(|error| self.error("write", why(&error)).into())
    }

    /// Begins to write a file of `len` bytes in parts.
    ///
    /// # Errors
    /// The server does not begin; [`Why::Setup`]: it takes nothing.
    pub fn begin_parts(
        &self,
        len: u64,
        marks: &BTreeMap<String, String>,
        watch: &mut dyn FnMut() -> bool,
    ) -> Result<Parts, StoreError> {
        Parts::begin(self.clone(), len, marks, watch)
    }

    /// Has the server forget the parts of an upload that was begun before, by its id. One that it does not know is forgotten already.
    ///
    /// # Errors
    /// It does not answer, or does not let us.
    pub fn forget_parts(&self, id: &str, watch: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let path = self.key("write")?;
        let Some(store) = self.connected.multipart.store() else { return Ok(()) };
        match self.watched("write", store.abort_multipart(&path, &id.to_string()), watch)? {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(self.error("write", why(&error))),
        }
    }

    /// Whether the credentials allow to write at the name, as far as the server tells it before it is done: an upload is begun and forgotten. Nobody sees
    /// anything of it.
    ///
    /// # Errors
    /// They don't, or the server can't be asked.
    pub fn try_to_write(&self, watch: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let mut parts = self.begin_parts(0, &BTreeMap::new(), watch)?;
        parts.probe(watch)?;
        // Who may write need not have the right to forget.
        let _ = parts.forget(watch);
        Ok(())
    }

    /// The outcome of `future`, unless `watch` says that nobody waits any longer.
    fn watched<T>(
        &self,
        operation: &'static str,
        future: impl Future<Output = T>,
        watch: &mut dyn FnMut() -> bool,
    ) -> Result<T, StoreError> {
        let outcome = self.wait(async {
            let mut future = pin!(future);
            loop {
                match tokio::time::timeout(LOOK, &mut future).await {
                    Ok(outcome) => return Some(outcome),
                    Err(_) if watch() => {}
                    Err(_) => return None,
                }
            }
        });
        outcome.ok_or_else(|| self.error(operation, Why::Stopped))
    }
}

/// Why a file could not be put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file.
    #[error("the file can't be read")]
    File(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn attributes(marks: &BTreeMap<String, String>) -> Attributes {
    marks.iter().map(|(name, value)| (Attribute::Metadata(name.clone().into()), value.clone())).collect()
}

fn read(file: &File, from: u64, len: u64) -> Result<Bytes, PutError> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| PutError::File(io::ErrorKind::OutOfMemory.into()))?];
    file.read_exact_at(&mut bytes, from).map_err(PutError::File)?;
    Ok(bytes.into())
}

/// A web server takes nothing.
fn takes_nothing(client: &Client) -> StoreError {
    client.error("write", Why::setup("a web server takes no files"))
}
