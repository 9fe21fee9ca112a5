//! All places a program has to do with, and the runtime they share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fanfold_shared::report::IoError;
use fanfold_shared::uri::{Place, Uri};
use tokio::runtime::{Builder, Runtime};

use crate::client::Client;
use crate::connect::{Connected, connect};
use crate::{Datastores, StoreError, Why};

/// Threads that carry requests: they wait, they do not compute, but for TLS and checksums.
const THREADS: usize = 2;

/// Opens addresses. One for a program: it owns the threads that carry the requests, which end with it.
pub struct Stores {
    datastores: Datastores,
    // Dropped before the runtime.
    clients: Mutex<HashMap<Place, Arc<Connected>>>,
    runtime: Arc<Owned>,
}

/// The runtime, which may be dropped anywhere.
pub(crate) struct Owned(Option<Runtime>);

impl Owned {
    pub(crate) fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken when this is dropped")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Requests under way are nobody's any more.
            runtime.shutdown_background();
        }
    }
}

impl Stores {
    /// With the datastores of this machine.
    ///
    /// # Errors
    /// Its threads can't be started.
    pub fn new(datastores: Datastores) -> Result<Stores, IoError> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("store").enable_all().build();
        let runtime = runtime.map_err(|source| IoError { operation: "start", path: "store".into(), source })?;
        Ok(Stores { datastores, clients: Mutex::default(), runtime: Arc::new(Owned(Some(runtime))) })
    }

    /// The datastores of this machine.
    pub fn datastores(&self) -> &Datastores {
        &self.datastores
    }

    /// A client for the place of `uri`, and for what lies at `uri` there. Nothing is asked yet.
    ///
    /// # Errors
    /// There is no such datastore, or its credentials can't be read or used.
    pub fn open(&self, uri: &Uri) -> Result<Client, StoreError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = match clients.get(uri.place()) {
            Some(connected) => connected.clone(),
            None => {
                let connected = connect(uri.place(), &self.datastores).map_err(|(why, credentials)| StoreError {
                    operation: "open",
                    uri: Box::new(uri.clone()),
                    why,
                    credentials: credentials.into(),
                    near: None,
                })?;
                let connected = Arc::new(connected);
                clients.insert(uri.place().clone(), connected.clone());
                connected
            }
        };
        Ok(Client::new(connected, self.runtime.clone(), uri.clone()))
    }

    /// Whether everything that would be needed to open `uri` is there; asks nobody.
    ///
    /// # Errors
    /// As [`Stores::open`].
    pub fn can_open(&self, uri: &Uri) -> Result<(), StoreError> {
        self.open(uri).map(drop)
    }
}

impl Why {
    pub(crate) fn setup(what: impl Into<String>) -> Why {
        Why::Setup(what.into())
    }
}
