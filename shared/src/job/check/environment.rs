//! Which Python runs the script.

use std::path::{Path, PathBuf};

use super::conda;
use crate::job::error::shown;
use crate::job::nearest::nearest;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::spec::Environment;
use crate::job::tree::{Key, Node, Value};

const KEY: &str = "environment";

/// The interpreter unless the job names one.
pub(super) const PYTHON: &str = "python3";

/// Reads `environment`.
pub(super) fn read(reader: &mut Reader) -> Environment {
    let default = Environment::Python(PYTHON.into());
    let Some(node) = reader.given(KEY) else { return default };
    let Value::Mapping(entries) = &node.value else {
        let typed = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
        match guess(&typed) {
            Some(meant) => {
                let message = format!("`{KEY}` must be {}, not text", crate::job::keys::key(KEY).takes);
                reader.fault(KEY, node.span, message, Some(format!("write `{KEY}: {{{meant}: {}}}`", shown(&typed))));
            }
            None => reader.must_be(KEY, &node),
        }
        return default;
    };
    const KNOWN: [&str; 4] = ["python", "requirements", "conda_file", "base"];
    for (key, _) in entries.iter().filter(|(key, _)| !KNOWN.contains(&key.text.as_str())) {
        let hint = match nearest(&key.text, KNOWN) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`environment` takes one of `python`, `requirements` and `conda_file`".into(),
        };
        let message = format!("unknown key `{KEY}.{}`", shown(&key.text));
        reader.fault(&format!("{KEY}.{}", key.text), key.span, message, Some(hint));
    }
    let of = |name: &str| entries.iter().find(|(key, value)| key.text == name && !value.is_null());
    match (of("python"), of("requirements"), of("conda_file")) {
        (python, Some(requirements), None) => requirements_of(reader, &requirements.1, python, of("base")),
        (Some(python), None, None) => match interpreter(reader, &python.1) {
            Some(python) => Environment::Python(python),
            None => default,
        },
        (None, None, Some(conda_file)) => conda::read(reader, &conda_file.1).unwrap_or(default),
        // An unknown key has been named already.
        (None, None, None) if entries.iter().any(|(key, _)| !KNOWN.contains(&key.text.as_str())) => default,
        (None, None, None) => {
            let message = format!("`{KEY}` says nothing");
            let hint = "give one of `python`, `requirements` and `conda_file`, or leave `environment` out".to_string();
            reader.fault(KEY, node.span, message, Some(hint));
            default
        }
        (_, _, Some((conda_file, _))) => {
            exclusive(reader, conda_file);
            default
        }
    }
}

fn exclusive(reader: &mut Reader, key: &Key) {
    let message = "`conda_file` stands alone: `python` and `requirements` are in it".to_string();
    let hint = "keep exactly one of `python`, `requirements` and `conda_file`".to_string();
    reader.fault("environment.conda_file", key.span, message, Some(hint));
}

/// `python: …`: a path relative to the job file, or a name to be found on PATH.
fn interpreter(reader: &mut Reader, node: &Node) -> Option<PathBuf> {
    let typed = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
    let key = "environment.python";
    if typed.is_empty() || typed.contains('/') || typed.contains('\0') {
        if !reader.world.here && !typed.is_empty() && !typed.contains('\0') {
            return Some(paths::absolute(&reader.world.base, &typed));
        }
        let path = paths::existing(reader, key, node)?;
        if reader.world.look && path.is_dir() {
            let inside = path.join("bin/python");
            let hint = match inside.exists() {
                true => format!("did you mean `{}`?", Path::new(&typed).join("bin/python").display()),
                false => "give the interpreter itself, for example `.venv/bin/python`".to_string(),
            };
            reader.fault(key, node.span, format!("`{key}` must be an interpreter, and this is a folder"), Some(hint));
            return None;
        }
        return Some(path);
    }
    if reader.world.look && reader.world.here && !on_path(reader, &typed) {
        let message = format!("`{key}`: there is no `{}` on PATH", shown(&typed));
        reader.fault(key, node.span, message, Some(pythons_hint(reader)));
        return None;
    }
    Some(typed.into())
}

