//! The job: the job file read, validated and resolved (spec section 3).
//!
//! A [`JobSpec`] is what was meant: paths absolute, defaults filled in, everything that can be known before the items are
//! listed known to be right. What is not right comes back as [`JobFileErrors`], all of it at once, each fault with its
//! line and a way out. Nothing is written and nothing is run.
//!
//! A path that is given relative starts at the folder of the job file, in a flag too.
//!
//! The text becomes a tree that knows its lines (`tree.rs`), `--set` flags go into it (`overrides.rs`), the validators
//! take their keys out of it (`reader.rs`, `check/`); [`KEYS`] is the one table of keys. [`JobSpec::to_yaml`] is the way
//! back, [`entry_argv`] what the script sees of it, [`differences`] what makes it another job.

mod aliases;
mod argv;
mod check;
mod dataset;
mod error;
mod identity;
mod keys;
mod mltable;
mod nearest;
mod overrides;
mod paths;
mod reader;
mod record;
mod references;
mod source;
mod spec;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

pub use aliases::{ALIASES, Alias, Instead, instead_of};
pub use argv::{Places, entry_argv};
pub use dataset::{
    Contents, Dataset, DatasetId, DatasetPath, DatasetRef, Datasets, Declaration, Declared, FromDataset, NoDatasets,
    declared, is_dataset_name, nearest_dataset,
};
pub use error::{JobFileError, JobFileErrors};
pub use identity::{Difference, differences, fingerprint};
pub use keys::{KEYS, Key};
pub use mltable::{ColumnStep, MLTABLE, MlTable};
pub use nearest::nearest;
pub use record::{JobRecord, RECORD_VERSION, RecordError};
pub use source::{Origin, Place, Spot};
pub use spec::*;

use error::shown;
use reader::{Reader, World};
use source::Sources;
use tree::{Node, Value};

/// A job file larger than this is something else, bytes.
const FILE_MAX: u64 = 4 << 20;

/// Reads the job file at `path` with the `key=value` of each `--set` in `overrides`. Inputs that are no paths are looked up in
/// `datasets`.
///
/// # Errors
/// Every fault of the file and of the flags ([`crate::report::ExitCode::Usage`]).
pub fn load(path: &Path, overrides: &[String], datasets: &dyn Datasets) -> Result<JobSpec, JobFileErrors> {
    parse(&read_file(path)?, path, overrides, datasets)
}

/// Reads the text of a job file; `path` names it in messages, and relative paths start at its folder.
///
/// # Errors
/// Every fault of the text and of the flags.
pub fn parse(text: &str, path: &Path, overrides: &[String], datasets: &dyn Datasets) -> Result<JobSpec, JobFileErrors> {
    let world = World { look: true, here: true, datasets: Some(datasets), objects: Some(datasets), ..World::default() };
    parse_in(text, path, overrides, world)
}

/// As [`parse`], for a job that runs on other machines: its interpreter is looked for there.
///
/// # Errors
/// As [`parse`].
pub fn parse_for_fleet(
    text: &str,
    path: &Path,
    overrides: &[String],
    datasets: &dyn Datasets,
) -> Result<JobSpec, JobFileErrors> {
    let world =
        World { look: true, here: false, datasets: Some(datasets), objects: Some(datasets), ..World::default() };
    parse_in(text, path, overrides, world)
}

/// As [`load`], for a job that runs on other machines.
///
/// # Errors
/// As [`load`].
pub fn load_for_fleet(path: &Path, overrides: &[String], datasets: &dyn Datasets) -> Result<JobSpec, JobFileErrors> {
    parse_for_fleet(&read_file(path)?, path, overrides, datasets)
}

/// Reads back a job that [`JobSpec::to_yaml`] wrote, without looking for the files that it names: they were looked at when
/// the job was submitted, and a job goes on from its own snapshot even if they have moved since.
///
/// # Errors
/// Every fault of the text.
pub fn load_resolved(path: &Path) -> Result<JobSpec, JobFileErrors> {
    parse_in(&read_file(path)?, path, &[], World::default())
}

