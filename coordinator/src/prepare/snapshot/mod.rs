//! The snapshot: an immutable copy of the entry script's tree, made once at submission; `retry --failed --new-script` puts another one
//! beside it.
//!
//! It is built under another name, synced and renamed into place: **it is complete exactly if it is there under its
//! name**. Its hash covers the names, the executable bits and the contents of its files, so the same source gives the
//! same hash, and any change to what the script can read gives another.
//!
//! Without `source_directory` it is the script, the `.py` files beside it and `parallel_run_step.settings.json`. With it, it
//! is the whole folder but for what `.amlignore` (or else `.gitignore`) says and for what is never meant: inputs, side
//! inputs and models, job directories and the output, virtual environments, `.git`, `__pycache__`. Links within the
//! folder stay links; what other links lead to is copied.

mod copy;
mod error;
mod leave_out;
mod select;
mod settings;
mod size;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fanfold_shared::durable;
use fanfold_shared::failpoint;
use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::job::JobSpec;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::During;

pub use error::SnapshotError;
use select::{Kind, Selection};

/// A snapshot, or what would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// BLAKE3 over the sorted names, executable bits and contents: 64 hexadecimal digits.
    pub hash: String,
    /// Its files and links.
    pub files: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// What was left out that the user might miss: one line each. Empty for a snapshot that was there already.
    pub notes: Vec<String>,
}

/// Makes sure that the job has its snapshot `script`: the one that is there, whatever has become of the source since, else a copy
/// of the source as it is now. `own` are the directories that the job writes to
/// ([`own_directories`](super::listing::own_directories)).
pub fn take(spec: &JobSpec, job: &JobDir, script: ScriptNumber, own: &[PathBuf]) -> Result<Snapshot, SnapshotError> {
    let place = job.snapshot(script);
    if place.is_dir() {
        return copy::hash(&Selection { entries: select::stored(&place)?, notes: Vec::new() });
    }
    let selection = select::select(spec, own)?;
    build(&selection, &place)
}

/// Makes the snapshot `script` of the source as it is now. What is there under its name is of a retry that died before the job ran
/// it, or was refused, and goes.
///
/// # Errors
/// As [`take`].
pub fn renew(spec: &JobSpec, job: &JobDir, script: ScriptNumber, own: &[PathBuf]) -> Result<Snapshot, SnapshotError> {
    let selection = select::select(spec, own)?;
    let place = job.snapshot(script);
    let building = durable::building(&place);
    discard(&building)?;
    // First under another name: one that is there under its own is complete.
    match fs::rename(&place, &building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("rename", &place)?,
        _ => {}
    }
    build(&selection, &place)
}

fn discard(building: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(building) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("remove", building)?,
        _ => Ok(()),
    }
}

fn build(selection: &Selection, place: &Path) -> Result<Snapshot, SnapshotError> {
    let building = durable::building(place);
    discard(&building)?;
    fs::create_dir_all(&building).during("create", &building)?;
    let snapshot = copy::copy(selection, &building)?;
    failpoint!("snapshot_copied");
    durable::sync_tree(&building)?;
    failpoint!("snapshot_synced");
    fs::rename(&building, place).during("rename", &building)?;
    durable::sync_dir(durable::parent(place))?;
    failpoint!("snapshot_renamed");
    Ok(snapshot)
}

/// What a snapshot of the source, as it is now, would be. It writes nothing: for `fanfold plan`, and to tell whether the
/// script has changed since the job's snapshot was taken.
pub fn preview(spec: &JobSpec, own: &[PathBuf]) -> Result<Snapshot, SnapshotError> {
    copy::hash(&select::select(spec, own)?)
}

/// The files of the job's snapshot that are different in the source by now: changed, or gone. A source that is gone
/// altogether, or was moved, is no obstacle: the job has its own copy. What came since does not count.
pub fn changed(spec: &JobSpec, job: &JobDir, script: ScriptNumber) -> Result<Vec<PathBuf>, SnapshotError> {
    if !spec.source_directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut changed = Vec::new();
    for entry in select::stored(&job.snapshot(script))? {
        let source = spec.source_directory.join(&entry.name);
        let same = match &entry.kind {
            Kind::Folder => true,
            Kind::Link { target } => fs::read_link(&source).is_ok_and(|now| now == *target),
            Kind::File { source: copy, executable, .. } => copy::same_file(copy, &source, *executable)?,
        };
        if !same {
            changed.push(entry.name);
        }
    }
    changed.sort();
    Ok(changed)
}

/// Whether the settings beside the script, which say how rows are written, are others in the source than in the snapshot `script`;
/// then where they are, or were.
///
/// # Errors
/// They can't be read.
pub fn other_settings(spec: &JobSpec, job: &JobDir, script: ScriptNumber) -> Result<Option<PathBuf>, SnapshotError> {
    let read = |path: PathBuf| match fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        text => text.map(Some).during("read", path).map_err(SnapshotError::Unreadable),
    };
    let (copy, source) = (job.snapshot(script), &spec.source_directory);
    for name in select::script_files(&spec.entry_script).map(|script| script.with_file_name(settings::SETTINGS)) {
        if read(copy.join(&name))? != read(source.join(&name))? {
            return Ok(Some(source.join(name)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
