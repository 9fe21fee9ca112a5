//! The job directory: made when a job is submitted, recognised when it is continued.
//!
//! `.fanfold/job.json` is written first of all, under the lock, and makes a directory a job's. Whatever dies before leaves an
//! empty directory, which is as good as none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::clock;
use fanfold_shared::durable;
use fanfold_shared::failpoint;
use fanfold_shared::fleet::{Outside, SharedRoot};
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::job::{self, Difference, JobRecord, JobSpec, NoDatasets, RECORD_VERSION};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_shared::uri::Uri;

use super::link::{Source, SubmitRequest};
use crate::datasets::{DatasetStore, notes};
use crate::ledger::{JobLock, script_of};

/// A job that this program holds.
pub struct Submitted {
    /// Where it lies.
    pub dir: JobDir,
    /// Its id.
    pub id: JobId,
    /// When it was first submitted, microseconds since the epoch.
    pub created_us: u64,
    /// What it is.
    pub spec: JobSpec,
    /// The copy of its script that it runs.
    pub script: ScriptNumber,
    /// The job file that it came from, absolute, if it came from one.
    pub job_file: Option<PathBuf>,
    /// What it was when it was last taken up, if that is another thing.
    pub before: Option<JobSpec>,
    /// The right to write to it.
    pub lock: JobLock,
    /// Whether it was there before.
    pub continued: bool,
    /// What to undo if it is refused before anything of it is worth keeping.
    pub withdrawal: Withdrawal,
    /// What the user should know of its job file.
    pub notes: Vec<String>,
}

/// Takes back what a submission made. A mistake in a job file should cost nothing: no directory that stays, no job that the
/// corrected file would then differ from.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    dir: JobDir,
    /// Nothing was there before, not even the directory.
    made: bool,
    /// The directory was not named by the user.
    unnamed: bool,
    continued: bool,
}

impl Withdrawal {
    /// Takes the job back, unless it was there before, or came so far that there are logs to read.
    pub fn withdraw(&self) {
        if self.continued {
            return;
        }
        // Somebody else may have taken the directory up meanwhile: then it is theirs.
        let Ok(_lock) = JobLock::acquire(&self.dir) else { return };
        let ours = [self.dir.internal(), self.dir.job_yaml()];
        let is_ours = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| ours.contains(&entry.path()));
        if self.dir.ledger_pointer().exists() || !fs::read_dir(self.dir.root()).is_ok_and(|mut all| all.all(is_ours)) {
            return;
        }
        // What can't be removed is in nobody's way.
        let _ = fs::remove_file(self.dir.job_yaml());
        let _ = fs::remove_dir_all(self.dir.internal());
        if self.made {
            let _ = fs::remove_dir(self.dir.root());
        }
        if self.unnamed {
            // Only if it is empty.
            let _ = self.dir.root().parent().map(fs::remove_dir);
        }
    }
}

/// Why a directory can't be this job's.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It holds something else.
    #[error("`{}` is not empty and holds no fanfold job", .0.display())]
    NotAJob(PathBuf),
    /// It holds another job.
    #[error("`{}` holds another job, {id}: {}", dir.display(), list(differences))]
    AnotherJob {
        /// The directory.
        dir: PathBuf,
        /// The job it holds.
        id: JobId,
        /// What is different.
        differences: Vec<Difference>,
    },
    /// The script, or a file that came with it, is another than the job's own copy.
    #[error("job {id} in `{}` runs its own copy of the script, and {files} changed since", dir.display())]
    ScriptChanged {
        /// The directory.
        dir: PathBuf,
        /// The job it holds.
        id: JobId,
        /// What changed, in words.
        files: String,
        /// The job's own copy.
        copy: PathBuf,
    },
    /// It is a file, or lies below one.
    #[error("`{}` can't be a job directory: `{}` is a file", dir.display(), file.display())]
    NotADirectory {
        /// The directory.
        dir: PathBuf,
        /// What is no directory.
        file: PathBuf,
    },
    /// Workers could not see it.
    #[error("{key}: {outside}")]
    Outside {
        /// The key of the job file, or `the job directory`.
        key: String,
        /// What lies where.
        outside: Outside,
    },
    /// Its name can't be told to the script.
    #[error("the path of the job directory `{}` is not valid UTF-8", .0.display())]
    NotUtf8(PathBuf),
}

