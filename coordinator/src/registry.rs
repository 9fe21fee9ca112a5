//! Which jobs there are on this machine: one small file for each, under `$XDG_STATE_HOME/fanfold/jobs/`.
//!
//! It only helps to find job directories, which are complete without it: a registry that can't be written costs the short
//! names of its jobs and never a job. An entry whose job directory is gone is skipped, and pruned where that is certain.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::clock::serde_us;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, IoError, Report};
use serde::{Deserialize, Serialize};

use crate::report::replace_file;

/// The version in [`Entry::version`].
const VERSION: u32 = 1;

/// A job as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of this form.
    version: u32,
    /// The job's id.
    pub id: String,
    /// Its name in the job file.
    pub name: String,
    /// Where it lies, absolute.
    pub job_dir: PathBuf,
    /// When it was submitted, microseconds since the epoch.
    #[serde(with = "serde_us")]
    pub created: u64,
}

impl Entry {
    /// An entry for a job.
    pub fn new(id: &str, name: &str, job_dir: &Path, created_us: u64) -> Entry {
        Entry { version: VERSION, id: id.into(), name: name.into(), job_dir: job_dir.into(), created: created_us }
    }
}

/// Why a job was not found.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No id begins with it, and no such directory exists.
    #[error("there is no job `{wanted}`")]
    NoSuchJob {
        /// What was looked for.
        wanted: String,
        /// Ids that look like it; else the newest ones.
        nearest: Vec<String>,
        /// Whether they look like it.
        alike: bool,
    },
    /// Several ids begin with it.
    #[error("`{wanted}` is the beginning of {} job ids", ids.len())]
    Ambiguous {
        /// What was looked for.
        wanted: String,
        /// The ids, the newest first.
        ids: Vec<String>,
    },
    /// A directory that is no job's.
    #[error("`{}` is not a job directory: it has no {lacks}", path.display())]
    NotAJobDir {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        lacks: &'static str,
    },
    /// The registry knows the job, but its directory is gone.
    #[error("job `{id}` was in `{}`, which is gone", job_dir.display())]
    Vanished {
        /// The job.
        id: String,
        /// Where it was.
        job_dir: PathBuf,
    },
}

impl Report for RegistryError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            RegistryError::NoSuchJob { wanted, .. } if wanted.contains('/') => {
                "there is no such directory; `fanfold ls` shows the jobs of this user".into()
            }
            RegistryError::NoSuchJob { nearest, .. } if nearest.is_empty() => {
                "give the path of a job directory; no job of this user is known on this machine".into()
            }
            RegistryError::NoSuchJob { nearest, alike: false, .. } => {
                format!("the newest jobs are `{}`; `fanfold ls` shows all", nearest.join("`, `"))
            }
            RegistryError::NoSuchJob { nearest, .. } => format!("did you mean `{}`? `fanfold ls` shows all", nearest.join("` or `")),
            RegistryError::Ambiguous { ids, .. } => format!("it may be `{}`", ids[..ids.len().min(10)].join("`, `")),
            RegistryError::NotAJobDir { .. } => {
                "a job directory is made by `fanfold run`, by default `fanfold-jobs/<job id>`; `fanfold ls` shows where they are".into()
            }
            RegistryError::Vanished { .. } => "if it was moved, give its path instead".into(),
        })
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Registry {
    /// None: there is no place for it.
    dir: Option<PathBuf>,
}

impl Registry {
    /// The registry of the user who runs this program: under `$XDG_STATE_HOME`, else under `~/.local/state`.
    pub fn of_user() -> Registry {
        // Relative paths in XDG variables are to be ignored, says their specification.
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        Registry { dir: state.map(|state| state.join("fanfold/jobs")) }
    }

