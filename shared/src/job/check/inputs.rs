//! What is processed, and what is read beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mltable;
use crate::job::dataset::{Contents, Dataset, DatasetId, DatasetRef, FromDataset, nearest_dataset};
use crate::job::error::shown;
use crate::job::mltable::MlTable;
use crate::job::nearest::listed;
use crate::job::paths;
use crate::job::reader::Reader;
use crate::job::source::Span;
use crate::job::spec::{Input, InputType, ReadCsv};
use crate::job::tree::{Node, Value};
use crate::uri::Uri;

/// What is processed.
pub(super) struct Inputs {
    pub(super) inputs: Vec<Input>,
    /// None: it is at fault.
    pub(super) input_type: Option<InputType>,
    /// How the dataset or the `MLTable` among them is read.
    pub(super) read_csv: Option<ReadCsv>,
    /// What the `MLTable` among them says.
    pub(super) mltable: Option<MlTable>,
    /// Names in the job file that became several inputs, so that they stand for no path.
    pub(super) several: Vec<String>,
}

/// Reads `inputs` and `input_type`.
pub(super) fn read(reader: &mut Reader) -> Inputs {
    let input_type = input_type(reader);
    let mut read = Inputs { inputs: Vec::new(), input_type, read_csv: None, mltable: None, several: Vec::new() };
    let mut kind: Option<(DatasetId, InputType, Option<ReadCsv>)> = None;
    let mut groups: Vec<(String, Node, String, Vec<Input>)> = Vec::new();
    for (key, name, item) in entries(reader) {
        match input(reader, &key, &item, input_type) {
            Some(Given::Path(path)) => {
                let input = Input { name: name.clone(), path, dataset: None };
                groups.push((key, item, name, vec![input]));
            }
            Some(Given::Dataset(dataset)) => {
                fits(reader, &key, item.span, &dataset, input_type, &kind);
                let inputs = dataset.inputs(&name);
                groups.push((key, item, name, inputs));
                kind.get_or_insert((dataset.id, dataset.input_type, dataset.read_csv));
            }
            None => {}
        }
    }
    if let Some((_, input_type, read_csv)) = kind {
        read.input_type = read.input_type.map(|_| input_type);
        read.read_csv = read_csv;
    }
    if read.input_type == Some(InputType::Mltable) {
        mltable::replace(reader, &mut read, &mut groups);
    } else if let Some(node) = reader.given("mltable") {
        match crate::job::mltable::from_node(&node) {
            Some(mltable) => read.mltable = Some(mltable),
            None => reader.must_be("mltable", &node),
        }
    }
    for (key, item, name, inputs) in groups {
        if inputs.len() != 1 {
            read.several.push(name);
        }
        push(reader, &mut read, &key, &item, inputs);
    }
    recorded(reader, &mut read.inputs);
    read
}

/// Takes inputs up, whose names must be new: those of a dataset with several paths are made here.
fn push(reader: &mut Reader, read: &mut Inputs, key: &str, node: &Node, inputs: Vec<Input>) {
    for input in inputs {
        if read.inputs.iter().any(|other| other.name == input.name) {
            let message = format!("`{key}`: there are two inputs called `{}`", input.name);
            let hint = "a dataset or an MLTable with several paths becomes inputs called `<name>-1`, `<name>-2`, …: call it otherwise";
            reader.fault(key, node.span, message, Some(hint.to_string()));
            return;
        }
        read.inputs.push(input);
    }
}

/// Refuses a dataset that is of another kind than the job says, or than the dataset before it.
fn fits(
    reader: &mut Reader,
    key: &str,
    span: Span,
    dataset: &Dataset,
    input_type: Option<InputType>,
    before: &Option<(DatasetId, InputType, Option<ReadCsv>)>,
) {
    let (id, kind) = (&dataset.id, dataset.input_type);
    if let Some(given) = reader.given("input_type") {
        if let Some(input_type) = input_type.filter(|given| *given != kind) {
            let message =
                format!("`{id}` is registered as `{}`, and `input_type` says `{}`", kind.name(), input_type.name());
            let hint = "remove `input_type`: a registered dataset carries its own";
            reader.fault("input_type", given.span, message, Some(hint.to_string()));
        }
        return;
    }
    let Some((other, other_kind, read_csv)) = before else { return };
    let message = if *other_kind != kind {
        format!("`{id}` is registered as `{}`, and `{other}` as `{}`", kind.name(), other_kind.name())
    } else if *read_csv != dataset.read_csv {
        format!("`{id}` is registered with another `read_csv` than `{other}`")
    } else {
        return;
    };
    reader.fault(key, span, message, Some("the inputs of a job are of one kind: make a job of each".to_string()));
}

