//! A worker's own directory on its own disk: its nodes' working directories and pages. Gone when it ends; what a dead worker
//! of this host left goes when the next one starts.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use fanfold_shared::fleet::WorkerId;
use fanfold_shared::ids::{JobId, NodeId};
use fanfold_shared::layout::NodeDir;
use fanfold_shared::report::{During, IoError};

use crate::{environment, guard};

/// Held while directories are made and swept, so that nobody sweeps one that is just being made.
const GATE: &str = ".lock";
/// Held by the worker as long as it lives.
const LOCK: &str = "lock";

/// See the module documentation.
pub struct Place {
    root: PathBuf,
    _lock: File,
}

impl Place {
    /// Makes the directory of `worker` in `base`, and removes those of dead workers of `host`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn make(base: &Path, host: &str, worker: &WorkerId) -> Result<Place, IoError> {
        fs::create_dir_all(base).during("create", base)?;
        let gate = base.join(GATE);
        let gate_file = open(&gate)?;
        gate_file.lock().during("lock", &gate)?;
        sweep(base, host)?;
        let root = base.join(&worker.0);
        fs::create_dir(&root).during("create", &root)?;
        let path = root.join(LOCK);
        let lock = open(&path)?;
        lock.lock().during("lock", &path)?;
        Ok(Place { root, _lock: lock })
    }

    /// The file whose age says whether the worker is well.
    pub fn health(&self) -> PathBuf {
        self.root.join(super::health::FILE)
    }

    /// The directory of a node.
    pub fn node(&self, job: &JobId, node: &NodeId) -> NodeDir {
        NodeDir::new(self.root.join("nodes").join(&job.0).join(&node.0))
    }

    /// The node has left.
    pub fn forget(&self, job: &JobId) -> Result<(), IoError> {
        let path = self.root.join("nodes").join(&job.0);
        fs::remove_dir_all(&path).during("remove", &path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What can't be removed now goes when the next worker starts.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes what dead workers of this host left. Their processes first, should their guardian have been killed as well.
fn sweep(base: &Path, host: &str) -> Result<(), IoError> {
    for entry in fs::read_dir(base).during("list", base)?.flatten() {
        let (name, root) = (entry.file_name(), entry.path());
        let of_this_host = name.to_str().and_then(|name| name.rsplit_once('-')).is_some_and(|(of, _)| of == host);
        if !of_this_host || !root.is_dir() {
            continue;
        }
        let dead = match File::open(root.join(LOCK)) {
            Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            // It died before it had one.
            Err(_) => true,
        };
        if dead {
            for job in list(&root.join("nodes")) {
                for node in list(&root.join("nodes").join(&job)) {
                    guard::sweep_leftovers(&JobId(job.clone()), &NodeId(node));
                }
            }
            fs::remove_dir_all(&root).during("remove", &root)?;
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn open(path: &Path) -> Result<File, IoError> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).during("open", path)
}

/// Where workers keep their directories unless they are told: in the user's cache, or under the directory for temporary files.
pub fn default_base() -> PathBuf {
    match environment::user_cache().map(|cache| cache.join("worker")) {
        Some(base) if fs::create_dir_all(&base).is_ok() => base,
        _ => std::env::temp_dir().join(format!("fanfold-worker-{}", nix::unistd::getuid())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_keep_their_directories() {
        let base = tempfile::tempdir().unwrap();
        let dead = base.path().join("here-000000/nodes/job-1/here-aaaaaa");
        let other = base.path().join("there-000000");
        fs::create_dir_all(&dead).unwrap();
        fs::create_dir_all(&other).unwrap();
        let living = Place::make(base.path(), "here", &WorkerId("here-111111".into())).unwrap();
        assert!(!base.path().join("here-000000").exists() && other.exists());
        let second = Place::make(base.path(), "here", &WorkerId("here-222222".into())).unwrap();
        assert!(living.root.exists());
        drop((living, second));
        assert!(!base.path().join("here-111111").exists());
    }
}
