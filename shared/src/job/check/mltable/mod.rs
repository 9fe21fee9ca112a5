//! `input_type: mltable`: an `MLTable` file becomes the inputs, the kind and the form of files that it names.
//!
//! The file follows the schema of Azure ML's `mltable` 1.7. Understood is what has an exact meaning here; what only describes the table is
//! taken silently; everything else is refused by name, in the line where it stands.

mod paths;
mod reads;
mod steps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::inputs::Inputs;
use crate::job::error::shown;
use crate::job::mltable::{MLTABLE, MlTable};
use crate::job::nearest::nearest;
use crate::job::reader::Reader;
use crate::job::source::{Origin, Span};
use crate::job::spec::{Input, InputType, ReadCsv};
use crate::job::tree::{self, Node, Value};
use crate::uri::Uri;
use paths::Base;

/// An `MLTable` file larger than this is something else, bytes.
const FILE_MAX: u64 = 1 << 20;

/// What may stand at the top. Keys that only describe the table are among them.
const KEYS: [&str; 6] = ["type", "paths", "transformations", "traits", "metadata", "$schema"];

/// What an `MLTable` says.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Absolute: files, folders and patterns, in its order.
    paths: Vec<String>,
    /// What its files are.
    input_type: InputType,
    /// How they are read, if they are delimited.
    read_csv: Option<ReadCsv>,
    /// The rest.
    mltable: MlTable,
}

/// What inputs of the job file became: the key, the value, the name, and the inputs.
pub(super) type Group = (String, Node, String, Vec<Input>);

/// Puts what the `MLTable` of each input says in its place.
pub(super) fn replace(reader: &mut Reader, read: &mut Inputs, groups: &mut [Group]) {
    let before = reader.errors.len();
    let mut first: Option<Table> = None;
    let tables: usize = groups.iter().map(|group| group.3.len()).sum();
    for (key, item, name, inputs) in groups.iter_mut() {
        let mut replaced = Vec::new();
        for mut input in std::mem::take(inputs) {
            let Some(mut table) = self::read(reader, key, item.span, &input.path) else { continue };
            if let Some(from) = &mut input.dataset {
                from.path = Some(input.path.clone());
            }
            for path in std::mem::take(&mut table.paths) {
                replaced.push(Input { path, ..input.clone() });
            }
            agrees(reader, key, item.span, &first, &table, tables);
            first.get_or_insert(table);
        }
        let one = replaced.len() == 1;
        for (at, input) in replaced.iter_mut().enumerate() {
            input.name = if one { name.clone() } else { format!("{name}-{}", at + 1) };
        }
        *inputs = replaced;
    }
    // What is at fault is told; the rest of the job file can't be judged by it.
    read.input_type = None;
    if let Some(table) = first.filter(|_| reader.errors.len() == before) {
        read.input_type = Some(table.input_type);
        read.read_csv = table.read_csv;
        read.mltable = Some(table.mltable);
    }
    if let Some(Value::Mapping(given)) = reader.given("read_csv").map(|node| node.value)
        && let Some((header, _)) = given.iter().find(|(key, _)| key.text == "header")
    {
        let message = "`read_csv` takes no `header` with `input_type: mltable`".to_string();
        let hint = "the MLTable says it, as `header` of `read_delimited`";
        reader.fault("read_csv", header.span, message, Some(hint.to_string()));
    }
    if let Some(node) = reader.given("partition_format") {
        let message = "`partition_format` has no meaning with `input_type: mltable`".to_string();
        let hint = "the MLTable says it, as `extract_columns_from_partition_format`";
        reader.fault("partition_format", node.span, message, Some(hint.to_string()));
    }
}

/// Refuses a table that is read in another way than the first.
fn agrees(reader: &mut Reader, key: &str, span: Span, first: &Option<Table>, table: &Table, tables: usize) {
    if tables > 1 && table.mltable.header_in_first_file {
        let message = format!("`{key}`: with `header: from_first_file` an MLTable is the only input of a job");
        let hint = "make a job of each, or give each file its header and write `header: all_files_same_headers`";
        reader.fault(key, span, message, Some(hint.to_string()));
    }
    let Some(first) = first else { return };
    if (first.input_type, &first.read_csv, &first.mltable) != (table.input_type, &table.read_csv, &table.mltable) {
        let message = format!("`{key}`: its MLTable reads its files in another way than the one before");
        let hint = "the inputs of a job are of one kind: make a job of each, or give both the same `transformations`";
        reader.fault(key, span, message, Some(hint.to_string()));
    }
}

