//! `paths` of an `MLTable`: where its data lies.

use std::path::{Path, PathBuf};

use crate::job::check::inputs;
use crate::job::error::shown;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::tree::{Node, Value};
use crate::uri::Uri;

const KINDS: [&str; 3] = ["file", "folder", "pattern"];

/// The folder of an `MLTable`, at which relative paths start.
pub(super) enum Base {
    /// Absolute.
    Folder(PathBuf),
    /// At an address.
    Address(Uri),
}

/// Reads `paths`.
pub(super) fn read(reader: &mut Reader, base: &Base, node: &Node) -> Vec<String> {
    let example = || Some("for example `- file: ./data.csv`, `- folder: ./data` or `- pattern: ./*.csv`".to_string());
    let items = match &node.value {
        Value::Sequence(items) if !items.is_empty() => items,
        _ => {
            reader.fault("paths", node.span, "`paths` must be a list of at least one path".into(), example());
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let key = format!("paths[{at}]");
        let one = match &item.value {
            Value::Mapping(entries) => match entries.as_slice() {
                [(kind, path)] => Some((kind, path)),
                _ => None,
            },
            _ => None,
        };
        let Some((kind, path)) = one else {
            let message = format!("`{key}` must be one of `file:`, `folder:` and `pattern:`, and what it names");
            reader.fault(&key, item.span, message, example());
            continue;
        };
        if !KINDS.contains(&kind.text.as_str()) {
            let message = format!("`{key}`: a path is no `{}`", shown(&kind.text));
            reader.fault(&key, kind.span, message, Some(super::instead(&kind.text, &KINDS)));
            continue;
        }
        read.extend(place(reader, base, &format!("{key}.{}", kind.text), &kind.text, path));
    }
    read
}

/// The input that a path of an `MLTable` is: the one place where it is decided what such a path may be.
fn place(reader: &mut Reader, base: &Base, key: &str, kind: &str, node: &Node) -> Option<String> {
    let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
    if Uri::is_meant(typed) {
        let uri = inputs::address(reader, key, node, typed)?;
        if kind == "folder" && uri.is_of_web_server() {
            return inputs::folder_of_web_server(reader, key, node, typed);
        }
        return Some(uri.to_string());
    }
    let base = match base {
        Base::Folder(base) => base,
        Base::Address(base) => return below(reader, base, key, kind, node),
    };
    let path = paths::local_from(reader, base, key, node)?;
    let fault = match kind {
        "pattern" => None,
        _ if !path.exists() => {
            Some((format!("`{key}`: there is no `{}`", shown(typed)), paths::near(&path, typed, base)))
        }
        "file" if path.is_dir() => {
            Some((format!("`{key}`: `{}` is a folder", shown(typed)), format!("write `- folder: {typed}`")))
        }
        "folder" if path.is_file() => {
            Some((format!("`{key}`: `{}` is a file", shown(typed)), format!("write `- file: {typed}`")))
        }
        _ => None,
    };
    if let Some((message, hint)) = fault {
        reader.fault(key, node.span, message, Some(hint));
        return None;
    }
    let Some(text) = path.to_str() else {
        let hint = "rename that folder, or move the MLTable".to_string();
        reader.fault(key, node.span, format!("`{key}`: `{}` is not UTF-8", path.display()), Some(hint));
        return None;
    };
    // A folder that is called like a pattern is none.
    match (kind, path.strip_prefix(base).ok().and_then(Path::to_str), base.to_str()) {
        ("pattern", Some(pattern), Some(base)) => Some(format!("{}/{pattern}", as_it_is(base))),
        _ => Some(text.to_string()),
    }
}

/// What a path means in an `MLTable` whose folder is the address `base`. Whether anything lies there is known when the items are listed.
fn below(reader: &mut Reader, base: &Uri, key: &str, kind: &str, node: &Node) -> Option<String> {
    let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
    let mut parts: Vec<String> = base.path().split('/').filter(|part| !part.is_empty()).map(str::to_string).collect();
    if kind == "pattern" {
        parts.iter_mut().for_each(|part| *part = as_it_is(part));
    }
    let mut inside = !typed.is_empty() && !typed.starts_with(['/', '~']);
    for part in typed.split('/') {
        match part {
            "" | "." => {}
            ".." => inside &= parts.pop().is_some(),
            part => parts.push(part.to_string()),
        }
    }
    if !inside {
        let message = format!("`{key}`: `{}` means nothing at `{base}`, where its MLTable lies", shown(typed));
        let hint = "write a path that starts at the folder of the MLTable, such as `./data.csv`, or a whole address";
        reader.fault(key, node.span, message, Some(hint.to_string()));
        return None;
    }
    let uri = base.with_path(parts.join("/"));
    if uri.is_of_web_server() && (kind == "folder" || typed.ends_with('/')) {
        return inputs::folder_of_web_server(reader, key, node, &uri.to_string());
    }
    Some(uri.to_string())
}

/// A path as a pattern that matches nothing else.
fn as_it_is(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' => pattern.extend(['[', c, ']']),
            _ => pattern.push(c),
        }
    }
    pattern
}