impl Report for SubmitError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SubmitError::NotADirectory { .. } => "give a directory that does not exist yet; `--job-dir` is where the job's files go".into(),
            SubmitError::NotAJob(_) => "give a directory that does not exist yet, or that of a job to continue it".into(),
            SubmitError::AnotherJob { .. } => {
                "leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue \
                 the old one"
                    .into()
            }
            SubmitError::ScriptChanged { id, copy, .. } => format!(
                "`fanfold retry --failed --new-script {id}` goes on with the new script, and keeps the rows that are in; to go on with \
                 the old one, bring the files back as they are in `{}`; what changes by itself (logs, outputs) belongs into .amlignore",
                copy.display()
            ),
            SubmitError::Outside { key, outside } if key == JOB_DIRECTORY => format!(
                "on a fleet the job lies where every worker sees it: name a directory under `{}` with `--job-dir`, or start \
                 fanfold there",
                outside.root.display()
            ),
            SubmitError::Outside { outside, .. } => format!(
                "workers see only what lies under `{}`: put it there, or share a directory that holds it (`--shared`)",
                outside.root.display()
            ),
            SubmitError::NotUtf8(_) => "choose a job directory with a name in UTF-8".into(),
        })
    }
}

fn list(differences: &[Difference]) -> String {
    let told = |difference: &Difference| format!("{} was {}, is {}", difference.key, difference.old, difference.new);
    differences.iter().map(told).collect::<Vec<_>>().join("; ")
}

/// Makes the job of `job_file` in `job_dir` (a new directory under `fanfold-jobs` if None), or takes up the one that is there.
///
/// # Errors
/// The job file's, those of [`SubmitError`], or that another program holds the job.
pub fn submit(job_file: &Path, overrides: &[String], job_dir: Option<&Path>) -> Result<Submitted> {
    let datasets = DatasetStore::of_user();
    let spec = job::load(job_file, overrides, &datasets)?;
    let base = folder(job_file)?;
    let notes = notes::shadowed(&spec, &base, &datasets);
    Ok(Submitted { notes, ..settle(spec, Some(job_file), job_dir, None, None)? })
}

/// Where relative paths of a job file start.
fn folder(job_file: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(job_file).during("find", job_file)?;
    Ok(durable::parent(&absolute).to_path_buf())
}

/// As [`submit`], for a job whose nodes are on other machines: everything it names must lie under the shared directory.
///
/// # Errors
/// As [`submit`], and a path that workers can't see.
pub fn submit_to_fleet(shared: &SharedRoot, request: &SubmitRequest) -> Result<Submitted> {
    let SubmitRequest { source, overrides, datasets, .. } = request;
    let (spec, base) = match source {
        Source::File(file) => (job::load_for_fleet(file, overrides, datasets)?, folder(file)?),
        Source::Inline { text, base } => {
            (job::parse_for_fleet(text, &base.join("job.yaml"), overrides, datasets)?, base.clone())
        }
    };
    let notes = notes::shadowed(&spec, &base, datasets);
    let file = match source {
        Source::File(file) => Some(file.as_path()),
        Source::Inline { .. } => None,
    };
    Ok(Submitted { notes, ..settle(spec, file, request.job_dir.as_deref(), request.id.as_ref(), Some(shared))? })
}

/// What [`SubmitError::Outside`] calls it.
const JOB_DIRECTORY: &str = "the job directory";

