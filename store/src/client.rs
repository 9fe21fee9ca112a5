//! One place, asked in blocking calls.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use fanfold_shared::uri::Uri;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};

use crate::connect::Connected;
use crate::download::Download;
use crate::stores::Owned;
use crate::upload::Upload;
use crate::why::why;
use crate::{Object, StoreError, Why};

/// A client for what lies at one address and below. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Client {
    pub(crate) connected: Arc<Connected>,
    pub(crate) runtime: Arc<Owned>,
    uri: Uri,
}

impl Client {
    pub(crate) fn new(connected: Arc<Connected>, runtime: Arc<Owned>, uri: Uri) -> Client {
        Client { connected, runtime, uri }
    }

    /// Where it is.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// As whom it asks, and where that comes from; no secret.
    pub fn credentials(&self) -> &str {
        &self.connected.credentials
    }

    /// Whether it can list: a web server can't.
    pub fn lists(&self) -> bool {
        self.connected.lists
    }

    /// What is called `name` below its address: that object, by a client of its own.
    pub fn at(&self, name: &str) -> Client {
        Client { uri: self.uri.join(name), ..self.clone() }
    }

    /// What is known of the object at its address.
    ///
    /// # Errors
    /// It is not there, or can't be asked for.
    pub fn head(&self) -> Result<Object, StoreError> {
        Ok(self.head_and_type()?.0)
    }

    /// What is known of the object at its address, and what its server calls its content: `text/html; charset=utf-8`.
    ///
    /// # Errors
    /// As [`Client::head`].
    pub fn head_and_type(&self) -> Result<(Object, Option<String>), StoreError> {
        let path = self.key("look at")?;
        let looked = self.wait(self.connected.store.get_opts(&path, GetOptions::new().with_head(true)));
        let found = looked.map_err(|error| self.missing("look at", &error))?;
        let content_type = found.attributes.get(&Attribute::ContentType).map(|text| text.to_string());
        Ok((self.object(found.meta), content_type))
    }

    /// The bytes `range` of the object, all of them. `expected`: it must still be that one.
    ///
    /// # Errors
    /// It can't be read, has no such bytes, or is another one.
    pub fn get_range(&self, range: Range<u64>, expected: Option<&Object>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = self.key("read")?;
        let mut tries = 0;
        loop {
            // All of it is no part: any server sends that.
            let is_all = range.start == 0 && expected.is_some_and(|expected| expected.size == range.end);
            let part = (!is_all).then(|| GetRange::Bounded(range.clone()));
            let options = self.expecting(expected).with_range(part);
            let got = self.wait(async {
                let got = self.connected.store.get_opts(&path, options).await?;
                let meta = got.meta.clone();
                Ok::<_, object_store::Error>((got.bytes().await?, meta))
            });
            match got {
                Ok((bytes, meta)) => {
                    self.compare("read", expected, &meta)?;
                    if bytes.len() as u64 == range.end - range.start {
                        return Ok(bytes);
                    }
                    return Err(self.error("read", Why::Other("the server sent less than it was asked for".into())));
                }
                // The library tries again what has no beginning; a body that breaks off is ours.
                Err(error) => match why(&error) {
                    Why::Unreachable(_) | Why::Other(_) if tries < crate::download::TRIES => tries += 1,
                    _ => return Err(self.missing("read", &error)),
                },
            }
        }
    }

    /// The object, as it comes. `expected`: it must still be that one. A body that breaks off is gone on with where it broke.
    ///
    /// # Errors
    /// It can't be read, or is another one.
    pub fn read(&self, expected: Option<&Object>) -> Result<Download, StoreError> {
        Download::begin(self.clone(), expected.cloned())
    }

    /// The object from its byte `start` on, as [`Client::read`].
    ///
    /// # Errors
    /// It can't be read, or is another one.
    pub fn read_from(&self, start: u64, expected: &Object) -> Result<Download, StoreError> {
        Download::from(self.clone(), start, expected.clone())
    }

