//! A request becomes a job: its paths are looked at, its job file is checked, an id and a directory are reserved, the directory is made, the
//! job is accepted.

use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::fleet::{JobRequest, JobSource, SharedRoot};
use fanfold_shared::ids::JobId;
use fanfold_shared::job::{self, JobSpec};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, Result};
use fanfold_shared::state::JobState;

use super::error::{MOST_KEY, ServiceError};
use super::events::event;
use super::store::{Job, JobStore, Known, Reservation};
use crate::datasets::DatasetStore;
use crate::run::{Source, SubmitRequest, submit_job};

/// Who asks for a job, and how.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// `http`, `queue`.
    pub source: &'static str,
    /// For the audit.
    pub who: &'a str,
    /// The message may have been seen before.
    pub redelivered: bool,
}

/// Where things are.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    /// The shared directory.
    pub(super) shared: &'a SharedRoot,
    /// Where job directories are made.
    pub(super) jobs: &'a Path,
    /// The datasets that jobs may name.
    pub(super) datasets: &'a DatasetStore,
}

/// A job, new or known.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The job.
    pub job: Job,
    /// It became one with an earlier request.
    pub duplicate: bool,
}

/// Makes a job of `request`, or finds the one that it became earlier. Its caller lets one through at a time.
pub(super) fn submit(store: &JobStore, places: &Places<'_>, request: &JobRequest, caller: &Caller) -> Result<Accepted> {
    let Places { shared, jobs, datasets } = *places;
    let digest = digest(request);
    if let Some(key) = caller.key
        && (key.is_empty() || key.len() > MOST_KEY || key.chars().any(|c| c.is_control()))
    {
        return Err(ServiceError::BadKey(key.len()).into());
    }
    let known = match caller.key {
        Some(key) => store.known(key, &digest)?,
        None if caller.redelivered => store.unanswered(&digest)?,
        None => None,
    };
    let (source, base) = source(shared, &request.source)?;
    let id = match known {
        Some(Known { same: false, job, .. }) => {
            return Err(ServiceError::KeyReused { key: caller.key.unwrap_or_default().into(), job: job.id }.into());
        }
        Some(Known { accepted: true, job, .. }) => return Ok(Accepted { job, duplicate: true }),
        // The service died while it made the job: it goes on where it was.
        Some(Known { job, .. }) => job.id,
        None => {
            // A mistake is told before anything is made.
            let spec = check(&source, &base, &request.set, datasets)?;
            let id = JobId::new(&spec.name);
            store.reserve(&Reservation {
                id: &id,
                dir: &jobs.join(&id.0),
                name: &spec.name,
                pool: &spec.compute_target,
                priority: spec.priority,
                node_count: spec.node_count,
                key: caller.key,
                digest: &digest,
                source: caller.source,
            })?;
            id
        }
    };
    let dir = jobs.join(&id.0);
    let request = SubmitRequest {
        source,
        overrides: request.set.clone(),
        job_dir: Some(dir.clone()),
        id: Some(id.clone()),
        datasets: datasets.clone(),
    };
    fs::create_dir_all(jobs).during("create", jobs)?;
    match submit_job(shared, &request) {
        Ok(new) => {
            store.accept(&id, caller.who, &event(&id, &new.spec.name, JobState::Queued, None, None))?;
            let job = store.job(&id)?.expect("it was accepted just now");
            Ok(Accepted { job, duplicate: false })
        }
        Err(failure) => {
            store.withdraw(&id)?;
            remove_empty(&dir);
            Err(failure)
        }
    }
}

/// Of what was asked: the same request again has the same.
fn digest(request: &JobRequest) -> Vec<u8> {
    blake3::hash(&serde_json::to_vec(request).expect("plain types can be written")).as_bytes().to_vec()
}

/// What to run, on this machine, and the directory at which relative paths start; nothing outside the shared directory.
fn source(shared: &SharedRoot, source: &JobSource) -> Result<(Source, PathBuf)> {
    match source {
        JobSource::File { job_file } => {
            let path = inside(shared, job_file)?;
            let base = path.parent().unwrap_or(Path::new("/")).to_path_buf();
            Ok((Source::File(path), base))
        }
        JobSource::Inline { job, base } => {
            let base = match base {
                Some(base) => inside(shared, base)?,
                None => shared.root().to_path_buf(),
            };
            Ok((Source::Inline { text: job.to_string(), base: base.clone() }, base))
        }
    }
}

/// A path that was asked for, relative to the shared directory or absolute; it and where its links lead lie under it.
pub(super) fn inside(shared: &SharedRoot, path: &Path) -> Result<PathBuf, ServiceError> {
    let local = match path.is_absolute() {
        true => shared.local(&shared.relative(path)?)?,
        false => shared.local(path)?,
    };
    // What does not exist is told by whoever opens it.
    let (Ok(to), Ok(root)) = (fs::canonicalize(&local), fs::canonicalize(shared.root())) else { return Ok(local) };
    match to.starts_with(&root) {
        true => Ok(local),
        false => Err(ServiceError::LeadsOut { path: path.to_path_buf(), to }),
    }
}

fn check(source: &Source, base: &Path, set: &[String], datasets: &DatasetStore) -> Result<JobSpec> {
    Ok(match source {
        Source::File(path) => job::load_for_fleet(path, set, datasets)?,
        Source::Inline { text, .. } => job::parse_for_fleet(text, &base.join("job.yaml"), set, datasets)?,
    })
}

/// What a refused submission left, if it is nothing.
fn remove_empty(dir: &Path) {
    let _ = fs::remove_dir(JobDir::new(dir).internal());
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_files_under_the_shared_directory_only() {
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("shared"), place.path().join("outside"));
        fs::create_dir_all(root.join("jobs")).unwrap();
        fs::write(&outside, "secret: 1\n").unwrap();
        fs::write(root.join("jobs/job.yaml"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("jobs/link.yaml")).unwrap();
        let shared = SharedRoot::new(&root);
        let ask = |path: &Path| inside(&shared, path).map_err(|error| error.to_string());
        assert_eq!(ask(Path::new("jobs/job.yaml")), Ok(root.join("jobs/job.yaml")));
        assert_eq!(ask(&root.join("jobs/job.yaml")), Ok(root.join("jobs/job.yaml")));
        assert_eq!(ask(Path::new("jobs/absent.yaml")), Ok(root.join("jobs/absent.yaml")));
        for path in ["../outside", "jobs/../../outside", outside.to_str().unwrap(), "/etc/passwd"] {
            assert!(ask(Path::new(path)).unwrap_err().contains("is not under the shared directory"), "{path}");
        }
        assert!(ask(Path::new("jobs/link.yaml")).unwrap_err().contains("leads out of the shared directory"));
    }
}
