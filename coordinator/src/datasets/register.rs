//! Registering: what is declared is looked at, and becomes a version of its own or is found to be one.

use std::path::{Path, PathBuf};

use fanfold_shared::clock::wall_us;
use fanfold_shared::job::{
    Dataset, DatasetId, DatasetPath, DatasetRef, Declaration, Declared, declared, is_dataset_name,
};
use fanfold_shared::report::Result;
use fanfold_shared::text::{counted, size};
use fanfold_shared::uri::canonical;

use super::{DatasetError, DatasetStore};
use crate::prepare::{contents, is_of_kind};

/// What somebody wants to register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The dataset's name.
    pub name: String,
    /// Files, folders and patterns.
    pub paths: Vec<String>,
    /// Where relative ones start, absolute.
    pub base: PathBuf,
    /// As in a job file.
    pub input_type: Option<String>,
    /// As in a job file: a map.
    pub read_csv: Option<String>,
    /// What it is, in the caller's words.
    pub description: Option<String>,
    /// The name may be taken: then this is its next version.
    pub new_version: bool,
    /// Who registers it.
    pub who: String,
}

/// What registering came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The version.
    pub dataset: Dataset,
    /// It was there before, with everything equal.
    pub known: bool,
}

/// Registers a version in `store`. `admit` may refuse a path.
///
/// # Errors
/// The name or what is declared can't be used, the data is not there, the name is taken, or the record can't be written.
pub fn register(
    store: &DatasetStore,
    registration: &Registration,
    admit: &dyn Fn(&Path) -> Result<()>,
) -> Result<Outcome> {
    let Registration { name, paths, base, input_type, read_csv, description, new_version, who } = registration;
    if !is_dataset_name(name) {
        return Err(DatasetError::BadName(name.clone()).into());
    }
    let declaration = Declaration { paths, input_type: input_type.as_deref(), read_csv: read_csv.as_deref() };
    let Declared { paths, input_type, read_csv } = declared(&declaration, base, store)?;
    let mut parts = Vec::with_capacity(paths.len());
    for path in paths {
        admit(Path::new(&path))?;
        let contents = contents(name, &path, &[], &|| Ok(()))?;
        is_of_kind(name, &path, input_type, &|| Ok(()))?;
        parts.push(DatasetPath { path, contents });
    }
    let mut dataset = Dataset {
        id: DatasetId { name: name.clone(), version: 0 },
        description: description.clone(),
        input_type,
        read_csv,
        paths: parts,
        created: wall_us(),
        created_by: who.clone(),
    };
    // Somebody may register at the same time: then it is looked at again.
    loop {
        let versions = store.versions(name)?;
        let newest = versions.last().copied().unwrap_or(0);
        if newest > 0 && !new_version {
            let newest = store.get(&DatasetRef { name: name.clone(), version: None })?;
            return match difference(&newest, &dataset) {
                Some(difference) => Err(DatasetError::Exists { newest: newest.id, difference }.into()),
                None => Ok(Outcome { dataset: newest, known: true }),
            };
        }
        dataset.id.version = newest.checked_add(1).expect("nobody registers four billion versions");
        if store.keep(&dataset)? {
            return Ok(Outcome { dataset, known: false });
        }
    }
}

/// What `old` has that `new` has not; None: they are equal, but for who registered them when. A description that is not given again is
/// no difference.
fn difference(old: &Dataset, new: &Dataset) -> Option<String> {
    let paths = |dataset: &Dataset| -> Vec<String> { dataset.paths.iter().map(|part| part.path.clone()).collect() };
    let meant = |dataset: &Dataset| -> Vec<_> {
        dataset.paths.iter().map(|part| (canonical(&part.path).into_owned(), part.contents.clone())).collect()
    };
    let paths_of = |dataset: &Dataset| -> Vec<_> { meant(dataset).into_iter().map(|(path, _)| path).collect() };
    if paths_of(old) != paths_of(new) {
        return Some(match &paths(old)[..] {
            [one] => format!("the path `{one}`"),
            several => format!("the paths `{}`", several.join("`, `")),
        });
    }
    if old.input_type != new.input_type {
        return Some(format!("`input_type: {}`", old.input_type.name()));
    }
    if old.read_csv != new.read_csv {
        return Some("another `read_csv`".into());
    }
    if new.description.is_some() && old.description != new.description {
        return Some("another description".into());
    }
    (meant(old) != meant(new)).then(|| match (old.files() == new.files(), old.bytes() == new.bytes()) {
        (true, true) => "the same paths, and files there were renamed or written since".into(),
        _ => {
            let told = |dataset: &Dataset| format!("{} ({})", counted(dataset.files(), "file"), size(dataset.bytes()));
            format!("the same paths with {}, where {} are now", told(old), told(new))
        }
    })
}
