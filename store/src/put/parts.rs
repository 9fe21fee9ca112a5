//! A file on its way in parts.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::PutMultipartOptions;
use object_store::multipart::PartId;
use object_store::path::Path;

use super::{PutError, attributes, read, takes_nothing};
use crate::client::Client;
use crate::why::why;
use crate::{Over, StoreError, Why};

/// A part, bytes, unless the file is so large that there would be too many.
const PART: u64 = 16 << 20;
/// S3 and Google take 10,000 parts of an object.
const MOST_PARTS: u64 = 9_500;
/// Parts on their way at once.
const AT_ONCE: usize = 4;
/// All of them together, bytes, where parts are large.
const IN_MEMORY: u64 = 128 << 20;
/// Between two looks at whether somebody still waits.
const LOOK: Duration = Duration::from_millis(200);

/// A file on its way in parts. Nothing is to be seen of it until [`Parts::finish`]; parts that failed are sent again by the next
/// [`Parts::send`].
pub struct Parts {
    client: Client,
    path: Path,
    id: String,
    len: u64,
    part: u64,
    marks: BTreeMap<String, String>,
    done: Vec<Option<PartId>>,
    sent: u64,
}

impl Parts {
    pub(super) fn begin(
        client: Client,
        len: u64,
        marks: &BTreeMap<String, String>,
        watch: &mut dyn FnMut() -> bool,
    ) -> Result<Parts, StoreError> {
        let path = client.key("write")?;
        let Some(store) = client.connected.multipart.store() else { return Err(takes_nothing(&client)) };
        let mut options = PutMultipartOptions::default();
        if client.connected.multipart.marks_first() {
            options.attributes = attributes(marks);
        }
        let begun = client.watched("write", store.create_multipart_opts(&path, options), watch)?;
        let id = begun.map_err(|error| client.error("write", why(&error)))?;
        let part = PART.max(len.div_ceil(MOST_PARTS));
        let done = vec![None; usize::try_from(len.div_ceil(part)).expect("at most 9,500")];
        Ok(Parts { client, path, id, len, part, marks: marks.clone(), done, sent: 0 })
    }

    /// What the server calls the upload; empty where it has no name for it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks for nothing but the right to send parts, where beginning asks nobody.
    pub(super) fn probe(&mut self, watch: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        if self.client.connected.multipart.marks_first() {
            return Ok(());
        }
        let store = self.client.connected.multipart.store().expect("it has begun");
        let put = self.client.watched("write", store.put_part(&self.path, &self.id, 0, "?".into()), watch)?;
        put.map(drop).map_err(|error| self.client.error("write", why(&error)))
    }

    /// Sends the parts of `file` that are not there yet, several at once. `watch` is asked meanwhile, with the bytes that are there.
    ///
    /// # Errors
    /// The file can't be read, or a part not be sent, over all tries of it; those that were sent stay.
    pub fn send(&mut self, file: &File, watch: &mut dyn FnMut(u64) -> bool) -> Result<(), PutError> {
        let client = self.client.clone();
        let store = client.connected.multipart.store().expect("it has begun");
        let at_once = AT_ONCE.min(usize::try_from(IN_MEMORY / self.part).unwrap_or(AT_ONCE)).max(1);
        let missing = self.done.iter().enumerate().filter(|(_, done)| done.is_none()).map(|(index, _)| index);
        let mut missing = missing.collect::<Vec<_>>().into_iter();
        let (path, id) = (&self.path, &self.id);
        client.wait(async {
            let mut under_way = FuturesUnordered::new();
            loop {
                while under_way.len() < at_once
                    && let Some(index) = missing.next()
                {
                    let from = index as u64 * self.part;
                    let len = self.part.min(self.len - from);
                    let bytes = read(file, from, len)?;
                    under_way.push(async move { (index, len, store.put_part(path, id, index, bytes.into()).await) });
                }
                match tokio::time::timeout(LOOK, under_way.next()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some((index, len, Ok(part)))) => {
                        self.done[index] = Some(part);
                        self.sent += len;
                    }
                    Ok(Some((_, _, Err(error)))) => return Err(client.error("write", why(&error)).into()),
                    Err(_) => {}
                }
                if !watch(self.sent) {
                    return Err(client.error("write", Why::Stopped).into());
                }
            }
        })
    }

    /// Makes the object appear, if the condition is met and the service knows it. To be called when all parts are sent.
    ///
    /// # Errors
    /// As [`Client::put_file`]; the parts stay.
    pub fn finish(&self, over: &Over, watch: &mut dyn FnMut(u64) -> bool) -> Result<(), StoreError> {
        let error = |error: object_store::Error| self.client.error("write", why(&error));
        let last = self.client.connected.multipart.last(over, &self.marks).map_err(error)?;
        let parts = self.done.iter().map(|part| part.clone().expect("all of them are sent")).collect();
        let completed = last.complete_multipart(&self.path, &self.id, parts);
        self.client.watched("write", completed, &mut || watch(self.sent))?.map(drop).map_err(error)
    }

    /// Has the server forget the parts, where it can.
    ///
    /// # Errors
    /// It does not answer, or does not let us.
    pub fn forget(self, watch: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        self.client.forget_parts(&self.id, watch)
    }
}
