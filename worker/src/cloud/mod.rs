//! What a node has of the cloud: it brings files at addresses to this host before a process sees them.
//!
//! ```text
//! task -> Work (coming) -> fetch -> Work (ready) -> slot -> process
//! ```
//!
//! A mini-batch goes to a slot only when its files are here, so a download is never a part of `run()`, and of no time limit. What
//! a mini-batch uses stays here until it is answered ([`Local`]).

mod bring;
mod cache;
mod fetch;
mod full;
mod groups;
mod header;
mod one;
mod options;
mod refused;
mod side;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fanfold_shared::items::{ItemReader, ItemsError};
use fanfold_shared::job::{InputType, JobSpec, Partition};
use fanfold_shared::report::{ExitCode, IoError, Report};
use fanfold_shared::uri::{Place, Uri};
use fanfold_store::datastores::DatastoresError;
use fanfold_store::{Client, Datastores, StoreError, Stores};

pub use bring::{Local, Stopped, Waiter, Want};
pub use cache::{Cache, CacheSettings};
pub use fetch::Fetchers;
pub use options::CacheOptions;

use crate::logs::Level;

/// See the module's documentation.
pub struct Cloud {
    cache: Arc<Cache>,
    /// By the names of the inputs that do not lie on this machine.
    inputs: BTreeMap<String, Client>,
    /// Who waits for room waits alone.
    turn: Mutex<()>,
    /// Who has found the disk full tries again alone.
    narrow: Mutex<()>,
    /// Bytes of what stays until the node leaves.
    kept: AtomicU64,
    /// Of Parquet files that were read last.
    footers: Mutex<groups::Footers>,
    /// Side inputs and models.
    side: Mutex<Vec<Local>>,
    refusals: refused::Refusals,
    /// Of these places whole files are fetched: they send no parts.
    whole: Mutex<HashSet<Place>>,
    // Dropped last: clients use it.
    stores: Stores,
}

/// Paths of this machine for what lies elsewhere.
#[derive(Default)]
pub struct Brought {
    /// By name.
    pub side_inputs: BTreeMap<String, PathBuf>,
    /// By name.
    pub models: BTreeMap<String, PathBuf>,
    /// A file that begins with the header of all tables, where only the first one has it and lies elsewhere.
    pub header: Option<PathBuf>,
}

/// Why a node can't have what lies in the cloud.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// It can't be asked for.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of datastores can't be used.
    #[error(transparent)]
    Datastores(#[from] DatastoresError),
    /// The cache can't be used.
    #[error("the cache of files can't be used")]
    Cache(#[from] IoError),
    /// The list of the job can't be read.
    #[error(transparent)]
    Items(#[from] ItemsError),
    /// A side input, a model or a header can't be brought here.
    #[error("{key}: {why}")]
    Side {
        /// Its key in the job file.
        key: String,
        /// Why.
        why: String,
    },
    /// The node is not wanted any more.
    #[error("stopped before everything was downloaded")]
    Over,
}

impl Report for CloudError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CloudError::Store(error) => error.exit_code(),
            CloudError::Datastores(error) => error.exit_code(),
            CloudError::Cache(error) => error.exit_code(),
            CloudError::Items(error) => error.exit_code(),
            CloudError::Side { .. } | CloudError::Over => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CloudError::Store(error) => error.hint(),
            CloudError::Datastores(error) => error.hint(),
            CloudError::Items(error) => error.hint(),
            CloudError::Cache(_) => {
                Some("it lies where `--cache` or FANFOLD_CACHE says, else in the user's cache; give a directory on a local disk".into())
            }
            CloudError::Side { .. } | CloudError::Over => None,
        }
    }
}

impl From<Stopped> for CloudError {
    fn from(stopped: Stopped) -> CloudError {
        match stopped {
            Stopped::Over => CloudError::Over,
            Stopped::Cache(error) => error.into(),
            Stopped::NoParts => unreachable!("it was wanted whole"),
        }
    }
}

impl Cloud {
    /// Makes ready what a node needs of the cloud, side inputs and models downloaded; the list of the job is `items`, in the directory `list`.
    /// None: nothing of the job lies there.
    ///
    /// # Errors
    /// Credentials are missing, the cache can't be used, a side input can't be had.
    pub fn prepare(
        spec: &JobSpec,
        list: &Path,
        items: &ItemReader,
        settings: &CacheSettings,
        cancel: &AtomicBool,
        tell: &mut dyn FnMut(Level, &str),
    ) -> Result<(Option<Arc<Cloud>>, Brought), CloudError> {
        let (side_inputs, models) = (spec.side_inputs.clone(), spec.models.clone());
        let mut brought = Brought { side_inputs, models, header: None };
        let gathered = spec.partition.as_ref().is_some_and(Partition::is_by_columns);
        // Of text that was gathered the list has a copy.
        let read = if gathered && spec.input_type != InputType::Parquet { &[][..] } else { &items.split().inputs[..] };
        let uris: Vec<(String, Uri)> =
            read.iter().filter_map(|input| Some((input.name.clone(), input.uri()?))).collect();
        let is_uri = |path: &PathBuf| path.to_str().is_some_and(Uri::is_meant);
        let has_side = spec.side_inputs.values().chain(spec.models.values()).any(is_uri);
        if !has_side && uris.is_empty() {
            return Ok((None, brought));
        }
        let datastores = Datastores::load()?;
        if let Some(warning) = &datastores.warning {
            tell(Level::Warning, warning);
        }
        let stores = Stores::new(datastores)?;
        let open = |(name, uri): (String, Uri)| Ok::<_, StoreError>((name, stores.open(&uri)?));
        let inputs = uris.into_iter().map(open).collect::<Result<_, _>>()?;
        let dir = settings.dir.clone().unwrap_or_else(Cache::default_place);
        let cache = full::open(&dir, settings.size, cancel, tell)?;
        let cloud = Cloud {
            cache,
            inputs,
            turn: Mutex::default(),
            narrow: Mutex::default(),
            kept: AtomicU64::new(0),
            footers: Mutex::default(),
            side: Mutex::default(),
            refusals: refused::Refusals::default(),
            whole: Mutex::default(),
            stores,
        };
        for (key, paths) in [("side_inputs", &mut brought.side_inputs), ("models", &mut brought.models)] {
            for (name, path) in paths.iter_mut() {
                if let Some(text) = path.to_str().filter(|text| Uri::is_meant(text)) {
                    let key = format!("{key}.{name}");
                    tell(Level::Info, &format!("downloading {key} from {text}"));
                    *path = cloud.bring_side(&key, text, cancel, tell)?;
                }
            }
        }
        // Rows that were gathered have their headers with them.
        if !gathered && spec.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file) {
            brought.header = cloud.bring_header(list, items, cancel, tell)?;
        }
        Ok((Some(Arc::new(cloud)), brought))
    }

    /// Who reads the input called so, if it lies in the cloud.
    pub fn input(&self, name: &str) -> Option<&Client> {
        self.inputs.get(name)
    }

    /// Whether any input does.
    pub fn has_inputs(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Whether the node is to take nothing now, as nothing is given out to it: others may have better credentials.
    pub fn is_refused(&self) -> bool {
        self.refusals.is_pause()
    }

    /// Whether the place of `client` sends parts of files, as far as it is known.
    fn sends_parts(&self, client: &Client) -> bool {
        !self.whole.lock().unwrap_or_else(PoisonError::into_inner).contains(client.uri().place())
    }

    fn sends_no_parts(&self, client: &Client) {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).insert(client.uri().place().clone());
    }

    fn kept(&self) -> u64 {
        self.kept.load(Ordering::SeqCst)
    }
}
