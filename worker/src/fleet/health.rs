//! `fanfold-worker --health`: whether a worker of this host is well, by the age of the file that it touches while its loop turns
//! and its broker answers. For the health checks of containers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::place::default_base;

/// In the directory of a worker.
pub const FILE: &str = "well";
/// A worker touches it every few seconds.
const FRESH: Duration = Duration::from_secs(30);

/// Whether a worker that keeps its directory in `base` is well.
pub fn is_well(base: Option<PathBuf>) -> bool {
    let workers = fs::read_dir(base.unwrap_or_else(default_base)).into_iter().flatten().flatten();
    workers.filter_map(|worker| fs::metadata(worker.path().join(FILE)).ok()?.modified().ok()).any(|touched| {
        // A clock that was set back is no reason to be unwell.
        touched.elapsed().map_or(true, |age| age < FRESH)
    })
}