/// Reads the `MLTable` that `path`, absolute or an address, is or holds. `span` is where the job file, or whoever registers it, names it.
pub(super) fn read(reader: &mut Reader, key: &str, span: Span, path: &str) -> Option<Table> {
    let before = reader.errors.len();
    let (file, text, base) = match Uri::is_meant(path) {
        true => {
            let (uri, text) = fetched(reader, key, span, path)?;
            (PathBuf::from(uri.to_string()), text, Base::Address(uri.split().0))
        }
        false => {
            let file = find(reader, key, span, Path::new(path))?;
            let text = text(reader, key, span, &file)?;
            let base = file.parent().unwrap_or(Path::new("/")).to_path_buf();
            (file, text, Base::Folder(base))
        }
    };
    let source = reader.sources.add(Origin::File(file.clone()), text);
    let root = tree::read(&reader.sources, source, &mut reader.errors);
    if reader.errors.len() > before {
        return None;
    }
    let all = Span { source, line: 1, column: 1, width: 1 };
    let entries = match root.map(|root| (root.is_null(), root.value)) {
        Some((false, Value::Mapping(entries))) => entries,
        _ => {
            let hint = "for example `type: mltable`, and `paths:` with `- file: ./data.csv`";
            reader.fault(key, all, "an MLTable is a mapping of keys to values".into(), Some(hint.to_string()));
            return None;
        }
    };
    let mut found = None;
    let mut steps = steps::Steps::default();
    for (name, node) in entries {
        match name.text.as_str() {
            "traits" | "metadata" | "$schema" => {}
            "type" => {
                if node.scalar().is_none_or(|scalar| scalar.text != "mltable") {
                    let hint = "write `type: mltable`, or leave it out".to_string();
                    reader.fault("type", node.span, "`type` must be `mltable`".into(), Some(hint));
                }
            }
            "paths" => found = Some(paths::read(reader, &base, &node)),
            "transformations" => steps = steps::read(reader, &node),
            "query_source" => {
                let message = "`query_source` can't be used: fanfold reads files, not databases".to_string();
                let hint = "write what it selects into files, Parquet for example, and name these in `paths`";
                reader.fault("query_source", name.span, message, Some(hint.to_string()));
                found.get_or_insert_with(Vec::new);
            }
            other => {
                let message = format!("an MLTable has no key `{}`", shown(other));
                reader.fault(other, name.span, message, Some(instead(other, &KEYS)));
            }
        }
    }
    let Some(paths) = found else {
        let hint = "for example `paths:` with `- file: ./data.csv` below it".to_string();
        reader.fault("paths", all, "`paths` is missing".into(), Some(hint));
        return None;
    };
    let (input_type, read_csv, mltable) = steps.meaning();
    (reader.errors.len() == before).then_some(Table { paths, input_type, read_csv, mltable })
}

/// The nearest of what there is, or all of it.
fn instead(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is `{}`", known.join("`, `")),
    }
}

/// The address and the text of the `MLTable` that lies at `path`, or in it as in a folder.
fn fetched(reader: &mut Reader, key: &str, span: Span, path: &str) -> Option<(Uri, String)> {
    let objects = reader.world.objects?;
    let given: Uri = path.parse().ok()?;
    let uri = if given.file_name() == MLTABLE { given } else { given.join(MLTABLE) };
    let (message, hint) = match objects.object(&uri, FILE_MAX + 1) {
        Ok(Some(bytes)) => match as_text(bytes) {
            Ok(text) => return Some((uri, text)),
            Err((what, hint)) => (format!("`{key}`: `{uri}` {what}"), Some(hint.to_string())),
        },
        Ok(None) => {
            let hint = "with `input_type: mltable` an address is a folder that holds a file `MLTable`, or that file; for files without one write \
                        `input_type: csv`, `jsonl` or `parquet`";
            (format!("`{key}`: there is no `{uri}`"), Some(hint.to_string()))
        }
        Err(failure) => (format!("`{key}`: its MLTable can't be read: {}", failure.one_line()), failure.hint()),
    };
    reader.fault(key, span, message, hint);
    None
}

/// What an `MLTable` says as text; else what is wrong with it, and what to do.
fn as_text(bytes: Vec<u8>) -> Result<String, (String, &'static str)> {
    if bytes.len() as u64 > FILE_MAX {
        let what = format!("is larger than {} MiB", FILE_MAX >> 20);
        return Err((what, "an MLTable is a page of YAML that names the data"));
    }
    String::from_utf8(bytes).map_err(|_| ("is not UTF-8 text".to_string(), "save it as UTF-8"))
}

fn find(reader: &mut Reader, key: &str, span: Span, path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        let file = path.join(MLTABLE);
        if file.is_file() {
            return Some(file);
        }
        let names =
            fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let near = names.filter(|name| name.to_ascii_lowercase().starts_with("mltable")).min();
        let hint = match near {
            Some(near) => format!("the file is called `{MLTABLE}`, without an ending: rename `{}`", shown(&near)),
            None => {
                "name the folder that holds it; for files without one write `input_type: csv`, `jsonl` or `parquet`"
                    .into()
            }
        };
        let message = format!("`{key}`: the folder `{}` holds no file `{MLTABLE}`", path.display());
        reader.fault(key, span, message, Some(hint));
        return None;
    }
    if path.file_name().is_some_and(|name| name == MLTABLE) && path.is_file() {
        return Some(path.to_path_buf());
    }
    let message = format!("`{key}`: `{}` is neither a file `{MLTABLE}` nor a folder with one", path.display());
    let hint = "with `input_type: mltable` an input is a folder that holds a file `MLTable`, or that file";
    reader.fault(key, span, message, Some(hint.to_string()));
    None
}

fn text(reader: &mut Reader, key: &str, span: Span, file: &Path) -> Option<String> {
    let read = || -> io::Result<Vec<u8>> {
        use io::Read;
        let mut bytes = Vec::new();
        fs::File::open(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (what, hint) = match read() {
        Ok(bytes) => match as_text(bytes) {
            Ok(text) => return Some(text),
            Err(wrong) => wrong,
        },
        Err(error) => (format!("can't be read: {error}"), "check the owner and the mode of that file"),
    };
    reader.fault(key, span, format!("`{key}`: `{}` {what}", file.display()), Some(hint.to_string()));
    None
}
