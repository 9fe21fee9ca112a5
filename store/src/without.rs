//! What stands in where the program is built without the cloud: addresses can be read, and are refused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use fanfold_shared::report::IoError;
use fanfold_shared::uri::Uri;

use crate::{Datastores, Next, Object, Over, Seen, StoreError, Why};

/// Opens nothing.
pub struct Stores(Datastores);

/// There is none.
#[derive(Clone)]
pub struct Client(Infallible);

/// There is none.
pub struct Download(Infallible);

/// There is none.
pub struct Upload(Infallible);

/// There is none.
pub struct Parts(Infallible);

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

impl Stores {
    /// With the datastores of this machine.
    ///
    /// # Errors
    /// None.
    pub fn new(datastores: Datastores) -> Result<Stores, IoError> {
        Ok(Stores(datastores))
    }

    /// The datastores of this machine.
    pub fn datastores(&self) -> &Datastores {
        &self.0
    }

    /// Nothing can be opened.
    ///
    /// # Errors
    /// Always [`Why::NotBuilt`].
    pub fn open(&self, uri: &Uri) -> Result<Client, StoreError> {
        let credentials = crate::error::NO_CREDENTIALS.into();
        Err(StoreError { operation: "open", uri: Box::new(uri.clone()), why: Why::NotBuilt, credentials, near: None })
    }

    /// Nothing can be opened.
    ///
    /// # Errors
    /// As [`Stores::open`].
    pub fn can_open(&self, uri: &Uri) -> Result<(), StoreError> {
        self.open(uri).map(drop)
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "they are documented where they do something")]
impl Client {
    pub fn uri(&self) -> &Uri {
        match self.0 {}
    }
    pub fn credentials(&self) -> &str {
        match self.0 {}
    }
    pub fn lists(&self) -> bool {
        match self.0 {}
    }
    pub fn at(&self, _: &str) -> Client {
        match self.0 {}
    }
    pub fn head(&self) -> Result<Object, StoreError> {
        match self.0 {}
    }
    pub fn head_and_type(&self) -> Result<(Object, Option<String>), StoreError> {
        match self.0 {}
    }
    pub fn get_range(&self, _: Range<u64>, _: Option<&Object>) -> Result<Bytes, StoreError> {
        match self.0 {}
    }
    pub fn read(&self, _: Option<&Object>) -> Result<Download, StoreError> {
        match self.0 {}
    }
    pub fn read_from(&self, _: u64, _: &Object) -> Result<Download, StoreError> {
        match self.0 {}
    }
    pub fn put(&self, _: impl Into<Bytes>, _: bool) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn upload(&self) -> Result<Upload, StoreError> {
        match self.0 {}
    }
    pub fn delete(&self) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn look(&self, _: &mut dyn FnMut() -> bool) -> Result<Option<Seen>, StoreError> {
        match self.0 {}
    }
    pub fn put_file(
        &self,
        _: &File,
        _: u64,
        _: &Over,
        _: &BTreeMap<String, String>,
        _: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), PutError> {
        match self.0 {}
    }
    pub fn begin_parts(
        &self,
        _: u64,
        _: &BTreeMap<String, String>,
        _: &mut dyn FnMut() -> bool,
    ) -> Result<Parts, StoreError> {
        match self.0 {}
    }
    pub fn forget_parts(&self, _: &str, _: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn try_to_write(&self, _: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn list<E: From<StoreError>>(&self, _: &mut dyn FnMut(Object) -> Result<Next, E>) -> Result<(), E> {
        match self.0 {}
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "they are documented where they do something")]
impl Download {
    pub fn object(&self) -> &Object {
        match self.0 {}
    }
    pub fn error(error: &io::Error) -> Option<&StoreError> {
        error.get_ref()?.downcast_ref()
    }
    pub fn next_chunk(&mut self) -> Result<Bytes, StoreError> {
        match self.0 {}
    }
}

impl Read for Download {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "they are documented where they do something")]
impl Upload {
    pub fn write(&mut self, _: &[u8]) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn written(&self) -> u64 {
        match self.0 {}
    }
    pub fn finish(self) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn abort(self) -> Result<(), StoreError> {
        match self.0 {}
    }
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "they are documented where they do something")]
impl Parts {
    pub fn id(&self) -> &str {
        match self.0 {}
    }
    pub fn send(&mut self, _: &File, _: &mut dyn FnMut(u64) -> bool) -> Result<(), PutError> {
        match self.0 {}
    }
    pub fn finish(&self, _: &Over, _: &mut dyn FnMut(u64) -> bool) -> Result<(), StoreError> {
        match self.0 {}
    }
    pub fn forget(self, _: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        match self.0 {}
    }
}
