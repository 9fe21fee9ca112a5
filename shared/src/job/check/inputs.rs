//! What is processed, and what is read beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::job::error::shown;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::spec::{Input, InputType};
use crate::job::tree::{Node, Value};

/// Reads `inputs` and `input_type`; the type is None if it is at fault.
pub(super) fn read(reader: &mut Reader) -> (Vec<Input>, Option<InputType>) {
    let input_type = input_type(reader);
    (inputs(reader), input_type)
}

/// Reads `side_inputs` or `models`: names and what exists under them.
pub(super) fn side(reader: &mut Reader, key: &'static str) -> BTreeMap<String, PathBuf> {
    let mut paths = BTreeMap::new();
    for (name, node) in reader.named(key) {
        let full = format!("{key}.{}", name.text);
        if let Some(path) = path(reader, &full, &node) {
            paths.insert(name.text, path);
        }
    }
    paths
}

fn inputs(reader: &mut Reader) -> Vec<Input> {
    let Some(node) = reader.given("inputs") else {
        // A job of `rank_mini_batch_count` needs none.
        if reader.given("rank_mini_batch_count").is_none() {
            reader.missing("inputs");
        }
        return Vec::new();
    };
    let entries: Vec<(String, String, Node)> = match &node.value {
        Value::Sequence(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| (format!("inputs[{i}]"), format!("input{i}"), item.clone()))
            .collect(),
        Value::Mapping(_) => reader
            .named("inputs")
            .into_iter()
            .map(|(name, item)| (format!("inputs.{}", name.text), name.text, item))
            .collect(),
        // One input needs no brackets.
        Value::Scalar(_) => vec![("inputs".into(), "input0".into(), node.clone())],
    };
    let empty = match &node.value {
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(items) => items.is_empty(),
        Value::Scalar(_) => false,
    };
    if empty {
        let hint = "for example `inputs: [images]`".to_string();
        reader.fault("inputs", node.span, "`inputs` is empty".into(), Some(hint));
    }
    let mut inputs = Vec::new();
    for (key, name, item) in entries {
        if let Some(path) = input(reader, &key, &item) {
            inputs.push(Input { name, path });
        }
    }
    inputs
}

fn input(reader: &mut Reader, key: &str, node: &Node) -> Option<String> {
    if let Value::Mapping(entries) = &node.value
        && let [(name, value)] = entries.as_slice()
        && let Some(path) = value.scalar()
        && name.text != "path"
    {
        let message = format!("`{key}` must be a path, not a mapping");
        let hint = format!("with names `inputs` is a map, without dashes: `inputs: {{{}: {}}}`", name.text, path.text);
        reader.fault(key, node.span, message, Some(hint));
        return None;
    }
    let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
    if is_glob(typed) && paths::scheme(typed).is_none() && !paths::absolute(&reader.world.base, typed).exists() {
        // Whether it matches anything is known when the items are listed.
        let path = paths::local(reader, key, node)?;
        return utf8(reader, key, node, &path);
    }
    let path = path(reader, key, node)?;
    utf8(reader, key, node, &path)
}

/// A path that exists. A word that is no path may be meant as a registered dataset.
fn path(reader: &mut Reader, key: &str, node: &Node) -> Option<PathBuf> {
    let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
    let exists = || paths::absolute(&reader.world.base, typed).exists();
    if reader.world.look && is_versioned_dataset(typed) && !exists() {
        let message = format!("`{}` can't be used: registered datasets are not available yet", shown(typed));
        let hint = "give the path of the data: a file, a folder or a glob".to_string();
        reader.fault(key, node.span, message, Some(hint));
        return None;
    }
    if reader.world.look && is_word(typed) && !exists() {
        let near = paths::near(&paths::absolute(&reader.world.base, typed), typed, &reader.world.base);
        let message =
            format!("`{key}`: there is no file or folder `{typed}`, and registered datasets are not available yet");
        reader.fault(key, node.span, message, Some(near));
        return None;
    }
    paths::existing(reader, key, node)
}

/// An input travels as text (it may be a glob).
fn utf8(reader: &mut Reader, key: &str, node: &Node, path: &Path) -> Option<String> {
    let text = path.to_str().map(str::to_string);
    if text.is_none() {
        let message = format!("`{key}`: `{}` is not UTF-8", path.display());
        reader.fault(
            key,
            node.span,
            message,
            Some("rename that folder, or give the input by another path".to_string()),
        );
    }
    text
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// `name:3` or `name@latest`.
fn is_versioned_dataset(text: &str) -> bool {
    match (text.split_once(':'), text.strip_suffix("@latest")) {
        (_, Some(name)) => is_word(name),
        (Some((name, version)), None) => {
            is_word(name) && !version.is_empty() && version.chars().all(|c| c.is_ascii_digit())
        }
        _ => false,
    }
}

fn input_type(reader: &mut Reader) -> Option<InputType> {
    let Some((scalar, node)) = reader.scalar("input_type") else {
        return reader.given("input_type").is_none().then_some(InputType::Files);
    };
    let word = scalar.text.to_ascii_lowercase();
    let hint = match word.as_str() {
        "files" => return Some(InputType::Files),
        "lines" => return Some(InputType::Lines),
        "csv" => return Some(InputType::Csv),
        "tsv" => return Some(InputType::Tsv),
        "jsonl" => return Some(InputType::Jsonl),
        "parquet" => return Some(InputType::Parquet),
        "mltable" => {
            let message =
                "`input_type: mltable` is not available yet: name the files that its `paths` name".to_string();
            let hint =
                "write `input_type: csv` (or `tsv`, `jsonl`, `parquet`), and what `read_delimited` says as `read_csv`";
            reader.fault("input_type", node.span, message, Some(hint.to_string()));
            return None;
        }
        "json" | "ndjson" | "json_lines" | "jsonlines" => "write `input_type: jsonl`: each line is an object in JSON",
        "delimited" | "tabular" | "table" => "write `input_type: csv`; `read_csv: {sep: \";\"}` for another delimiter",
        "pq" => "write `input_type: parquet`",
        "file" | "uri_file" | "uri_folder" | "folder" => "write `input_type: files`: each file is an item",
        "line" | "text" | "txt" | "list" => "write `input_type: lines`: each line of a list file is an item",
        _ => {
            let names = ["files", "lines", "csv", "tsv", "jsonl", "parquet"].map(|name| (name, ()));
            reader.choice("input_type", &names);
            return None;
        }
    };
    let message = format!("`input_type` must be {}", crate::job::keys::key("input_type").takes);
    reader.fault("input_type", node.span, message, Some(hint.to_string()));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_told_from_paths() {
        for dataset in ["iris:3", "iris@latest", "my-data_2:12"] {
            assert!(is_versioned_dataset(dataset), "{dataset}");
        }
        for path in ["iris", "a/b:3", "iris:", "iris:v1", "C:\\x", "@latest", "x@y"] {
            assert!(!is_versioned_dataset(path), "{path}");
        }
    }
}
