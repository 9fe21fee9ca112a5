//! Takes the values of keys out of the tree, by type, and collects what is wrong with them.
//!
//! A validator asks for its keys, reports every fault through the reader and goes on with the default: the first fault
//! must not hide the others.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::dataset::Datasets;
use super::error::JobFileError;
use super::keys;
use super::source::{Sources, Span};
use super::tree::{Kind, Node, Scalar, Value};

/// What a job file is read against.
#[derive(Clone, Debug, Default)]
pub(crate) struct World<'a> {
    /// Where relative paths start: the folder of the job file, absolute.
    pub(crate) base: PathBuf,
    /// Whether what the file names is looked for. A resolved job is read without: it was looked at when it was submitted.
    pub(crate) look: bool,
    /// Whether the interpreter is one of this machine; else it is looked for where the job runs.
    pub(crate) here: bool,
    /// Where interpreters are looked for, as PATH.
    pub(crate) search_path: OsString,
    /// Where registered datasets are looked up; None: an input is a path.
    pub(crate) datasets: Option<&'a dyn Datasets>,
    /// Who reads an `MLTable` that lies at an address.
    pub(crate) objects: Option<&'a dyn Datasets>,
}

/// See the module.
pub(crate) struct Reader<'a> {
    pub(crate) sources: Sources,
    /// The job file among the sources.
    pub(crate) file: usize,
    pub(crate) world: World<'a>,
    pub(crate) entries: BTreeMap<&'static str, Node>,
    /// Keys that a `--set` has set: nothing else sets them.
    pub(crate) overridden: BTreeSet<String>,
    /// Keys that an unknown one was surely meant for: that they are missing need not be said too.
    pub(crate) meant: BTreeSet<&'static str>,
    pub(crate) errors: Vec<JobFileError>,
}

impl Reader<'_> {
    /// The value of a key; None if it is missing or null.
    pub(crate) fn given(&self, key: &'static str) -> Option<Node> {
        self.entries.get(key).filter(|node| !node.is_null()).cloned()
    }

    /// Reports a fault.
    pub(crate) fn fault(&mut self, key: &str, span: Span, message: String, hint: impl Into<Option<String>>) {
        let place = self.sources.place(span);
        self.errors.push(JobFileError { key: key.to_string(), message, place, hint: hint.into() });
    }

    /// Reports that a required key is missing, or has no value.
    pub(crate) fn missing(&mut self, key: &'static str) {
        let hint = Some(format!("add it, for example `{}`", keys::key(key).example));
        match self.entries.get(key).map(|node| node.span) {
            Some(span) => self.fault(key, span, format!("`{key}` has no value"), hint),
            None if self.meant.contains(key) => {}
            None => {
                let place = self.sources.whole(self.file);
                self.errors.push(JobFileError { key: key.into(), message: format!("`{key}` is missing"), place, hint });
            }
        }
    }

    /// Reports that a value is not what its key takes.
    pub(crate) fn must_be(&mut self, key: &'static str, node: &Node) {
        let entry = keys::key(key);
        let mut message = format!("`{key}` must be {}", entry.takes);
        // Of a scalar the line shows what it is; of a list or a mapping perhaps only its first character.
        if node.scalar().is_none_or(|scalar| scalar.kind == Kind::Null) {
            message.push_str(&format!(", not {}", node.kind_name()));
        }
        let hint = (!entry.example.is_empty()).then(|| format!("for example `{}`", entry.example));
        self.fault(key, node.span, message, hint);
    }

    /// The scalar of a key.
    pub(crate) fn scalar(&mut self, key: &'static str) -> Option<(Scalar, Node)> {
        let node = self.given(key)?;
        match node.scalar() {
            Some(scalar) if !scalar.text.is_empty() => Some((scalar.clone(), node)),
            _ => {
                self.must_be(key, &node);
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn whole(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let (scalar, node) = self.scalar(key)?;
        let number = scalar.text.replace('_', "").parse::<i64>().ok().filter(|number| range.contains(number));
        self.number(key, &scalar, &node, number)
    }

    /// A number within `range`.
    pub(crate) fn real(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let (scalar, node) = self.scalar(key)?;
        let number = scalar.text.parse::<f64>().ok().filter(|number| range.contains(number));
        self.number(key, &scalar, &node, number)
    }

    fn number<T>(&mut self, key: &'static str, scalar: &Scalar, node: &Node, number: Option<T>) -> Option<T> {
        match number {
            Some(number) if scalar.kind == Kind::Number || node.lenient => Some(number),
            Some(_) => {
                let message = format!("`{key}` must be {}, not text in quotes", keys::key(key).takes);
                self.fault(key, node.span, message, Some(format!("write it without quotes: `{key}: {}`", scalar.text)));
                None
            }
            None => {
                self.must_be(key, node);
                None
            }
        }
    }

    /// `true` or `false`, in any case.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let (scalar, node) = self.scalar(key)?;
        match scalar.text.to_ascii_lowercase().as_str() {
            "true" if scalar.kind == Kind::Bool || node.lenient => Some(true),
            "false" if scalar.kind == Kind::Bool || node.lenient => Some(false),
            "true" | "false" | "yes" | "no" | "on" | "off" => {
                let meant = matches!(scalar.text.to_ascii_lowercase().as_str(), "true" | "yes" | "on");
                let message = format!("`{key}` must be {}", keys::key(key).takes);
                self.fault(key, node.span, message, Some(format!("write `{key}: {meant}`")));
                None
            }
            _ => {
                self.must_be(key, &node);
                None
            }
        }
    }

    /// One of some words, in any case.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let (scalar, node) = self.scalar(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&scalar.text)) {
            return Some(*choice);
        }
        match super::nearest::nearest(&scalar.text, choices.iter().map(|(name, _)| *name)) {
            Some(name) => {
                let message = format!("`{key}` must be {}", keys::key(key).takes);
                self.fault(key, node.span, message, Some(format!("did you mean `{key}: {name}`?")));
            }
            None => self.must_be(key, &node),
        }
        None
    }

    /// The entries of a map of names, each name checked; an empty one if there is none.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(super::tree::Key, Node)> {
        let Some(node) = self.given(key) else { return Vec::new() };
        let Value::Mapping(entries) = node.value else {
            self.must_be(key, &node);
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in entries {
            if is_name(&name.text) {
                named.push((name, value));
            } else {
                let shown = super::error::shown(&name.text);
                let message = format!("`{shown}` in `{key}` is not a name");
                let hint = "a name is a letter or `_`, then letters, digits, `_` and `-`";
                self.fault(key, name.span, message, Some(hint.to_string()));
            }
        }
        named
    }
}

/// Whether inputs, side inputs and models may be called so: `[A-Za-z_][A-Za-z0-9_-]*`.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