fn read_file(path: &Path) -> Result<String, JobFileErrors> {
    let refuse = |message: String, hint: &str, cause| {
        let place = Place { origin: Origin::File(path.to_path_buf()), spot: None };
        let error = JobFileError { key: String::new(), message, place, hint: Some(hint.into()) };
        JobFileErrors { errors: vec![error], cause }
    };
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= FILE_MAX).then_some(bytes))
    };
    let bytes = match read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let message = format!("the job file is larger than {} MiB", FILE_MAX >> 20);
            return Err(refuse(message, "give the job file: a page of YAML, not the data", None));
        }
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    let here = std::env::current_dir().unwrap_or_default();
                    paths::near(&here.join(path), &path.to_string_lossy(), &here)
                }
                std::io::ErrorKind::IsADirectory => {
                    "give the job file in it, or `--job-dir` for a job directory".into()
                }
                _ => "check the owner and the mode of that file".into(),
            };
            return Err(refuse("cannot read the job file".into(), &hint, Some(error)));
        }
    };
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("the job file is not UTF-8 text (line {line})");
        refuse(message, "save it as UTF-8", None)
    })
}

fn parse_in(text: &str, path: &Path, overrides: &[String], world: World<'_>) -> Result<JobSpec, JobFileErrors> {
    let mut sources = Sources::default();
    let file = sources.add(Origin::File(path.to_path_buf()), text);
    let mut errors = Vec::new();
    let root = tree::read(&sources, file, &mut errors);
    let whole = |message: &str, hint: &str| JobFileError {
        key: String::new(),
        message: message.into(),
        place: Place { origin: Origin::File(path.to_path_buf()), spot: None },
        hint: Some(hint.into()),
    };
    let absolute = std::path::absolute(path).ok();
    let Some(base) = absolute.as_deref().and_then(Path::parent).map(|base| paths::absolute(base, "")) else {
        return Err(JobFileErrors::new(vec![whole("the folder of the job file is unknown", "give an absolute path")]));
    };
    if base.to_str().is_none() {
        let hint = "paths of a job are text: move the job file, or rename that folder";
        errors.push(whole("the folder of the job file is not UTF-8", hint));
    }
    let mut entries = match root.map(|root| (root.is_null(), root)) {
        Some((false, Node { value: Value::Mapping(entries), .. })) => entries,
        Some((true, _)) => {
            let hint = "start with `name:`, `entry_script:` and `inputs:`";
            errors.push(whole("the job file is empty", hint));
            return Err(JobFileErrors::new(errors));
        }
        Some((_, node)) => {
            let message = format!("a job file is a mapping of keys to values, not {}", node.kind_name());
            let hint = "write one `key: value` a line, for example `name: score-images`".to_string();
            let place = sources.place(node.span);
            errors.push(JobFileError { key: String::new(), message, place, hint: Some(hint) });
            return Err(JobFileErrors::new(errors));
        }
        None => return Err(JobFileErrors::new(errors)),
    };
    let mut overridden = overrides::apply(&mut entries, overrides, &mut sources, &mut errors);
    let mut known = BTreeMap::new();
    let mut unknown = Vec::new();
    for (key, node) in entries {
        match keys::find(&key.text) {
            Some(found) => drop(known.insert(found.name, node)),
            None => unknown.push((key, node)),
        }
    }
    let search_path = if world.look { std::env::var_os("PATH").unwrap_or_default() } else { OsString::new() };
    let world = World { base, search_path, ..world };
    let mut reader = Reader {
        sources,
        file,
        world,
        entries: known,
        overridden: Default::default(),
        meant: Default::default(),
        errors,
    };
    for (key, node) in unknown {
        let (hint, meant) = unknown_hint(&key.text, &node);
        reader.meant.extend(meant);
        reader.fault(&key.text, key.span, format!("unknown key `{}`", shown(&key.text)), Some(hint));
    }
    if let Some(Value::Sequence(recorded)) = reader.given("overrides").map(|node| node.value) {
        let keys = recorded.iter().filter_map(|item| item.scalar()?.text.split(['=', '.']).next().map(str::to_string));
        overridden.extend(keys);
    }
    reader.overridden = overridden;
    let mut spec = check::job(&mut reader);
    spec.overrides.extend(overrides.iter().cloned());
    if reader.errors.is_empty() { Ok(spec) } else { Err(JobFileErrors::new(reader.errors)) }
}

/// What to write instead of an unknown key, and the key that it was surely meant for.
fn unknown_hint(name: &str, node: &Node) -> (String, Option<&'static str>) {
    if let Some(advice) = aliases::advice(name, node) {
        let meant = KEYS.iter().map(|key| key.name).find(|key| advice.contains(&format!("`{key}`")));
        return (advice, meant);
    }
    // `mini-batch-size` and `miniBatchSize` are near enough.
    match nearest::nearest(name, KEYS.iter().map(|key| key.name)) {
        Some(near) => (format!("did you mean `{near}`?"), Some(near)),
        None => {
            let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            (format!("the keys are {}", names.join(", ")), None)
        }
    }
}
