//! `conda_file`: the pip part of a conda environment, with the interpreter that its `python=` names. Packages that only
//! conda can install are refused by name.

use std::path::PathBuf;

use super::environment::{PYTHON, lines, on_path, pythons_hint};
use crate::job::error::shown;
use crate::job::nearest::listed;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::source::{Origin, Span};
use crate::job::spec::Environment;
use crate::job::tree::{self, Node, Value};

const KEY: &str = "environment.conda_file";

/// Reads the file that `node` names. Faults inside it point into it.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Environment> {
    let path = paths::existing(reader, KEY, node)?;
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("`{KEY}`: cannot read `{}`: {}", path.display(), error.kind());
            reader.fault(KEY, node.span, message, Some("give a conda environment file in UTF-8".to_string()));
            return None;
        }
    };
    let source = reader.sources.add(Origin::File(path.clone()), text);
    let root = tree::read(&reader.sources, source, &mut reader.errors)?;
    let Value::Mapping(entries) = &root.value else {
        let hint = "it starts with `dependencies:`; a pip requirements file goes to `requirements:`".to_string();
        reader.fault(KEY, root.span, "this is not a conda environment file".into(), Some(hint));
        return None;
    };
    if let Some((key, _)) = entries.iter().find(|(key, value)| key.text == "variables" && !value.is_null()) {
        let message = "`variables` of a conda file are not taken over".to_string();
        reader.fault(KEY, key.span, message, Some("put them under `environment_variables` of the job".to_string()));
    }
    let Some((_, dependencies)) = entries.iter().find(|(key, _)| key.text == "dependencies") else {
        let hint = "a conda environment file has a list `dependencies`, for example `dependencies: [python=3.11, pip]`";
        reader.fault(KEY, root.span, "this conda file has no `dependencies`".into(), Some(hint.to_string()));
        return None;
    };
    let Value::Sequence(items) = &dependencies.value else {
        reader.fault(
            KEY,
            dependencies.span,
            "`dependencies` must be a list".into(),
            Some("write `- pip`, …".to_string()),
        );
        return None;
    };
    let mut python = PathBuf::from(PYTHON);
    let mut requirements = Vec::new();
    let mut conda_only: Vec<(String, Span)> = Vec::new();
    for item in items {
        match &item.value {
            Value::Scalar(scalar) => {
                let (name, version) = package(&scalar.text);
                match name {
                    "python" => python = interpreter(reader, version, item)?,
                    // It is in every virtual environment.
                    "pip" => {}
                    _ => conda_only.push((name.to_string(), item.span)),
                }
            }
            Value::Mapping(parts) => {
                for (part, value) in parts {
                    match (&value.value, part.text.as_str()) {
                        (Value::Sequence(items), "pip") => requirements.extend(lines(reader, "pip", items)),
                        _ => {
                            let message = format!("`{}` in `dependencies` can't be installed", shown(&part.text));
                            reader.fault(
                                KEY,
                                part.span,
                                message,
                                Some("only a list `pip:` can stand here".to_string()),
                            );
                        }
                    }
                }
            }
            Value::Sequence(_) => {
                let hint = "write each package as an item of its own".to_string();
                reader.fault(KEY, item.span, "a list within `dependencies`".into(), Some(hint));
            }
        }
    }
    if let Some((_, first)) = conda_only.first() {
        let names = listed(conda_only.iter().map(|(name, _)| name.as_str()));
        let message = format!("conda is needed for {names}, and only the pip part of a conda file is installed");
        let hint = "move what pip can install into the `pip:` list; else create the environment with conda and give its \
                    interpreter: `environment: {python: /path/to/env/bin/python}`";
        reader.fault(KEY, *first, message, Some(hint.to_string()));
    }
    let base = path.parent().map_or(reader.world.base.clone(), |folder| folder.to_path_buf());
    Some(Environment::Requirements { lines: requirements, python, base })
}

/// Name and version of `channel::name=version`, `name 3.11`, `name>=3`; the version keeps its operator.
fn package(text: &str) -> (&str, &str) {
    let text = text.rsplit("::").next().unwrap_or(text).trim();
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// The interpreter for a conda version of Python; None, and a fault, if there is none.
fn interpreter(reader: &mut Reader, version: &str, item: &Node) -> Option<PathBuf> {
    let bare = version.trim_start_matches('=').trim();
    if bare.is_empty() {
        return Some(PYTHON.into());
    }
    // `3.11.4`, `3.11.*`, and a build string behind another `=`.
    let parts: Vec<&str> = bare.split('=').next().unwrap_or(bare).trim_end_matches(".*").split('.').collect();
    let exact =
        parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit())) && parts[0] == "3";
    if !exact {
        let message = format!("`python{}` does not name one version", shown(version));
        let hint = "write the version that the script needs, for example `python=3.11`".to_string();
        reader.fault(KEY, item.span, message, Some(hint));
        return None;
    }
    let name = match parts.get(1) {
        Some(minor) => format!("python3.{minor}"),
        None => PYTHON.to_string(),
    };
    if reader.world.look && reader.world.here && !on_path(reader, &name) {
        let message = format!("`{}` asks for `{name}`, which is not on PATH", shown(&format!("python{version}")));
        reader.fault(KEY, item.span, message, Some(pythons_hint(reader)));
        return None;
    }
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_fall_into_name_and_version() {
        assert_eq!(package("python=3.10"), ("python", "=3.10"));
        assert_eq!(package("conda-forge::numpy >=1.2,<2"), ("numpy", ">=1.2,<2"));
        assert_eq!(package("python 3.10"), ("python", "3.10"));
        assert_eq!(package("scikit-learn"), ("scikit-learn", ""));
    }
}
