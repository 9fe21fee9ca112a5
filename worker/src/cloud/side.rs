//! Side inputs and models at addresses: brought here once for a node, before its first process.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use fanfold_shared::items::Fingerprint;
use fanfold_shared::report::During;
use fanfold_shared::uri::Uri;
use fanfold_store::{Next, Object, StoreError, Why};

use super::{Cloud, CloudError, Local, Stopped, Waiter, Want};
use crate::logs::Level;

/// More objects than this are no side input but a mistake.
const MOST: usize = 100_000;

struct Side<'a> {
    cancel: &'a AtomicBool,
    key: &'a str,
    say: Sender<String>,
}

impl Waiter for Side<'_> {
    fn is_over(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }

    fn came(&self, _: u64) {}

    fn held_up(&self, why: Option<&str>) {
        let text = match why {
            Some(why) => format!("{} waits for {why}", self.key),
            None => format!("{} goes on", self.key),
        };
        // Whoever listens does so until this is dropped.
        let _ = self.say.send(text);
    }
}

impl Cloud {
    /// Brings the object or the folder at `text` here, and returns where it is: a file or a folder with the name that it has there.
    /// `tell` hears what it waits for.
    pub(super) fn bring_side(
        &self,
        key: &str,
        text: &str,
        cancel: &AtomicBool,
        tell: &mut dyn FnMut(Level, &str),
    ) -> Result<PathBuf, CloudError> {
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
        let local = self.bring_and_tell(&wants, key, cancel, tell)?;
        let first = match local.files.iter().find_map(|file| file.as_ref().err()) {
            Some(why) => return Err(refuse(why.clone())),
            None => local.files[0].clone().unwrap_or_default(),
        };
        // Above the first file of a folder there are as many names as it has of its own.
        let own = match found {
            Some(_) => 0,
            None => wants[0].name.iter().filter(|byte| **byte == b'/').count(),
        };
        let path = first.ancestors().nth(own).unwrap_or(&first).to_path_buf();
        self.keep(wants.iter().map(Want::bytes).sum(), local);
        Ok(path)
    }

    /// Keeps what was brought, so many bytes, until the node leaves.
    pub(super) fn keep(&self, bytes: u64, local: Local) {
        self.kept.fetch_add(bytes, Ordering::SeqCst);
        self.side.lock().unwrap_or_else(PoisonError::into_inner).push(local);
    }

    /// Brings them on a thread of its own: who tells is here, and can't be called from where it is waited.
    pub(super) fn bring_and_tell(
        &self,
        wants: &[Want],
        key: &str,
        cancel: &AtomicBool,
        tell: &mut dyn FnMut(Level, &str),
    ) -> Result<Local, Stopped> {
        let (say, said) = mpsc::channel();
        let side = Side { cancel, key, say };
        thread::scope(|scope| {
            let bring = move || self.bring(wants, &side);
            let thread =
                thread::Builder::new().name("side".into()).spawn_scoped(scope, bring).during("start", "side")?;
            said.iter().for_each(|text| tell(Level::Warning, &text));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
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