/// Takes up what a resolved job says of the datasets that its inputs came from.
fn recorded(reader: &mut Reader, inputs: &mut [Input]) {
    for (name, node) in reader.named("input_datasets") {
        let input = inputs.iter_mut().find(|input| input.name == name.text);
        match (input, from_dataset(&node)) {
            (Some(input), Some(from)) => input.dataset = Some(from),
            _ => {
                reader.must_be("input_datasets", &node);
                return;
            }
        }
    }
}

fn from_dataset(node: &Node) -> Option<FromDataset> {
    let Value::Mapping(entries) = &node.value else { return None };
    let text = |name: &str| {
        let (_, value) = entries.iter().find(|(key, _)| key.text == name)?;
        value.scalar().map(|scalar| scalar.text.as_str())
    };
    let DatasetRef { name, version: Some(version) } = DatasetRef::parse(text("dataset")?)? else { return None };
    let (files, bytes) = (text("files")?.parse().ok()?, text("bytes")?.parse().ok()?);
    let contents = Contents { files, bytes, fingerprint: text("fingerprint")?.into() };
    let path = text("path").map(str::to_string);
    Some(FromDataset { dataset: DatasetId { name, version }, contents, path })
}

/// Reads the paths of a dataset that is to be registered, and their kind.
pub(super) fn paths_of_dataset(reader: &mut Reader) -> (Vec<String>, Option<InputType>) {
    let input_type = input_type(reader);
    let Some(Value::Sequence(items)) = reader.given("inputs").map(|node| node.value) else { return (Vec::new(), None) };
    let paths = items.iter().filter_map(|item| match input(reader, "--path", item, input_type)? {
        Given::Path(path) => Some(path),
        Given::Dataset(_) => None,
    });
    let paths: Vec<String> = paths.collect();
    if input_type == Some(InputType::Mltable) {
        for (path, item) in paths.iter().zip(&items) {
            mltable::read(reader, "--path", item.span, path);
        }
    }
    (paths, input_type)
}

/// Reads `side_inputs` or `models`: names and what exists under them.
pub(super) fn side(reader: &mut Reader, key: &'static str) -> BTreeMap<String, PathBuf> {
    let mut paths = BTreeMap::new();
    for (name, node) in reader.named(key) {
        let full = format!("{key}.{}", name.text);
        let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
        if Uri::is_meant(typed) {
            paths.extend(address(reader, &full, &node, typed).map(|uri| (name.text, PathBuf::from(uri.to_string()))));
            continue;
        }
        if reader.world.look && DatasetRef::is_versioned(typed) && !paths::absolute(&reader.world.base, typed).exists()
        {
            let message = format!("`{}` can't be used in `{key}`: registered datasets are for `inputs`", shown(typed));
            reader.fault(&full, node.span, message, Some("give the path of the file or folder".to_string()));
        } else if let Some(path) = paths::existing(reader, &full, &node) {
            paths.insert(name.text, path);
        }
    }
    paths
}

/// The key, the name and the value of each input, as written.
fn entries(reader: &mut Reader) -> Vec<(String, String, Node)> {
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
    entries
}

/// What an input names.
enum Given {
    Path(String),
    Dataset(Dataset),
}

fn input(reader: &mut Reader, key: &str, node: &Node, input_type: Option<InputType>) -> Option<Given> {
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
    if Uri::is_meant(typed) {
        let uri = match input_type {
            // A file of a known name is looked for in it.
            Some(InputType::Mltable) => any_address(reader, key, node, typed),
            _ => address(reader, key, node, typed),
        };
        return uri.map(|uri| Given::Path(uri.to_string()));
    }
    let exists = paths::absolute(&reader.world.base, typed).exists();
    if is_glob(typed) && paths::scheme(typed).is_none() && !exists {
        // Whether it matches anything is known when the items are listed.
        let path = paths::local(reader, key, node)?;
        return utf8(reader, key, node, &path).map(Given::Path);
    }
    // What lies there goes before a dataset of that name: a job file that has worked goes on to mean the same.
    if reader.world.datasets.is_some()
        && !exists
        && let Some(wanted) = DatasetRef::parse(typed)
    {
        return dataset(reader, key, node, &wanted).map(Given::Dataset);
    }
    let path = paths::existing(reader, key, node)?;
    utf8(reader, key, node, &path).map(Given::Path)
}

