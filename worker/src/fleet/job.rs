//! The job that a ticket names, as its directory describes it: with the paths of this machine, or why this worker can't be a
//! node of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::fleet::{SharedRoot, Ticket};
use fanfold_shared::items::{ItemReader, ItemsError};
use fanfold_shared::job::{Environment, JobRecord, JobSpec, RecordError};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, IoError};
use fanfold_shared::state::JobState;
use fanfold_shared::uri::Uri;

/// A job that this worker can see.
pub struct Job {
    /// Its directory here.
    pub dir: JobDir,
    /// What it is, with the paths of this machine.
    pub spec: JobSpec,
}

/// Why a ticket can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The directory is named in a way that leaves the shared one.
    #[error("the job's directory `{}` leads out of the shared directory `{}`", path.display(), root.display())]
    Outside {
        /// As the ticket names it, or where it leads.
        path: PathBuf,
        /// Where this worker has the shared directory.
        root: PathBuf,
    },
    /// It is not there.
    #[error("there is no job in `{}` on this host: is the shared directory mounted here, and given with --shared?", .0.display())]
    Absent(PathBuf),
    /// Another job is there.
    #[error("`{}` holds job {found}, not {wanted}", path.display())]
    AnotherJob {
        /// Its directory here.
        path: PathBuf,
        /// The job it holds.
        found: String,
        /// The job that the ticket names.
        wanted: String,
    },
    /// It is over: its coordinator died before it could take its tickets back.
    #[error("job {job} is {state} already")]
    Over {
        /// The job.
        job: String,
        /// Completed, Failed or Canceled.
        state: JobState,
    },
    /// Its record can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The directory can't be read.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Looks at the job that `ticket` names.
///
/// # Errors
/// Why this worker can't be a node of it.
pub fn open(shared: &SharedRoot, ticket: &Ticket) -> Result<Job, Refusal> {
    let outside = |path: &Path| Refusal::Outside { path: path.to_path_buf(), root: shared.root().to_path_buf() };
    let path = shared.local(&ticket.job_dir).map_err(|error| outside(&error.path))?;
    let real = match fs::canonicalize(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Refusal::Absent(path)),
        real => real.during("find", &path)?,
    };
    // A link that somebody put there leads nowhere but where the shared directory is.
    if !real.starts_with(fs::canonicalize(shared.root()).during("find", shared.root())?) {
        return Err(outside(&real));
    }
    let dir = JobDir::new(&path);
    let record = JobRecord::read(&dir)?.ok_or_else(|| Refusal::Absent(path.clone()))?;
    if record.id != ticket.job {
        return Err(Refusal::AnotherJob { path, found: record.id.0, wanted: ticket.job.0.clone() });
    }
    if let Some(state) = ended(&dir) {
        return Err(Refusal::Over { job: record.id.0, state });
    }
    let mut spec = record.spec;
    adopt(&mut spec, shared, &ticket.shared);
    Ok(Job { dir, spec })
}

/// Whether the job is Completed, Failed or Canceled, by the last word of its coordinator.
pub fn has_ended(dir: &JobDir) -> bool {
    ended(dir).is_some()
}

fn ended(dir: &JobDir) -> Option<JobState> {
    state(dir).filter(|state| state.is_final())
}

/// Whether nobody works on the job, by the last word of its coordinator.
pub fn is_at_rest(dir: &JobDir) -> bool {
    state(dir).is_some_and(|state| state.is_final() || state == JobState::Paused)
}

/// What its coordinator said last. Whoever takes it up says so before it asks for nodes.
fn state(dir: &JobDir) -> Option<JobState> {
    #[derive(serde::Deserialize)]
    struct Status {
        state: JobState,
    }
    let status: Status = serde_json::from_slice(&fs::read(dir.status_json()).ok()?).ok()?;
    Some(status.state)
}

/// The items of the job, at places of this machine.
///
/// # Errors
/// The list can't be read.
pub fn items(job: &Job, shared: &SharedRoot, theirs: &Path) -> Result<ItemReader, ItemsError> {
    let mut items = ItemReader::open(&job.dir.items())?;
    items.move_roots(|root| text(shared.adopt(theirs, Path::new(root))));
    Ok(items)
}

/// Turns every path of a job that lies in the shared directory into this machine's. The interpreter is each machine's own.
fn adopt(spec: &mut JobSpec, shared: &SharedRoot, theirs: &Path) {
    let here = |path: &mut PathBuf| {
        // An address is the same everywhere.
        if !path.to_str().is_some_and(Uri::is_meant) {
            *path = shared.adopt(theirs, path);
        }
    };
    let all = |paths: &mut BTreeMap<String, PathBuf>| paths.values_mut().for_each(here);
    here(&mut spec.source_directory);
    for input in spec.inputs.iter_mut().filter(|input| !Uri::is_meant(&input.path)) {
        input.path = text(shared.adopt(theirs, Path::new(&input.path)));
    }
    all(&mut spec.side_inputs);
    all(&mut spec.models);
    spec.output.iter_mut().for_each(here);
    if let Environment::Requirements { base, .. } = &mut spec.environment {
        here(base);
    }
}

