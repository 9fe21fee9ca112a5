//! What job files name at addresses and is read before there is a job.

use fanfold_shared::report::Failure;
use fanfold_shared::uri::Uri;
use fanfold_store::{Datastores, StoreError, Stores, Why};

/// At most `most` bytes of the object at `uri`, with the datastores of this user; None: there is none.
///
/// # Errors
/// The store can't be reached or refuses it, or its datastore is unknown.
pub fn read(uri: &Uri, most: u64) -> Result<Option<Vec<u8>>, Failure> {
    let client = Stores::new(Datastores::load()?)?.open(uri)?;
    let read = || -> Result<Vec<u8>, StoreError> {
        let mut download = client.read(None)?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < most {
            match download.next_chunk()? {
                chunk if chunk.is_empty() => break,
                chunk => bytes.extend_from_slice(&chunk),
            }
        }
        bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.why, Why::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
