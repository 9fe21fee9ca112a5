//! Registered datasets: what a version of one is, how a job file names it, and how one is declared.
//!
//! Where they are kept is no concern of this crate: whoever reads a job file hands in [`Datasets`]. A job holds the paths of
//! the version that was meant when it was submitted, and [`FromDataset`] to say so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check;
use super::error::JobFileErrors;
use super::overrides;
use super::reader::{Reader, World};
use super::source::{Origin, Sources, Span};
use super::spec::{Input, InputType, ReadCsv};
use super::tree::{Node, Value};
use crate::clock::serde_us;
use crate::report::Failure;
use crate::uri::Uri;

/// Characters of a name.
const NAME_MAX: usize = 64;

/// One version of a dataset. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Which.
    #[serde(flatten)]
    pub id: DatasetId,
    /// What it is, in the words of who registered it.
    pub description: Option<String>,
    /// What its items are.
    pub input_type: InputType,
    /// How it is read, if it is CSV.
    pub read_csv: Option<ReadCsv>,
    /// Files, folders and patterns; at least one.
    pub paths: Vec<DatasetPath>,
    /// When it was registered, microseconds since the epoch.
    #[serde(with = "serde_us")]
    pub created: u64,
    /// By whom.
    pub created_by: String,
}

/// A name and a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetId {
    /// See [`is_dataset_name`].
    pub name: String,
    /// Counted from 1.
    pub version: u32,
}

/// A part of a dataset, and what was there when it was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetPath {
    /// Absolute: a file, a folder or a pattern.
    pub path: String,
    /// Its files.
    #[serde(flatten)]
    pub contents: Contents,
}

/// What files there are, by their names, sizes and times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// How many.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Equal for the same names, sizes and times of change: 64 hexadecimal digits.
    pub fingerprint: String,
}

/// Where an input came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromDataset {
    /// The version.
    pub dataset: DatasetId,
    /// What was there when it was registered.
    pub contents: Contents,
    /// Where that lies, if it is not the path of the input: an `MLTable`, which names that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Dataset {
    /// Files of all its paths.
    pub fn files(&self) -> u64 {
        self.paths.iter().map(|path| path.contents.files).sum()
    }

    /// Bytes of all its paths.
    pub fn bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.contents.bytes).sum()
    }

    /// The inputs of a job that names it as the input `name`: one for each path, `name-1`, `name-2` … where there are several.
    pub(crate) fn inputs(&self, name: &str) -> Vec<Input> {
        let one = self.paths.len() == 1;
        let input = |(at, part): (usize, &DatasetPath)| Input {
            name: if one { name.to_string() } else { format!("{name}-{}", at + 1) },
            path: part.path.clone(),
            dataset: Some(FromDataset { dataset: self.id.clone(), contents: part.contents.clone(), path: None }),
        };
        self.paths.iter().enumerate().map(input).collect()
    }
}

impl fmt::Display for DatasetId {
    /// As a job file names it: `iris:3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// A dataset as somebody names it: `iris`, `iris:3`, `iris@latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRef {
    /// The name.
    pub name: String,
    /// The version; None: the newest.
    pub version: Option<u32>,
}

impl DatasetRef {
    /// What `text` names; None if that is no dataset.
    pub fn parse(text: &str) -> Option<DatasetRef> {
        let (name, version) = match text.split_once(':') {
            Some((name, digits)) => {
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                // A version that no number holds is one that is not there.
                (name, Some(plain.then(|| digits.parse().unwrap_or(u32::MAX))?))
            }
            None => (text.strip_suffix("@latest").unwrap_or(text), None),
        };
        is_dataset_name(name).then(|| DatasetRef { name: name.into(), version })
    }

    /// Whether `text` says a version, so that hardly anything but a dataset is meant.
    pub(crate) fn is_versioned(text: &str) -> bool {
        DatasetRef::parse(text).is_some_and(|wanted| wanted.name != text)
    }
}

/// Whether a dataset may be called so: a letter, then letters, digits, `_` and `-`, at most 64 characters.
pub fn is_dataset_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= NAME_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The name of `names` that is nearest to `wanted`, if any is near.
pub fn nearest_dataset<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    super::nearest::nearest(wanted, names.iter().map(String::as_str))
}

/// Where registered datasets are looked up, and what job files name at addresses is read.
pub trait Datasets: fmt::Debug {
    /// One version; None: nothing is registered under that name.
    ///
    /// # Errors
    /// It has no such version, or what is known of it can't be read.
    fn find(&self, wanted: &DatasetRef) -> Result<Option<Dataset>, Failure>;

    /// The names there are, to suggest one; empty if that can't be told.
    fn names(&self) -> Vec<String>;

    /// The object at an address, of which at most `most` bytes are read; None: there is none.
    ///
    /// # Errors
    /// The store can't be reached, or refuses it.
    fn object(&self, uri: &Uri, most: u64) -> Result<Option<Vec<u8>>, Failure>;
}

/// Nothing is registered.
#[derive(Clone, Copy, Debug)]
pub struct NoDatasets;

impl Datasets for NoDatasets {
    fn find(&self, _: &DatasetRef) -> Result<Option<Dataset>, Failure> {
        Ok(None)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn object(&self, _: &Uri, _: u64) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }
}

