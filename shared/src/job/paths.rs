//! Paths of a job file: relative to its folder, local, and with the nearest thing that exists if they don't.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::shown;
use super::nearest::{listed, nearest};
use super::reader::Reader;
use super::tree::Node;
use crate::uri::SCHEMES;

/// Entries of a folder that are compared with a path that does not exist.
const SIBLINGS_MAX: usize = 10_000;

/// The absolute path that a value of `key` names, which need not exist; None, and a fault, if it can't name a local path.
pub(crate) fn local(reader: &mut Reader, key: &str, node: &Node) -> Option<PathBuf> {
    let base = reader.world.base.clone();
    local_from(reader, &base, key, node)
}

/// The same, where relative paths start at the folder `base`.
pub(crate) fn local_from(reader: &mut Reader, base: &Path, key: &str, node: &Node) -> Option<PathBuf> {
    let text = match node.scalar() {
        Some(scalar) if !scalar.text.is_empty() => scalar.text.clone(),
        _ => {
            let message = format!("`{key}` must be a path, not {}", node.kind_name_of_path());
            reader.fault(key, node.span, message, Some(path_hint(node)));
            return None;
        }
    };
    if text.contains('\0') {
        reader.fault(key, node.span, format!("`{key}` holds a NUL character"), Some("a path has none".to_string()));
        return None;
    }
    if let Some(scheme) = scheme(&text) {
        let message = format!("`{}` can't be used: `{key}` takes paths, not `{scheme}:`", shown(&text));
        let hint = match scheme {
            "file" => format!("write the path alone: `{}`", text.trim_start_matches("file:").replacen("//", "", 1)),
            _ if key == "output" => format!("there are {SCHEMES}; or give a path on this machine"),
            _ => format!("there are {SCHEMES}; or copy or mount the data on this machine and give that path"),
        };
        reader.fault(key, node.span, message, Some(hint));
        return None;
    }
    Some(absolute(base, &text))
}

/// The same, for something that must exist (unless nothing is looked for).
pub(crate) fn existing(reader: &mut Reader, key: &str, node: &Node) -> Option<PathBuf> {
    let path = local(reader, key, node)?;
    if reader.world.look && !path.exists() {
        let typed = node.scalar().map_or("", |scalar| &scalar.text);
        let message = format!("`{key}`: there is no `{}`", shown(typed));
        reader.fault(key, node.span, message, Some(near(&path, typed, &reader.world.base)));
        return None;
    }
    Some(path)
}

/// `text` from `base` on, without `.`, doubled slashes, and those `..` that can be taken away safely.
pub(crate) fn absolute(base: &Path, text: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in base.join(text).components() {
        match component {
            // `link/..` is not the folder that holds `link`.
            Component::ParentDir if clean.file_name().is_some() && !clean.is_symlink() => {
                clean.pop();
            }
            // Above the root is the root.
            Component::ParentDir if clean.parent().is_none() => {}
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// The scheme of a URI: `s3` of `s3://bucket/key`, and `azureml` of `azureml:data:1`.
pub(crate) fn scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let word = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    (word && (rest.starts_with("//") || scheme == "azureml")).then_some(scheme)
}

/// What may be meant by a path that does not exist.
pub(crate) fn near(path: &Path, typed: &str, base: &Path) -> String {
    if let Some(rest) = typed.strip_prefix("~/")
        && let Some(home) = std::env::home_dir()
    {
        return format!("`~` is not expanded here: write `{}`", home.join(rest).display());
    }
    // The deepest folder that exists, and what is missing in it.
    let mut missing = path;
    while let Some(parent) = missing.parent() {
        if parent.is_dir() {
            break;
        }
        missing = parent;
    }
    let (Some(folder), Some(name)) = (missing.parent(), missing.file_name()) else {
        return "give a path that exists".into();
    };
    if let Ok(target) = fs::read_link(missing) {
        return format!("`{}` is a link to `{}`, which is not there", missing.display(), target.display());
    }
    let name = name.to_string_lossy();
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(SIBLINGS_MAX)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // Nobody looks for a hidden one, and a name must not drive the terminal.
        .filter(|name| !name.starts_with('.') && !name.contains(char::is_control))
        .collect();
    names.sort();
    let relative = |path: &Path| {
        let shorter = if Path::new(typed).is_absolute() { path } else { path.strip_prefix(base).unwrap_or(path) };
        shorter.display().to_string()
    };
    if let Some(found) = nearest(&name, names.iter().map(String::as_str)) {
        let rest = path.strip_prefix(missing).ok().filter(|rest| !rest.as_os_str().is_empty());
        let found = rest.map_or(folder.join(found), |rest| folder.join(found).join(rest));
        return format!("did you mean `{}`?", relative(&found));
    }
    match names.is_empty() {
        true => format!("`{}` is empty", folder.display()),
        false => format!("`{}` holds {}", folder.display(), listed(names.iter().map(|name| name.as_str()))),
    }
}

/// The path inside a value that another system would take: `{type: uri_folder, path: data}`.
fn path_hint(node: &Node) -> String {
    if let super::tree::Value::Mapping(entries) = &node.value
        && let Some((_, value)) = entries.iter().find(|(key, _)| key.text == "path")
        && let Some(scalar) = value.scalar()
    {
        return format!("write the path alone: `{}`", shown(&scalar.text));
    }
    "give one path; relative ones start at the folder of the job file".into()
}

impl Node {
    fn kind_name_of_path(&self) -> &'static str {
        match self.scalar() {
            Some(_) => "nothing",
            None => self.kind_name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_dots_but_not_across_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/usr/lib", base.join("link")).unwrap();
        assert_eq!(absolute(&base, "./a//b/../c/"), base.join("a/c"));
        assert_eq!(absolute(&base, "/x/../../y"), Path::new("/y"));
        assert_eq!(absolute(&base, "link/../x"), base.join("link/../x"));
    }

    #[test]
    fn only_uris_have_a_scheme() {
        assert_eq!(scheme("s3://b/k"), Some("s3"));
        assert_eq!(scheme("azureml:iris@latest"), Some("azureml"));
        for path in ["data:3", "a/b://c", "C:", "", "://"] {
            assert_eq!(scheme(path), None, "{path}");
        }
    }
}