/// `requirements: …`: a file, or a list.
fn requirements_of(
    reader: &mut Reader,
    node: &Node,
    python: Option<&(Key, Node)>,
    base: Option<&(Key, Node)>,
) -> Environment {
    let python = python.and_then(|(_, node)| interpreter(reader, node)).unwrap_or_else(|| PYTHON.into());
    let key = "environment.requirements";
    let start = base.and_then(|(_, node)| paths::existing(reader, "environment.base", node));
    let start = start.unwrap_or_else(|| reader.world.base.clone());
    let (lines, base) = match &node.value {
        Value::Sequence(items) => (lines(reader, key, items), start),
        Value::Mapping(_) => {
            let hint = "give a file, or a list: `requirements: [numpy, pillow==11.0]`".to_string();
            reader.fault(key, node.span, format!("`{key}` must be a file or a list, not a mapping"), Some(hint));
            (Vec::new(), start)
        }
        Value::Scalar(scalar) => {
            let path = paths::absolute(&reader.world.base, &scalar.text);
            if looks_like_requirement(&scalar.text) && !path.exists() {
                let message = format!("`{key}`: there is no file `{}`", shown(&scalar.text));
                let hint = format!("if it is a package, make it a list: `requirements: [\"{}\"]`", shown(&scalar.text));
                reader.fault(key, node.span, message, Some(hint));
                (Vec::new(), start)
            } else {
                let file = paths::existing(reader, key, node);
                let folder = file.as_deref().and_then(Path::parent).map(Path::to_path_buf);
                (file.map_or(Vec::new(), |file| file_lines(reader, key, node, &file)), folder.unwrap_or(start))
            }
        }
    };
    Environment::Requirements { lines, python, base }
}

/// The items of a list of requirements.
pub(super) fn lines(reader: &mut Reader, key: &str, items: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    for item in items {
        match item.scalar() {
            Some(scalar) if !scalar.text.trim().is_empty() && !scalar.text.contains(['\n', '\0']) => {
                lines.push(scalar.text.clone());
            }
            _ => {
                let message = format!("an item of `{key}` must be one line of a requirements file");
                reader.fault(key, item.span, message, Some("for example `pillow==11.0`".to_string()));
            }
        }
    }
    lines
}

fn file_lines(reader: &mut Reader, key: &str, node: &Node, file: &Path) -> Vec<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => text.trim_start_matches('\u{feff}').lines().map(str::to_string).collect(),
        Err(error) => {
            let message = format!("`{key}`: cannot read `{}`: {}", file.display(), error.kind());
            let hint = "give a requirements file in UTF-8 that can be read".to_string();
            reader.fault(key, node.span, message, Some(hint));
            Vec::new()
        }
    }
}

/// A package's name with or without a version, rather than a file's.
fn looks_like_requirement(text: &str) -> bool {
    !text.contains('/') && !text.ends_with(".txt") && !text.ends_with(".in") && !text.is_empty()
}

/// Which key of `environment` a text alone was meant for.
fn guess(text: &str) -> Option<&'static str> {
    let name = Path::new(text).file_name()?.to_str()?;
    if name.starts_with("python") || text.contains("/bin/") {
        Some("python")
    } else if name.ends_with(".txt") {
        Some("requirements")
    } else if name.ends_with(".yml") || name.ends_with(".yaml") {
        Some("conda_file")
    } else {
        None
    }
}

/// Whether PATH has an executable file of that name.
pub(super) fn on_path(reader: &Reader, name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(&reader.world.search_path).any(|folder| {
        std::fs::metadata(folder.join(name))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// The interpreters that PATH has.
pub(super) fn pythons_hint(reader: &Reader) -> String {
    let mut names: Vec<String> = (6..40).map(|minor| format!("python3.{minor}")).collect();
    names.push(PYTHON.into());
    names.retain(|name| on_path(reader, name));
    match names.is_empty() {
        true => "PATH has no python3 at all: install one, or give its path with `python:`".into(),
        false => format!(
            "PATH has {}; install the other, or give its path with `python:`",
            crate::job::nearest::listed(names.iter().map(String::as_str))
        ),
    }
}
