//! Where versions are kept: `<name>/<version>.json`, one small file for each.
//!
//! A file is written whole under another name, synced, and given its name only if nothing has it: so a version never changes, and
//! of two who register at once each gets one of its own. Nothing here removes or replaces a file.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::durable;
use fanfold_shared::job::{Dataset, DatasetId, DatasetRef, Datasets, is_dataset_name, nearest_dataset};
use fanfold_shared::report::{During, Failure};
use fanfold_shared::uri::Uri;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DatasetError, objects};

/// The version of the form of a record, which is also what `--json` writes.
const VERSION: u32 = 1;

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct DatasetStore {
    /// None: there is no place for it.
    dir: Option<PathBuf>,
}

/// A dataset of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its newest version.
    pub newest: Dataset,
    /// All of them.
    pub versions: Vec<u32>,
}

/// A version as it is written: `{version, dataset: {…}}`.
pub fn to_json(dataset: &Dataset) -> Value {
    json!({"version": VERSION, "dataset": dataset})
}

/// Reads what [`to_json`] wrote. An error says the version of another form, if it is that.
///
/// # Errors
/// It is something else.
pub fn from_json(bytes: &[u8]) -> Result<Dataset, (serde_json::Error, Option<u32>)> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    #[derive(Deserialize)]
    struct Record {
        dataset: Dataset,
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| (error, None))?;
    let record = serde_json::from_slice::<Record>(bytes);
    record.map(|record| record.dataset).map_err(|error| (error, (version > VERSION).then_some(version)))
}

impl DatasetStore {
    /// The datasets of the user who runs this program: under `$XDG_STATE_HOME`, else under `~/.local/state`.
    pub fn of_user() -> DatasetStore {
        // Relative paths in XDG variables are to be ignored, says their specification.
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        DatasetStore { dir: state.map(|state| state.join("fanfold/datasets")) }
    }

    /// The datasets in `dir`, which need not exist.
    pub fn at(dir: impl Into<PathBuf>) -> DatasetStore {
        DatasetStore { dir: Some(dir.into()) }
    }

    /// Keeps a version for ever, unless there is one of that number: then nothing changes, and it says false.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&self, dataset: &Dataset) -> Result<bool, DatasetError> {
        let root = self.dir.as_deref().ok_or(DatasetError::NoPlace)?;
        let dir = root.join(&dataset.id.name);
        fs::create_dir_all(&dir).during("create", &dir)?;
        durable::sync_dir(root)?;
        let mut bytes = serde_json::to_vec_pretty(&to_json(dataset)).expect("strings and numbers");
        bytes.push(b'\n');
        Ok(durable::create_new(&dir.join(file_name(dataset.id.version)), &bytes)?)
    }

    /// The versions of `name`, the oldest first; none if it is not registered.
    ///
    /// # Errors
    /// They can't be listed.
    pub fn versions(&self, name: &str) -> Result<Vec<u32>, DatasetError> {
        let Some(dir) = self.dir.as_ref().filter(|_| is_dataset_name(name)).map(|dir| dir.join(name)) else {
            return Ok(Vec::new());
        };
        let number = |file: &str| {
            let version = file.strip_suffix(".json")?.parse().ok()?;
            // `01.json` is none of ours.
            (file_name(version) == file).then_some(version)
        };
        let mut versions: Vec<u32> = names_in(&dir)?.iter().filter_map(|file| number(file)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// One version.
    ///
    /// # Errors
    /// There is no such dataset, no such version, or its record can't be read.
    pub fn get(&self, wanted: &DatasetRef) -> Result<Dataset, DatasetError> {
        let versions = self.versions(&wanted.name)?;
        let Some(newest) = versions.last() else { return Err(self.no_such_dataset(&wanted.name)) };
        let id = DatasetId { name: wanted.name.clone(), version: wanted.version.unwrap_or(*newest) };
        if !versions.contains(&id.version) {
            return Err(DatasetError::NoSuchVersion { id, versions });
        }
        self.read(id)
    }

    fn read(&self, id: DatasetId) -> Result<Dataset, DatasetError> {
        let root = self.dir.as_deref().ok_or(DatasetError::NoPlace)?;
        let path = root.join(&id.name).join(file_name(id.version));
        let bytes = fs::read(&path).during("read", &path)?;
        match from_json(&bytes) {
            Ok(dataset) if dataset.id == id => Ok(dataset),
            Ok(dataset) => Err(DatasetError::Misplaced { path, found: dataset.id }),
            Err((_, Some(found))) => Err(DatasetError::Later { path, found }),
            Err((source, None)) => Err(DatasetError::Damaged { path, source }),
        }
    }

    /// The newest version of every dataset, by name; one whose record can't be read is an error among the others.
    ///
    /// # Errors
    /// They can't be listed.
    pub fn list(&self) -> Result<Vec<Result<Listed, DatasetError>>, DatasetError> {
        let mut list = Vec::new();
        for name in self.all_names()? {
            let versions = self.versions(&name)?;
            let Some(version) = versions.last().copied() else { continue };
            list.push(self.read(DatasetId { name, version }).map(|newest| Listed { newest, versions }));
        }
        Ok(list)
    }

    fn all_names(&self) -> Result<Vec<String>, DatasetError> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let mut names = names_in(dir)?;
        names.retain(|name| is_dataset_name(name) && self.versions(name).is_ok_and(|versions| !versions.is_empty()));
        names.sort();
        Ok(names)
    }

    pub(crate) fn no_such_dataset(&self, name: &str) -> DatasetError {
        let names = self.names();
        let nearest = nearest_dataset(name, &names).map(str::to_string);
        DatasetError::NoSuchDataset { name: name.into(), nearest, any: !names.is_empty() }
    }
}

impl Datasets for DatasetStore {
    fn find(&self, wanted: &DatasetRef) -> Result<Option<Dataset>, Failure> {
        match self.get(wanted) {
            Ok(dataset) => Ok(Some(dataset)),
            Err(DatasetError::NoSuchDataset { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn names(&self) -> Vec<String> {
        self.all_names().unwrap_or_default()
    }

    fn object(&self, uri: &Uri, most: u64) -> Result<Option<Vec<u8>>, Failure> {
        objects::read(uri, most)
    }
}

fn file_name(version: u32) -> String {
    format!("{version}.json")
}

/// The names of what lies in `dir`; none if it is not there.
fn names_in(dir: &Path) -> Result<Vec<String>, DatasetError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.during("list", dir)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.during("list", dir)?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