    /// The registry in `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Registry {
        Registry { dir: Some(dir.into()) }
    }

    /// Enters a job, or replaces its entry. An error is worth one warning and nothing more.
    pub fn add(&self, entry: &Entry) -> Result<(), IoError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(format!("{}.json", entry.id));
        // Fails for a path that is not UTF-8.
        let mut bytes = serde_json::to_vec(entry).during("write", &path)?;
        bytes.push(b'\n');
        replace_file(&path, &bytes).during("write", path)
    }

    /// The jobs whose directories exist, the newest first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.all().into_iter().filter(|entry| self.exists(entry)).collect();
        entries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        entries
    }

    /// Those of them whose job is called `name`.
    pub fn called(&self, name: &str) -> Vec<Entry> {
        let mut entries = self.all();
        // Before their directories are looked for: there may be thousands.
        entries.retain(|entry| entry.name == name && self.exists(entry));
        entries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        entries
    }

    /// The job that `wanted` means: a path of a job directory, a job id, or the beginning of exactly one.
    pub fn find(&self, wanted: &str) -> Result<JobDir, RegistryError> {
        self.find_from(wanted, Path::new(""))
    }

    /// [`Registry::find`] as seen from the directory `cwd`.
    fn find_from(&self, wanted: &str, cwd: &Path) -> Result<JobDir, RegistryError> {
        let path = cwd.join(wanted);
        if wanted.contains('/') || matches!(wanted, "." | "..") {
            return match path.exists() {
                true => job_dir(path),
                false => Err(RegistryError::NoSuchJob { wanted: wanted.into(), nearest: Vec::new(), alike: false }),
            };
        }
        let all = self.all();
        if let Some(entry) = all.iter().find(|entry| entry.id == wanted) {
            return match self.exists(entry) {
                true => Ok(JobDir::new(&entry.job_dir)),
                false => Err(RegistryError::Vanished { id: entry.id.clone(), job_dir: entry.job_dir.clone() }),
            };
        }
        // Where `fanfold run` puts job directories, for jobs of other users and machines.
        for path in [&path, &cwd.join("fanfold-jobs").join(wanted)] {
            if !wanted.is_empty() && lacks(path).is_none() {
                return job_dir(path.clone());
            }
        }
        let entries = self.entries();
        let ids = entries.iter().map(|entry| &entry.id);
        let begin: Vec<&Entry> = entries.iter().filter(|entry| entry.id.starts_with(wanted)).collect();
        match begin[..] {
            [entry] => Ok(JobDir::new(&entry.job_dir)),
            [] if path.is_dir() && !wanted.is_empty() => job_dir(path),
            [] => {
                let near = |id: &&String| {
                    strsim::damerau_levenshtein(id, wanted) <= 3
                        || id.rsplit_once('-').is_some_and(|(name, _)| strsim::damerau_levenshtein(name, wanted) <= 2)
                };
                let mut nearest: Vec<String> = ids.clone().filter(near).take(3).cloned().collect();
                let alike = !nearest.is_empty();
                if !alike {
                    nearest = ids.take(3).cloned().collect();
                }
                Err(RegistryError::NoSuchJob { wanted: wanted.into(), nearest, alike })
            }
            _ => Err(RegistryError::Ambiguous {
                wanted: wanted.into(),
                ids: begin.iter().map(|entry| entry.id.clone()).collect(),
            }),
        }
    }

    fn all(&self) -> Vec<Entry> {
        let Some(Ok(files)) = self.dir.as_ref().map(fs::read_dir) else { return Vec::new() };
        // What is not ours, or from a later version, is left alone.
        let read = |file: fs::DirEntry| -> Option<Entry> {
            let path = file.path();
            (path.extension()? == "json").then(|| serde_json::from_slice(&fs::read(path).ok()?).ok()).flatten()
        };
        files.flatten().filter_map(read).filter(|entry| entry.version == VERSION).collect()
    }

    fn exists(&self, entry: &Entry) -> bool {
        if lacks(&entry.job_dir).is_none() {
            return true;
        }
        // Only if the directory around it is there: a file system may just not be mounted.
        if entry.job_dir.parent().is_some_and(Path::is_dir)
            && !entry.job_dir.exists()
            && let Some(dir) = &self.dir
        {
            let _ = fs::remove_file(dir.join(format!("{}.json", entry.id)));
        }
        false
    }
}

fn job_dir(path: PathBuf) -> Result<JobDir, RegistryError> {
    match lacks(&path) {
        None => Ok(JobDir::new(std::path::absolute(&path).unwrap_or(path))),
        Some(lacks) => Err(RegistryError::NotAJobDir { path, lacks }),
    }
}