/// What a dataset is declared to be, as typed.
#[derive(Clone, Copy, Debug)]
pub struct Declaration<'a> {
    /// Files, folders and patterns.
    pub paths: &'a [String],
    /// As in a job file; None: `files`.
    pub input_type: Option<&'a str>,
    /// As in a job file: a map.
    pub read_csv: Option<&'a str>,
}

/// What a [`Declaration`] means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Absolute.
    pub paths: Vec<String>,
    /// What its items are.
    pub input_type: InputType,
    /// How it is read, if it is CSV.
    pub read_csv: Option<ReadCsv>,
}

/// Reads what somebody wants to register, by the rules of job files. Relative paths start at `base`, an absolute folder; an `MLTable` at an
/// address is read by `datasets`, and names of datasets mean nothing.
///
/// # Errors
/// Every fault of it.
pub fn declared(
    declaration: &Declaration<'_>,
    base: &Path,
    datasets: &dyn Datasets,
) -> Result<Declared, JobFileErrors> {
    let mut sources = Sources::default();
    let mut errors = Vec::new();
    let mut entries = BTreeMap::new();
    let span = |source: usize, option: &str, text: &str| Span {
        source,
        line: 1,
        column: option.len() as u64 + 1,
        width: text.chars().count().max(1) as u64,
    };
    let mut paths = Vec::new();
    for path in declaration.paths {
        let source = sources.add(Origin::Registration, format!("--path {path}"));
        paths.push(Node::text(path.clone(), span(source, "--path ", path)));
    }
    if let Some(text) = declaration.input_type {
        let source = sources.add(Origin::Registration, format!("--input-type {text}"));
        entries.insert("input_type", Node::text(text.to_string(), span(source, "--input-type ", text)));
    }
    if let Some(text) = declaration.read_csv {
        let source = sources.add(Origin::Registration, format!("--read-csv {text}"));
        if let Some(node) = overrides::parse_value(&sources, source, "--read-csv ".len(), &mut errors) {
            entries.insert("read_csv", node);
        }
    }
    let file = sources.add(Origin::Registration, "");
    let all = Span { source: file, line: 1, column: 1, width: 1 };
    entries.insert("inputs", Node { span: all, value: Value::Sequence(paths), lenient: true });
    let world =
        World { base: PathBuf::from(base), look: true, here: true, objects: Some(datasets), ..World::default() };
    let (overridden, meant) = Default::default();
    let mut reader = Reader { sources, file, world, entries, overridden, meant, errors };
    let (paths, input_type, read_csv) = check::data(&mut reader);
    match reader.errors.is_empty() {
        true => Ok(Declared { paths, input_type, read_csv: input_type.is_csv().then_some(read_csv) }),
        false => Err(JobFileErrors::new(reader.errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_the_newest_version_or_for_the_one_it_says() {
        let parse = |text| DatasetRef::parse(text).map(|wanted| (wanted.name, wanted.version));
        let some = |name: &str, version| Some((name.to_string(), version));
        assert_eq!(parse("iris"), some("iris", None));
        assert_eq!(parse("iris@latest"), some("iris", None));
        assert_eq!(parse("my-data_2:12"), some("my-data_2", Some(12)));
        assert_eq!(parse("iris:99999999999"), some("iris", Some(u32::MAX)));
        for path in
            ["a/b:3", "iris:", "iris:v1", "C:\\x", "@latest", "x@y", "iris.csv", "5", "", "iris:+1", "a:1@latest"]
        {
            assert_eq!(parse(path), None, "{path}");
        }
        assert!(DatasetRef::is_versioned("iris:3") && DatasetRef::is_versioned("iris@latest"));
        assert!(!DatasetRef::is_versioned("iris"));
    }

    #[test]
    fn a_declaration_means_what_it_would_in_a_job_file() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::write(base.join("iris.csv"), "").unwrap();
        let declare = |paths: &[&str], input_type, read_csv| {
            let paths: Vec<String> = paths.iter().map(|path| path.to_string()).collect();
            declared(&Declaration { paths: &paths, input_type, read_csv }, &base, &NoDatasets)
        };
        let path = |name: &str| base.join(name).to_str().unwrap().to_string();
        let files = declare(&["./iris.csv", "*.txt"], None, None).unwrap();
        let meant =
            Declared { paths: vec![path("iris.csv"), path("*.txt")], input_type: InputType::Files, read_csv: None };
        assert_eq!(files, meant);
        let table = declare(&["iris.csv"], Some("csv"), Some("{sep: \";\", header: false}")).unwrap();
        let options = table.read_csv.unwrap();
        assert_eq!((options.sep, options.header, options.quotechar), (';', false, Some('"')));

        let refused = |outcome: Result<Declared, JobFileErrors>| {
            outcome.unwrap_err().to_string().replace(base.to_str().unwrap(), "<base>")
        };
        insta::assert_snapshot!(refused(declare(&["irsi.csv"], None, None)), @r#"
        `--path`: there is no `irsi.csv`
          --> the registration
           |
           | --path irsi.csv
           |        ^^^^^^^^
        "#);
        let all = refused(declare(&["s3://u:p@x/y", "iris"], Some("cvs"), Some("{separator: x}")));
        for told in
            ["it holds a user or a password", "there is no `iris`", "`input_type` must be", "takes no `separator`"]
        {
            assert!(all.contains(told), "{told}:\n{all}");
        }
    }
}
