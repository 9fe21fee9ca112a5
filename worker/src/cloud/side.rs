//! Side inputs and models at addresses: brought here once for a node, before its first process.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfold_shared::items::Fingerprint;
use fanfold_shared::uri::Uri;
use fanfold_store::{Next, Object, StoreError, Why};

use super::{Cloud, CloudError, Stopped, Waiter, Want};

/// More objects than this are no side input but a mistake.
const MOST: usize = 100_000;

struct Side<'a>(&'a AtomicBool);

impl Waiter for Side<'_> {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn came(&self, _: u64) {}

    fn held_up(&self, _: Option<&str>) {}
}

impl Cloud {
    /// Brings the object or the folder at `text` here, and returns where it is: a file or a folder with the name that it has there.
    pub(super) fn bring_side(&self, key: &str, text: &str, cancel: &AtomicBool) -> Result<PathBuf, CloudError> {
        let refuse = |why: String| CloudError::Side { key: key.to_string(), why };
        let uri = Uri::parse(text).map_err(|error| refuse(error.to_string()))?;
        let client = self.stores.open(&uri)?;
        let found = match uri.path().is_empty() && client.lists() {
            true => None,
            false => match client.head() {
                Ok(found) if found.size > 0 || !client.lists() => Some(found),
                Ok(found) => (!self.has_any(&client)?).then_some(found),
                Err(error) if client.lists() && matches!(error.why, Why::Missing(_)) => match self.has_any(&client) {
                    Ok(true) => None,
                    _ => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            },
        };
        let root = match uri.file_name() {
            "" => uri.place().to_string().rsplit('/').next().unwrap_or("folder").to_string(),
            name => name.to_string(),
        };
        let fingerprint =
            |object: &Object| Fingerprint::of_object(object.size, object.etag.as_deref(), object.modified_us);
        let mut wants = Vec::new();
        match &found {
            Some(object) => {
                let known = fingerprint(object);
                wants.push(Want { client: client.clone(), name: root.clone().into_bytes(), known, part: None });
            }
            None => client.list(&mut |object: Object| {
                if wants.len() == MOST {
                    return Err(refuse(format!("there are more than {MOST} objects below `{uri}`")));
                }
                let name = format!("{root}/{}", object.path).into_bytes();
                wants.push(Want { client: client.at(&object.path), name, known: fingerprint(&object), part: None });
                Ok(Next::Go)
            })?,
        }
        if wants.is_empty() {
            return Err(refuse(format!("there is no object below `{uri}`")));
        }
        let local = match self.bring(&wants, &Side(cancel)) {
            Ok(local) => local,
            Err(Stopped::Over) => return Err(CloudError::Over),
            Err(Stopped::Cache(error)) => return Err(error.into()),
        };
        let first = match local.files.iter().find_map(|file| file.as_ref().err()) {
            Some(why) => return Err(refuse(why.clone())),
            None => local.files[0].clone().unwrap_or_default(),
        };
        let bytes: u64 = wants.iter().map(Want::bytes).sum();
        self.kept.fetch_add(bytes, Ordering::SeqCst);
        // Above the first file of a folder there are as many names as it has of its own.
        let own = match found {
            Some(_) => 0,
            None => wants[0].name.iter().filter(|byte| **byte == b'/').count(),
        };
        let path = first.ancestors().nth(own).unwrap_or(&first).to_path_buf();
        self.side.lock().unwrap_or_else(PoisonError::into_inner).push(local);
        Ok(path)
    }

    fn has_any(&self, client: &fanfold_store::Client) -> Result<bool, StoreError> {
        let mut any = false;
        client.list(&mut |_| {
            any = true;
            Ok::<_, StoreError>(Next::Stop)
        })?;
        Ok(any)
    }
}
