//! An object as a stream that can be read like a file. A body that breaks off is asked for again from there on.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{GetRange, ObjectMeta};

use crate::client::Client;
use crate::why::why;
use crate::{Object, StoreError, Why};

/// How often in a row it is asked for the rest without getting any of it.
pub(crate) const TRIES: u32 = 5;

/// A download under way. Reading it yields [`StoreError`]s inside of [`io::Error`]s ([`Download::error`]).
pub struct Download {
    client: Client,
    /// What it must be, from the first answer on.
    object: Object,
    stream: Option<Stream>,
    chunk: Bytes,
    /// Bytes that came so far.
    at: u64,
    /// Bytes to come that came before: the server sends whole files only.
    skip: u64,
    failures: u32,
}

impl Download {
    pub(crate) fn begin(client: Client, expected: Option<Object>) -> Result<Download, StoreError> {
        let (found, stream) = open(&client, 0, expected.as_ref())?;
        let mut object = client.object(found);
        // What the listing said is compared with all that comes.
        if let Some(expected) = expected {
            object.etag = object.etag.or(expected.etag);
        }
        Ok(Download { client, object, stream: Some(stream), chunk: Bytes::new(), at: 0, skip: 0, failures: 0 })
    }

    pub(crate) fn from(client: Client, start: u64, object: Object) -> Result<Download, StoreError> {
        let (stream, skip) = go_on(&client, start, &object)?;
        Ok(Download { client, object, stream: Some(stream), chunk: Bytes::new(), at: start, skip, failures: 0 })
    }

    /// What is being read.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The error inside of one that reading gave, if it is ours.
    pub fn error(error: &io::Error) -> Option<&StoreError> {
        error.get_ref()?.downcast_ref()
    }

    /// The next bytes; none: this is the end.
    ///
    /// # Errors
    /// It can't be read, over all tries, or it has changed.
    pub fn next_chunk(&mut self) -> Result<Bytes, StoreError> {
        if !self.chunk.is_empty() {
            return Ok(std::mem::take(&mut self.chunk));
        }
        loop {
            if self.at >= self.object.size {
                self.stream = None;
                return Ok(Bytes::new());
            }
            if self.stream.is_none() {
                match go_on(&self.client, self.at, &self.object) {
                    Ok((stream, skip)) => (self.stream, self.skip) = (Some(stream), skip),
                    Err(error) => self.failed(error)?,
                }
            }
            let Some(stream) = &mut self.stream else { continue };
            match self.client.wait(stream.next()) {
                Some(Ok(mut bytes)) => {
                    let known = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                    self.skip -= known as u64;
                    bytes.advance(known);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    self.failures = 0;
                    if self.at > self.object.size {
                        return Err(self.client.error("read", Why::Changed("it has become longer".into())));
                    }
                    return Ok(bytes);
                }
                Some(Err(error)) => {
                    let why = match why(&error) {
                        // It broke off, and the library wanted the rest.
                        Why::NoParts => Why::Unreachable("the connection broke".into()),
                        why => why,
                    };
                    self.failed(self.client.error("read", why))?;
                }
                None => {
                    let error = self.client.error("read", Why::Unreachable("the connection broke".into()));
                    self.failed(error)?;
                }
            }
        }
    }

    /// Counts a failure; the last one is the result.
    fn failed(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.stream = None;
        self.failures += 1;
        match self.failures > TRIES || error.why.is_final() {
            true => Err(error),
            false => {
                // The library waits between the tries of a request; this is only for a body that breaks off again and again.
                let wait = std::time::Duration::from_millis(50 << self.failures);
                // Made inside: a timer belongs to the runtime that it is made in.
                self.client.wait(async { tokio::time::sleep(wait).await });
                Ok(())
            }
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut chunk = self.next_chunk().map_err(io::Error::other)?;
        let len = chunk.len().min(buffer.len());
        buffer[..len].copy_from_slice(&chunk.split_to(len));
        self.chunk = chunk;
        Ok(len)
    }
}

type Stream = BoxStream<'static, object_store::Result<Bytes>>;
type Opened = (ObjectMeta, Stream);

/// Asks for the rest of the object; also how much of what comes is known.
fn go_on(client: &Client, at: u64, object: &Object) -> Result<(Stream, u64), StoreError> {
    let is_told_apart = object.etag.is_some() || object.modified_us != 0;
    match open(client, at, Some(object)) {
        // From its beginning, where it can be told that it is the same still.
        Err(error) if error.why == Why::NoParts && is_told_apart => Ok((open(client, 0, Some(object))?.1, at)),
        opened => Ok((opened?.1, 0)),
    }
}

/// Asks for the object from byte `at` on.
fn open(client: &Client, at: u64, expected: Option<&Object>) -> Result<Opened, StoreError> {
    let path = client.key("read")?;
    let mut options = client.expecting(expected);
    if at > 0 {
        options = options.with_range(Some(GetRange::Offset(at)));
    }
    let got = client.wait(client.connected.store.get_opts(&path, options));
    let got = got.map_err(|error| client.missing("read", &error))?;
    client.compare("read", expected, &got.meta)?;
    Ok((got.meta.clone(), got.into_stream()))
}
