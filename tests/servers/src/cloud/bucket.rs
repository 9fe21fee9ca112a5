//! What lies in a bucket or container, for tests to fill and to look at, with full rights and past every fault.

use std::sync::{Arc, LazyLock};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// Writes an object by other means.
type Write = Box<dyn Fn(&str, Vec<u8>) + Send + Sync>;

/// A bucket, or a container.
pub struct Bucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    write: Option<Write>,
}

impl Bucket {
    pub(super) fn new(name: &str, store: impl ObjectStore) -> Bucket {
        Bucket { name: name.into(), store: Arc::new(store), write: None }
    }

    /// One that `store` only reads.
    pub(super) fn written_by(
        name: &str,
        store: impl ObjectStore,
        write: impl Fn(&str, Vec<u8>) + Send + Sync + 'static,
    ) -> Bucket {
        Bucket { name: name.into(), store: Arc::new(store), write: Some(Box::new(write)) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes an object, over what was there.
    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        if let Some(write) = &self.write {
            return write(key, bytes.into());
        }
        let payload = PutPayload::from(bytes.into());
        RUNTIME.block_on(self.store.put(&path(key), payload)).expect("the object can be written");
    }

    /// The bytes of an object; None if there is none.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        RUNTIME.block_on(async {
            match self.store.get(&path(key)).await {
                Err(object_store::Error::NotFound { .. }) => None,
                found => Some(found.expect("the object").bytes().await.expect("its bytes").to_vec()),
            }
        })
    }

    /// Its ETag; None if there is no such object.
    pub fn etag(&self, key: &str) -> Option<String> {
        match RUNTIME.block_on(self.store.head(&path(key))) {
            Err(object_store::Error::NotFound { .. }) => None,
            found => Some(found.expect("the object").e_tag.expect("an ETag")),
        }
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) {
        RUNTIME.block_on(self.store.delete(&path(key))).expect("the object can be removed");
    }

    /// Names and sizes of all objects below a prefix that ends at a slash, sorted.
    pub fn list(&self, prefix: &str) -> Vec<(String, u64)> {
        use futures_util::TryStreamExt;
        let prefix = (!prefix.is_empty()).then(|| path(prefix));
        let all: Vec<_> = RUNTIME.block_on(self.store.list(prefix.as_ref()).try_collect()).expect("a listing");
        let mut all: Vec<_> = all.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
        all.sort();
        all
    }
}

fn path(key: &str) -> Path {
    Path::parse(key).expect("a plain key")
}
