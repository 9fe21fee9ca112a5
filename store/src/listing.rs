//! What lies below an address, in bounded memory.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use fanfold_shared::uri::Uri;
use futures_util::StreamExt;
use object_store::ObjectMeta;
use object_store::list::PaginatedListOptions;

use crate::client::Client;
use crate::why::why;
use crate::{Next, Object, StoreError, Why};

/// Names that are asked for to find the nearest one.
const NEAR: usize = 100;
/// An answer about a folder is not asked for again for so long.
const FRESH: Duration = Duration::from_secs(60);

/// What there was in a folder.
pub(crate) struct Near {
    folder: Uri,
    asked: Instant,
    says: Option<String>,
}

impl Client {
    /// Calls `visit` with every object below the address, in the order in which the server tells of them, its path relative to the address. The
    /// object at the address itself is none of them, and neither are the empty objects that stand for folders.
    ///
    /// # Errors
    /// The server can't list, or does not let us; `visit`'s own.
    pub fn list<E: From<StoreError>>(&self, visit: &mut dyn FnMut(Object) -> Result<Next, E>) -> Result<(), E> {
        if !self.lists() {
            return Err(self.error("list", Why::setup("a web server has no folders, only files")).into());
        }
        let prefix = self.key("list")?;
        let below = (!prefix.as_ref().is_empty()).then_some(&prefix);
        let mut stream = self.connected.store.list(below);
        // An empty object may stand for a folder: the next one tells, as it lies in it.
        let mut empty: Option<ObjectMeta> = None;
        loop {
            let next = self.wait(stream.next()).transpose().map_err(|error| self.missing("list", &error))?;
            if let Some(empty) = empty.take()
                && !self.stands_for_a_folder(&empty, next.as_ref())?
                && visit(self.below(empty))? == Next::Stop
            {
                return Ok(());
            }
            match next {
                None => return Ok(()),
                Some(found) if found.size == 0 => empty = Some(found),
                Some(found) => {
                    if visit(self.below(found))? == Next::Stop {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The library takes the slash away that tells `folder/` from an empty file `folder`.
    fn stands_for_a_folder(&self, empty: &ObjectMeta, next: Option<&ObjectMeta>) -> Result<bool, StoreError> {
        let name = empty.location.as_ref();
        if name == self.key("list")?.as_ref() {
            return Ok(true);
        }
        if next.is_some_and(|next| next.location.as_ref().strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
        {
            return Ok(true);
        }
        match self.wait(object_store::ObjectStoreExt::head(&*self.connected.store, &empty.location)) {
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(self.error("list", why(&error))),
        }
    }

    fn below(&self, found: ObjectMeta) -> Object {
        let mut object = self.object(found);
        let root = self.uri().path();
        if let Some(rest) = object.path.strip_prefix(root) {
            object.path = rest.trim_start_matches('/').to_string();
        }
        object
    }

    /// The nearest thing to the address that does exist, for a hint. It asks, and says nothing where it gets no answer. For a folder that it was asked for
    /// a moment ago it does not ask again: of a million objects that have vanished each is told.
    pub(crate) fn nearest(&self) -> Option<String> {
        if !self.lists() || self.uri().path().is_empty() {
            return None;
        }
        let folder = self.uri().split().0;
        // Held meanwhile: eight downloads of one folder ask once.
        let mut last = self.connected.near.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(near) = last.as_ref().filter(|near| near.folder == folder && near.asked.elapsed() < FRESH) {
            return near.says.clone();
        }
        let says = self.look_near(folder.clone());
        *last = Some(Near { folder, asked: Instant::now(), says: says.clone() });
        says
    }

    fn look_near(&self, mut folder: Uri) -> Option<String> {
        let store = self.connected.multipart.pages()?;
        loop {
            let prefix = self.key_of("list", folder.path()).ok()?;
            let below = (!prefix.as_ref().is_empty()).then(|| format!("{prefix}/"));
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                max_keys: Some(NEAR),
                ..PaginatedListOptions::default()
            };
            let found = self.wait(store.list_paginated(below.as_deref(), options)).ok()?.result;
            let paths = found.common_prefixes.into_iter().chain(found.objects.into_iter().map(|found| found.location));
            // The folder may be an object itself.
            let paths = paths.filter(|path| *path != prefix);
            let names: Vec<String> = paths.filter_map(|path| Some(path.filename()?.to_string())).collect();
            if names.is_empty() && !folder.path().is_empty() {
                folder = folder.split().0;
                continue;
            }
            let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            return Some(match shown.is_empty() {
                true => format!("`{folder}` is empty"),
                false => format!("`{folder}` holds {}{more}", shown.join(", ")),
            });
        }
    }
}