/// Refuses a job in `dir` that names anything which workers can't see.
///
/// # Errors
/// [`SubmitError::Outside`].
pub fn is_shared(shared: &SharedRoot, spec: &JobSpec, dir: &Path) -> Result<(), SubmitError> {
    let mut paths = vec![(JOB_DIRECTORY.to_string(), dir), ("source_directory".into(), &spec.source_directory)];
    paths.extend(spec.inputs.iter().map(|input| (format!("inputs.{}", input.name), Path::new(&input.path))));
    paths.extend(spec.side_inputs.iter().map(|(name, path)| (format!("side_inputs.{name}"), path.as_path())));
    paths.extend(spec.models.iter().map(|(name, path)| (format!("models.{name}"), path.as_path())));
    paths.extend(spec.output.iter().map(|path| ("output".to_string(), path.as_path())));
    // What lies in the cloud is there for every machine.
    let local = |path: &Path| !path.to_str().is_some_and(Uri::is_meant);
    for (key, path) in paths.into_iter().filter(|(_, path)| local(path)) {
        shared.relative(path).map_err(|outside| SubmitError::Outside { key, outside })?;
    }
    Ok(())
}

/// Makes the job directory, or recognises it.
fn settle(
    spec: JobSpec,
    job_file: Option<&Path>,
    job_dir: Option<&Path>,
    id: Option<&JobId>,
    shared: Option<&SharedRoot>,
) -> Result<Submitted> {
    let jobs = std::path::absolute("fanfold-jobs").during("find", "fanfold-jobs")?;
    let fresh = id.cloned().unwrap_or_else(|| untaken(&jobs, || JobId::new(&spec.name)));
    let root = match job_dir {
        Some(dir) => std::path::absolute(dir).during("find", dir)?,
        None => jobs.join(&fresh.0),
    };
    if root.to_str().is_none() {
        return Err(SubmitError::NotUtf8(root).into());
    }
    if let Some(shared) = shared {
        is_shared(shared, &spec, &root)?;
    }
    let there = root.ancestors().find(|path| path.symlink_metadata().is_ok());
    if let Some(file) = there.filter(|path| path.exists() && !path.is_dir()) {
        return Err(SubmitError::NotADirectory { file: file.to_path_buf(), dir: root }.into());
    }
    let made = there != Some(root.as_path());
    let dir = JobDir::new(root);
    if !is_job(&dir)? && !is_vacant(&dir)? {
        return Err(SubmitError::NotAJob(dir.root().to_path_buf()).into());
    }
    let lock = JobLock::acquire(&dir)?;
    let known = JobRecord::read(&dir)?;
    let continued = known.is_some();
    let given = job_file.map(|file| std::path::absolute(file).during("find", file)).transpose()?;
    // The job's own copy of its job file lies beside no script.
    let given = given.filter(|file| *file != dir.job_yaml());
    let (id, created_us, script, before, job_file) = match known {
        Some(record) => {
            same_job(&dir, &record, &spec)?;
            complete(&record, &dir)?;
            (record.id, record.created_us, script_of(&dir)?, Some(record.spec), given.or(record.job_file))
        }
        None => (fresh, clock::wall_us(), ScriptNumber::FIRST, None, given),
    };
    let withdrawal = Withdrawal { dir: dir.clone(), made, unnamed: job_dir.is_none(), continued };
    let notes = Vec::new();
    let submitted =
        Submitted { dir, id, created_us, spec, script, job_file, before, lock, continued, withdrawal, notes };
    if !continued {
        submitted.record()?;
    }
    Ok(submitted)
}

/// The first id drawn that names nothing in `jobs` yet: what has its name is another job, and must not be continued as this one.
fn untaken(jobs: &Path, mut draw: impl FnMut() -> JobId) -> JobId {
    loop {
        let id = draw();
        if jobs.join(&id.0).symlink_metadata().is_err() {
            return id;
        }
    }
}