    /// Writes a small object in one request. `new`: it must not exist yet ([`Why::Exists`]), where the server can tell.
    ///
    /// # Errors
    /// It can't be written.
    pub fn put(&self, bytes: impl Into<Bytes>, new: bool) -> Result<(), StoreError> {
        let path = self.key("write")?;
        let mode = if new { object_store::PutMode::Create } else { object_store::PutMode::Overwrite };
        let put = self.connected.store.put_opts(&path, bytes.into().into(), mode.into());
        self.wait(put).map(drop).map_err(|error| self.error("write", why(&error)))
    }

    /// Begins to write an object of any size, in parts.
    ///
    /// # Errors
    /// The server does not begin.
    pub fn upload(&self) -> Result<Upload, StoreError> {
        Upload::begin(self.clone())
    }

    /// Removes the object. One that is not there is removed already.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn delete(&self) -> Result<(), StoreError> {
        let path = self.key("remove")?;
        match self.wait(self.connected.store.delete(&path)) {
            Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                Err(self.error("remove", why(&error)))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.runtime().block_on(future)
    }

    /// The name of its object for the library.
    pub(crate) fn key(&self, operation: &'static str) -> Result<Path, StoreError> {
        self.key_of(operation, self.uri.path())
    }

    pub(crate) fn key_of(&self, operation: &'static str, path: &str) -> Result<Path, StoreError> {
        let whole = match (self.connected.base.as_str(), path) {
            ("", path) => path.to_string(),
            (base, "") => base.to_string(),
            (base, path) => format!("{base}/{path}"),
        };
        Path::parse(&whole).map_err(|_| self.error(operation, Why::setup("its name can't be asked for")))
    }

    pub(crate) fn error(&self, operation: &'static str, why: Why) -> StoreError {
        let credentials = self.connected.credentials.as_str().into();
        StoreError { operation, uri: Box::new(self.uri.clone()), why, credentials, near: None }
    }

    /// An error of the library; of what does not exist what is nearest to it.
    pub(crate) fn missing(&self, operation: &'static str, error: &object_store::Error) -> StoreError {
        let mut error = self.error(operation, why(error));
        if matches!(error.why, Why::Missing(_)) {
            error.near = self.nearest();
        }
        error
    }

    pub(crate) fn object(&self, found: ObjectMeta) -> Object {
        let path = found.location.to_string();
        let base = &self.connected.base;
        let path = match base.as_str() {
            "" => path,
            base => path.strip_prefix(base).map_or(path.clone(), |rest| rest.trim_start_matches('/').to_string()),
        };
        Object { path, size: found.size, etag: found.e_tag, modified_us: found.last_modified.timestamp_micros() }
    }

    pub(crate) fn expecting(&self, expected: Option<&Object>) -> GetOptions {
        let etag = expected.and_then(|expected| expected.etag.clone());
        // A weak one must not stand there (RFC 9110); it is compared afterwards.
        let etag = etag.filter(|etag| !etag.starts_with("W/"));
        GetOptions::new().with_if_match(etag.map(|etag| format!("\"{}\"", tag(&etag))))
    }

    /// Whether what a server sends is what was listed.
    pub(crate) fn compare(
        &self,
        operation: &'static str,
        expected: Option<&Object>,
        found: &ObjectMeta,
    ) -> Result<(), StoreError> {
        let Some(expected) = expected else { return Ok(()) };
        let how = changed(expected, &self.object(found.clone()));
        how.map_or(Ok(()), |how| Err(self.error(operation, Why::Changed(how))))
    }
}

/// An ETag without its quotes: listings of some servers leave them out, answers don't.
fn tag(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// How an object differs from what it was.
pub(crate) fn changed(was: &Object, is: &Object) -> Option<String> {
    if was.size != is.size {
        return Some(format!("size {} -> {}", was.size, is.size));
    }
    match (&was.etag, &is.etag) {
        (Some(was), Some(is)) => (tag(was) != tag(is)).then(|| "it was written anew, with the same size".into()),
        // Times of listings and of answers may differ below a second.
        _ => {
            let known = was.modified_us != 0 && is.modified_us != 0;
            (known && was.modified_us / 1_000_000 != is.modified_us / 1_000_000)
                .then(|| "it was written anew, with the same size".into())
        }
    }
}
