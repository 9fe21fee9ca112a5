//! An object written in parts: it appears under its name when it is finished, whole, or not at all.

use std::io;

use bytes::{Bytes, BytesMut};
use object_store::MultipartUpload;

use crate::StoreError;
use crate::client::Client;
use crate::why::why;

/// A part, bytes. Clouds take 10,000 parts at most, of 5 MiB at least: this is enough for 160 GB.
const PART: usize = 16 << 20;

/// An upload under way. Dropped without [`Upload::finish`] it leaves nothing under its name, but parts that the server keeps until it is told
/// ([`Upload::abort`]) or its own rules remove them.
pub struct Upload {
    client: Client,
    parts: Option<Box<dyn MultipartUpload>>,
    buffer: BytesMut,
    written: u64,
}

impl Upload {
    pub(crate) fn begin(client: Client) -> Result<Upload, StoreError> {
        Ok(Upload { client, parts: None, buffer: BytesMut::new(), written: 0 })
    }

    /// Adds bytes; full parts go to the server, one at a time.
    ///
    /// # Errors
    /// A part can't be written, over all tries.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(bytes);
        self.written += bytes.len() as u64;
        while self.buffer.len() >= PART {
            let part = self.buffer.split_to(PART).freeze();
            self.put_part(part)?;
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn put_part(&mut self, part: Bytes) -> Result<(), StoreError> {
        let client = self.client.clone();
        let error = |error| client.error("write", why(&error));
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                let path = client.key("write")?;
                client.wait(client.connected.store.put_multipart_opts(&path, Default::default())).map_err(error)?
            }
        };
        let put = client.wait(parts.put_part(part.into()));
        self.parts = Some(parts);
        put.map_err(error)
    }

    /// Makes the object appear. One that is small goes in one request.
    ///
    /// # Errors
    /// It can't be written; nothing has appeared, unless the answer was lost.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.parts.is_none() {
            return self.client.put(rest, false);
        }
        if !rest.is_empty() {
            self.put_part(rest)?;
        }
        let mut parts = self.parts.take().expect("it was looked at above");
        self.client.wait(parts.complete()).map(drop).map_err(|error| self.client.error("write", why(&error)))
    }

    /// Has the server forget the parts.
    ///
    /// # Errors
    /// It does not answer.
    pub fn abort(mut self) -> Result<(), StoreError> {
        match self.parts.take() {
            Some(mut parts) => self.client.wait(parts.abort()).map_err(|error| self.client.error("write", why(&error))),
            None => Ok(()),
        }
    }
}

impl io::Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Upload::write(self, bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