/// Takes up the job that lies in `dir`, with `key=value` of each override set.
///
/// # Errors
/// There is no job, another program holds it, or an override would make it another job.
pub fn reopen(dir: &JobDir, overrides: &[String], shared: Option<&SharedRoot>) -> Result<Submitted> {
    if !is_job(dir)? {
        return Err(SubmitError::NotAJob(dir.root().to_path_buf()).into());
    }
    let lock = JobLock::acquire(dir)?;
    let Some(record) = JobRecord::read(dir)? else { return Err(SubmitError::NotAJob(dir.root().to_path_buf()).into()) };
    complete(&record, dir)?;
    let spec = match overrides {
        [] => record.spec.clone(),
        // Its inputs are paths, and stay what they are.
        overrides if shared.is_some() => job::load_for_fleet(&dir.job_yaml(), overrides, &NoDatasets)?,
        overrides => job::load(&dir.job_yaml(), overrides, &NoDatasets)?,
    };
    if let Some(shared) = shared {
        is_shared(shared, &spec, dir.root())?;
    }
    same_job(dir, &record, &spec)?;
    let script = script_of(dir)?;
    let JobRecord { id, created_us, spec: before, job_file, .. } = record;
    let withdrawal = Withdrawal { dir: dir.clone(), made: false, unnamed: false, continued: true };
    let (dir, before, notes) = (dir.clone(), Some(before), Vec::new());
    let continued = true;
    Ok(Submitted { dir, id, created_us, spec, script, job_file, before, lock, continued, withdrawal, notes })
}

/// Refuses what would make it another job.
fn same_job(dir: &JobDir, record: &JobRecord, spec: &JobSpec) -> Result<()> {
    let differences = job::differences(&record.spec, spec);
    if differences.is_empty() {
        return Ok(());
    }
    Err(SubmitError::AnotherJob { dir: dir.root().to_path_buf(), id: record.id.clone(), differences }.into())
}

impl Submitted {
    /// What is written down of it.
    pub fn to_record(&self) -> JobRecord {
        let Submitted { id, created_us, spec, job_file, .. } = self;
        let (id, spec, job_file) = (id.clone(), spec.clone(), job_file.clone());
        JobRecord { version: RECORD_VERSION, id, created_us: *created_us, spec, job_file }
    }

    /// Writes down what the job is from now on. For a job that is continued that is done once it is really taken up: a refusal
    /// changes nothing.
    ///
    /// # Errors
    /// The files can't be written.
    pub fn record(&self) -> Result<()> {
        keep(&self.to_record(), &self.dir)
    }
}

/// Writes a record down in `dir`.
///
/// # Errors
/// The files can't be written.
pub fn keep(record: &JobRecord, dir: &JobDir) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(record).expect("a job can be written as JSON");
    failpoint!("submit_before_record");
    durable::replace(&dir.job_json(), &bytes)?;
    failpoint!("submit_after_record");
    write_job_yaml(record, dir)
}

/// Who wrote the record down may have died before the job file, without which no verb takes the directory for a job's.
fn complete(record: &JobRecord, dir: &JobDir) -> Result<()> {
    if dir.job_yaml().is_file() { Ok(()) } else { write_job_yaml(record, dir) }
}

fn write_job_yaml(record: &JobRecord, dir: &JobDir) -> Result<()> {
    Ok(durable::replace(&dir.job_yaml(), record.spec.to_yaml().as_bytes())?)
}

fn is_job(dir: &JobDir) -> Result<bool> {
    let path = dir.job_json();
    Ok(path.try_exists().during("look at", &path)?)
}

/// Whether nothing but what a submission that died early leaves lies there.
fn is_vacant(dir: &JobDir) -> Result<bool> {
    match fs::read_dir(dir.root()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => {
            let internal = dir.internal();
            Ok(entries.during("list", dir.root())?.flatten().all(|entry| entry.path() == internal))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_whose_directory_is_there_is_drawn_anew() {
        let jobs = tempfile::tempdir().unwrap();
        fs::create_dir(jobs.path().join("score-00000000")).unwrap();
        std::os::unix::fs::symlink("nowhere", jobs.path().join("score-00000001")).unwrap();
        let mut ids = (0..3).map(|i| JobId(format!("score-0000000{i}")));
        assert_eq!(untaken(jobs.path(), || ids.next().unwrap()).0, "score-00000002");
    }
}