/// The address that `typed` is, of what can be read. Whether anything lies there is known when the items are listed, or the node is made ready.
pub(super) fn address(reader: &mut Reader, key: &str, node: &Node, typed: &str) -> Option<Uri> {
    let uri = any_address(reader, key, node, typed)?;
    if uri.is_of_web_server() && (typed.ends_with('/') || uri.path().is_empty()) {
        return folder_of_web_server(reader, key, node, typed);
    }
    Some(uri)
}

/// Refuses `typed`: a web server would send a page about it, and that would count as data.
pub(super) fn folder_of_web_server<T>(reader: &mut Reader, key: &str, node: &Node, typed: &str) -> Option<T> {
    let message = format!("`{key}`: `{}` is a folder, and a web server can't be asked what is in it", shown(typed));
    let hint = format!("name each file, for example `{}/a.csv`", shown(typed.trim_end_matches('/')));
    reader.fault(key, node.span, message, Some(hint));
    None
}

/// The address that `typed` is.
fn any_address(reader: &mut Reader, key: &str, node: &Node, typed: &str) -> Option<Uri> {
    match Uri::parse(typed) {
        Ok(uri) => Some(uri),
        Err(error) => {
            let message = match error.secret {
                true => format!("`{key}`: the address can't be used: {error}"),
                false => format!("`{key}`: `{}` can't be used: {error}", shown(typed)),
            };
            reader.fault(key, node.span, message, Some(error.hint));
            None
        }
    }
}

/// The version of a registered dataset that `wanted` means.
fn dataset(reader: &mut Reader, key: &str, node: &Node, wanted: &DatasetRef) -> Option<Dataset> {
    let datasets = reader.world.datasets?;
    let typed = node.scalar().map_or("", |scalar| scalar.text.as_str());
    let (message, hint) = match datasets.find(wanted) {
        Ok(Some(dataset)) => return Some(dataset),
        Err(failure) => (format!("`{key}`: {}", failure.one_line()), failure.hint()),
        Ok(None) => {
            let names = datasets.names();
            let path = paths::absolute(&reader.world.base, typed);
            let hint = match nearest_dataset(&wanted.name, &names) {
                Some(near) if !path.is_symlink() => {
                    format!("did you mean the dataset `{}`?", typed.replacen(&wanted.name, near, 1))
                }
                _ if !DatasetRef::is_versioned(typed) => paths::near(&path, typed, &reader.world.base),
                _ if names.is_empty() => {
                    format!(
                        "`fanfold dataset register {} --path PATH` registers one; or give the path of the data",
                        wanted.name
                    )
                }
                _ => format!("registered are {}", listed(names.iter().map(String::as_str))),
            };
            let message = match DatasetRef::is_versioned(typed) {
                true => format!("`{key}`: no dataset is registered as `{}`", wanted.name),
                false => format!("`{key}`: there is no file, folder or registered dataset `{typed}`"),
            };
            (message, Some(hint))
        }
    };
    reader.fault(key, node.span, message, hint);
    None
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
        "mltable" => return Some(InputType::Mltable),
        "json" | "ndjson" | "json_lines" | "jsonlines" => "write `input_type: jsonl`: each line is an object in JSON",
        "delimited" | "tabular" | "table" => "write `input_type: csv`; `read_csv: {sep: \";\"}` for another delimiter",
        "pq" => "write `input_type: parquet`",
        "file" | "uri_file" | "uri_folder" | "folder" => "write `input_type: files`: each file is an item",
        "line" | "text" | "txt" | "list" => "write `input_type: lines`: each line of a list file is an item",
        _ => {
            let names = ["files", "lines", "csv", "tsv", "jsonl", "parquet", "mltable"].map(|name| (name, ()));
            reader.choice("input_type", &names);
            return None;
        }
    };
    let message = format!("`input_type` must be {}", crate::job::keys::key("input_type").takes);
    reader.fault("input_type", node.span, message, Some(hint.to_string()));
    None
}