/// Paths in a job are UTF-8, and this machine's shared directory is checked to be.
fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::ids::{JobId, ScriptNumber};
    use fanfold_shared::job::{self, RECORD_VERSION};

    const ID: &str = "score-00000001";

    struct Shared {
        dir: tempfile::TempDir,
        root: SharedRoot,
    }

    fn shared() -> Shared {
        let dir = tempfile::tempdir().unwrap();
        let root = SharedRoot::new(dir.path().join("shared"));
        let job = root.root().join("jobs/a");
        fs::create_dir_all(job.join(".fanfold")).unwrap();
        let yaml = "name: score\nentry_script: score.py\ninputs: [in]\nenvironment: {python: /usr/bin/python3}\n";
        fs::write(root.root().join("job.yaml"), yaml).unwrap();
        fs::write(root.root().join("score.py"), "").unwrap();
        fs::create_dir(root.root().join("in")).unwrap();
        let spec = job::load(&root.root().join("job.yaml"), &[], &job::NoDatasets).unwrap();
        let record = JobRecord { version: RECORD_VERSION, id: JobId(ID.into()), created_us: 1, spec, job_file: None };
        fs::write(job.join(".fanfold/job.json"), serde_json::to_vec(&record).unwrap()).unwrap();
        Shared { dir, root }
    }

    fn ticket(dir: &str, shared: &Path) -> Ticket {
        Ticket {
            fanfold: "0.1.0".into(),
            job: JobId(ID.into()),
            job_dir: dir.into(),
            shared: shared.to_path_buf(),
            number: 1,
            script: ScriptNumber::FIRST,
        }
    }

    fn refused(shared: &Shared, dir: &str) -> String {
        open(&shared.root, &ticket(dir, shared.root.root())).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_job_is_read_with_the_paths_of_this_machine() {
        let shared = shared();
        // As if the coordinator had the same directory elsewhere.
        let elsewhere = Path::new("/elsewhere");
        let path = shared.root.root().join("jobs/a/.fanfold/job.json");
        let here = shared.root.root().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(here, "/elsewhere")).unwrap();
        let job = open(&shared.root, &ticket("jobs/a", elsewhere)).unwrap();
        assert_eq!(job.spec.source_directory, shared.root.root());
        assert!(job.spec.inputs[0].path.starts_with(here), "{}", job.spec.inputs[0].path);
        assert_eq!(job.spec.environment, Environment::Python("/usr/bin/python3".into()));
        assert_eq!(job.dir.root(), shared.root.root().join("jobs/a"));
    }

    #[test]
    fn what_a_ticket_can_t_name_is_refused() {
        let shared = shared();
        assert!(refused(&shared, "../jobs/a").contains("leads out of"));
        assert!(refused(&shared, "/etc").contains("leads out of"));
        assert!(refused(&shared, "jobs/b").contains("there is no job"));
        assert!(refused(&shared, "in").contains("there is no job"));
        fs::create_dir(shared.dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(shared.dir.path().join("outside"), shared.root.root().join("link")).unwrap();
        assert!(refused(&shared, "link").contains("leads out of"));
        let status = shared.root.root().join("jobs/a/status.json");
        for (state, refusal) in
            [("Running", None), ("Paused", None), ("Completed", Some("job score-00000001 is Completed already"))]
        {
            fs::write(&status, format!(r#"{{"version": 1, "state": "{state}"}}"#)).unwrap();
            let opened = open(&shared.root, &ticket("jobs/a", shared.root.root()));
            assert_eq!(opened.err().map(|refused| refused.to_string()).as_deref(), refusal);
            assert_eq!(has_ended(&JobDir::new(shared.root.root().join("jobs/a"))), refusal.is_some());
        }
        assert!(is_at_rest(&JobDir::new(shared.root.root().join("jobs/a"))));
        fs::remove_file(status).unwrap();
        assert!(!is_at_rest(&JobDir::new(shared.root.root().join("jobs/a"))));
        let path = shared.root.root().join("jobs/a/.fanfold/job.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(ID, "score-00000002")).unwrap();
        assert!(refused(&shared, "jobs/a").contains("holds job score-00000002, not score-00000001"));
        fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(refused(&shared, "jobs/a").contains("later version"));
        fs::write(&path, "{").unwrap();
        assert!(refused(&shared, "jobs/a").contains("does not describe a job"));
    }
}