/// What a job directory has and `path` has not.
fn lacks(path: &Path) -> Option<&'static str> {
    let dir = JobDir::new(path);
    if !dir.internal().is_dir() {
        return Some("`.fanfold`");
    }
    (!dir.job_yaml().is_file()).then_some("`job.yaml`")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        root: tempfile::TempDir,
        registry: Registry,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            let registry = Registry::at(root.path().join("state/fanfold/jobs"));
            Machine { root, registry }
        }

        fn job(&self, id: &str, created: u64) -> PathBuf {
            let dir = self.root.path().join("place/fanfold-jobs").join(id);
            fs::create_dir_all(dir.join(".fanfold")).unwrap();
            fs::write(dir.join("job.yaml"), "").unwrap();
            self.registry.add(&Entry::new(id, "score", &dir, created)).unwrap();
            dir
        }

        fn find(&self, wanted: &str) -> Result<PathBuf, String> {
            let found = self.registry.find_from(wanted, &self.root.path().join("place"));
            found.map(|dir| dir.root().to_path_buf()).map_err(|error| {
                format!("{error}; {}", error.hint().unwrap()).replace(self.root.path().to_str().unwrap(), "")
            })
        }
    }

    #[test]
    fn a_job_is_found_by_id_by_prefix_and_by_path() {
        let machine = Machine::new();
        let one = machine.job("score-1a2b3c4d", 1);
        let two = machine.job("score-1a9z9z9z", 2);
        assert_eq!(machine.find("score-1a2b3c4d"), Ok(one.clone()));
        assert_eq!(machine.find("score-1a9"), Ok(two));
        assert_eq!(machine.find("fanfold-jobs/score-1a2b3c4d"), Ok(one.clone()));
        assert_eq!(machine.find("./fanfold-jobs/score-1a2b3c4d"), Ok(one.clone()));
        assert_eq!(machine.find(one.to_str().unwrap()), Ok(one.clone()));
        // Unknown to the registry, but where job directories usually are.
        fs::remove_dir_all(machine.root.path().join("state")).unwrap();
        assert_eq!(machine.find("score-1a2b3c4d"), Ok(one));
    }

    #[test]
    fn what_is_not_found_is_explained() {
        let machine = Machine::new();
        assert_eq!(
            machine.find("score").unwrap_err(),
            "there is no job `score`; give the path of a job directory; no job of this user is known on this machine"
        );
        machine.job("score-1a2b3c4d", 1);
        machine.job("score-1a9z9z9z", 2);
        assert_eq!(
            machine.find("score-1a").unwrap_err(),
            "`score-1a` is the beginning of 2 job ids; it may be `score-1a9z9z9z`, `score-1a2b3c4d`"
        );
        assert_eq!(
            machine.find("scroe-1a2b3c4d").unwrap_err(),
            "there is no job `scroe-1a2b3c4d`; did you mean `score-1a2b3c4d`? `fanfold ls` shows all"
        );
        assert_eq!(
            machine.find("nosuch").unwrap_err(),
            "there is no job `nosuch`; the newest jobs are `score-1a9z9z9z`, `score-1a2b3c4d`; `fanfold ls` shows all"
        );
        fs::create_dir_all(machine.root.path().join("place/data/.fanfold")).unwrap();
        let not = "is not a job directory: it has no";
        let hint = "a job directory is made by `fanfold run`, by default `fanfold-jobs/<job id>`; `fanfold ls` shows where they are";
        assert_eq!(machine.find("data").unwrap_err(), format!("`/place/data` {not} `job.yaml`; {hint}"));
        assert_eq!(machine.find(".").unwrap_err(), format!("`/place/.` {not} `.fanfold`; {hint}"));
        assert_eq!(
            machine.find("no/such").unwrap_err(),
            "there is no job `no/such`; there is no such directory; `fanfold ls` shows the jobs of this user"
        );
    }

    #[test]
    fn vanished_jobs_are_pruned_but_not_those_on_an_absent_file_system() {
        let machine = Machine::new();
        let gone = machine.job("score-00000000", 1);
        machine.job("score-1a2b3c4d", 2);
        machine.registry.add(&Entry::new("away-11111111", "away", Path::new("/mnt/no/such/away-11111111"), 3)).unwrap();
        fs::remove_dir_all(&gone).unwrap();
        assert_eq!(
            machine.find("score-00000000").unwrap_err(),
            "job `score-00000000` was in `/place/fanfold-jobs/score-00000000`, which is gone; if it was moved, give its path instead"
        );
        let ids: Vec<String> = machine.registry.entries().into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["score-1a2b3c4d"]);
        let known: Vec<String> = machine.registry.all().into_iter().map(|entry| entry.id).collect();
        assert!(known.contains(&"away-11111111".into()) && !known.contains(&"score-00000000".into()), "{known:?}");
    }

    #[test]
    fn a_registry_that_cannot_be_written_is_an_error_to_warn_about_and_empty() {
        let registry = Registry::at("/proc/fanfold");
        assert!(registry.add(&Entry::new("a-1", "a", Path::new("/a"), 1)).is_err());
        assert!(registry.entries().is_empty());
    }
}
