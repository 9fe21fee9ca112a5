//! The transformation of an `MLTable` that reads its files: `read_delimited`, `read_parquet` or `read_json_lines`.

use std::collections::BTreeMap;

use super::steps;
use crate::job::check::table::one_character;
use crate::job::reader::Reader;
use crate::job::spec::{Dtypes, InputType, ReadCsv};
use crate::job::tree::{Key, Kind, Node, Value};

/// How the files are read.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) input_type: InputType,
    pub(super) read_csv: Option<ReadCsv>,
    pub(super) header_in_first_file: bool,
    pub(super) empty_as_string: bool,
    pub(super) include_path_column: bool,
}

const DELIMITED: [&str; 8] = [
    "delimiter",
    "header",
    "encoding",
    "support_multi_line",
    "empty_as_string",
    "include_path_column",
    "infer_column_types",
    "partition_size",
];
const JSON_LINES: [&str; 4] = ["invalid_lines", "encoding", "include_path_column", "partition_size"];
const PARQUET: [&str; 1] = ["include_path_column"];

/// Reads the step called `name`.
pub(super) fn read(reader: &mut Reader, name: &str, given: Option<&Node>) -> Reads {
    let (input_type, known) = match name {
        "read_delimited" => (InputType::Csv, &DELIMITED[..]),
        "read_json_lines" => (InputType::Jsonl, &JSON_LINES[..]),
        _ => (InputType::Parquet, &PARQUET[..]),
    };
    let read_csv = (input_type == InputType::Csv).then(|| ReadCsv::new(','));
    let mut reads =
        Reads { input_type, read_csv, header_in_first_file: false, empty_as_string: false, include_path_column: false };
    let entries = match given.map(|node| (node, &node.value)) {
        None => return reads,
        Some((_, Value::Mapping(entries))) => entries,
        Some((node, _)) => {
            let hint = format!("it takes `{}`", known.join("`, `"));
            reader.fault(name, node.span, format!("`{name}` must be a mapping, or stand alone"), Some(hint));
            return reads;
        }
    };
    for (key, node) in entries {
        if key.text == "path_column" {
            let hint = "remove it: `include_path_column: true` adds the path as the column `Path`".to_string();
            reader.fault(name, key.span, format!("`path_column` of `{name}` can't be used"), Some(hint));
        } else if !known.contains(&key.text.as_str()) {
            let message = format!("`{name}` takes no `{}`", crate::job::error::shown(&key.text));
            reader.fault(name, key.span, message, Some(super::instead(&key.text, known)));
        } else {
            reads.option(reader, key, node);
        }
    }
    reads
}

impl Reads {
    fn option(&mut self, reader: &mut Reader, key: &Key, node: &Node) {
        let name = key.text.as_str();
        if name == "encoding" {
            return self.encoding(reader, node);
        }
        match (name, self.read_csv.as_mut()) {
            ("delimiter", Some(csv)) => match one_character(node) {
                Some(sep) if Some(sep) != csv.quotechar => csv.sep = sep,
                _ => must_be(reader, name, node, "one character", "`delimiter: \";\"`"),
            },
            ("header", Some(csv)) => match word(node).as_str() {
                // Of the same headers, each names the columns of its file as well as the first one would.
                "all_files_same_headers" | "all_files_different_headers" => csv.header = true,
                "no_header" => csv.header = false,
                "from_first_file" => self.header_in_first_file = true,
                other => {
                    let known =
                        ["all_files_same_headers", "all_files_different_headers", "no_header", "from_first_file"];
                    let message = format!("`header` must be `{}` or `{}`", known[..3].join("`, `"), known[3]);
                    reader.fault(name, node.span, message, Some(super::instead(other, &known)));
                }
            },
            ("support_multi_line", _) => drop(boolean(reader, name, node)),
            ("empty_as_string", _) => self.empty_as_string = boolean(reader, name, node),
            ("include_path_column", _) => self.include_path_column = boolean(reader, name, node),
            ("infer_column_types", Some(csv)) => infer(reader, node, csv),
            ("invalid_lines", _) => match word(node).as_str() {
                "error" => {}
                "drop" => {
                    let hint = "write `error`, the default: a mini-batch with such a line fails, and says which; or mend the file";
                    let message =
                        "`invalid_lines: drop` can't be used: rows are counted before they are read".to_string();
                    reader.fault(name, node.span, message, Some(hint.to_string()));
                }
                _ => must_be(reader, name, node, "`error`", "`invalid_lines: error`"),
            },
            // How much the original reads at once.
            _ => {}
        }
    }

    fn encoding(&mut self, reader: &mut Reader, node: &Node) {
        let bare: String = word(node).to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        let encoding = match bare.as_str() {
            "utf8" | "utf8bom" => "utf-8",
            "ascii" => "ascii",
            "iso88591" | "latin1" => "latin-1",
            "windows1252" => "cp1252",
            _ => "",
        };
        match &mut self.read_csv {
            Some(csv) if !encoding.is_empty() => csv.encoding = encoding.into(),
            None if matches!(encoding, "utf-8" | "ascii") => {}
            _ => {
                let takes = match self.input_type == InputType::Csv {
                    true => "`utf8`, `ascii`, `latin1` or `windows1252`",
                    false => "`utf8` or `ascii`: JSON is in UTF-8",
                };
                let message = format!("`encoding` must be {takes}");
                reader.fault("encoding", node.span, message, Some("save the files as UTF-8".to_string()));
            }
        }
    }
}

/// `infer_column_types`: true, false (all columns are text), or types of some columns.
fn infer(reader: &mut Reader, node: &Node, csv: &mut ReadCsv) {
    let Value::Mapping(entries) = &node.value else {
        if !boolean(reader, "infer_column_types", node) {
            csv.dtype = Dtypes::All("str".into());
        }
        return;
    };
    let mut types = BTreeMap::new();
    for (key, node) in entries {
        match key.text.as_str() {
            // Types are inferred from all rows of a mini-batch.
            "sample_size" => {}
            "column_type_overrides" => overrides(reader, node, &mut types),
            other => {
                let message = format!("`infer_column_types` takes no `{}`", crate::job::error::shown(other));
                let hint = super::instead(other, &["column_type_overrides", "sample_size"]);
                reader.fault("infer_column_types", key.span, message, Some(hint));
            }
        }
    }
    csv.dtype = Dtypes::Some(types);
}

fn overrides(reader: &mut Reader, node: &Node, types: &mut BTreeMap<String, String>) {
    const KEY: &str = "column_type_overrides";
    let example = || Some(format!("for example `{KEY}: [{{columns: [zip], column_type: string}}]`"));
    let Value::Sequence(items) = &node.value else {
        reader.fault(KEY, node.span, format!("`{KEY}` must be a list"), example());
        return;
    };
    for item in items {
        let entries = match &item.value {
            Value::Mapping(entries) => entries.as_slice(),
            _ => &[],
        };
        let field = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
        let (Some(columns), Some(kind), 2) = (field("columns"), field("column_type"), entries.len()) else {
            reader.fault(KEY, item.span, format!("each of `{KEY}` must have `columns` and `column_type`"), example());
            continue;
        };
        let Some(columns) = steps::columns(reader, "columns", columns.span, Some(columns)) else { continue };
        let dtype = match word(kind).as_str() {
            "string" => "str",
            "float" => "float64",
            // The original turns what does not fit into nothing, which no type of pandas does.
            other => {
                let what = if other.is_empty() { "such a type" } else { other };
                let message = format!("`column_type: {what}` can't be used: here it is `string` or `float`");
                let hint = "leave it out: pandas infers whole numbers, and true and false; or convert in `run()`, as \
                            `pandas.to_numeric` and `pandas.to_datetime` do";
                reader.fault("column_type", kind.span, message, Some(hint.to_string()));
                continue;
            }
        };
        types.extend(columns.into_iter().map(|column| (column, dtype.to_string())));
    }
}

fn word(node: &Node) -> String {
    node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default()
}

fn boolean(reader: &mut Reader, name: &str, node: &Node) -> bool {
    match node.scalar() {
        Some(scalar) if scalar.kind == Kind::Bool => scalar.text.eq_ignore_ascii_case("true"),
        _ => {
            must_be(reader, name, node, "`true` or `false`", &format!("`{name}: true`"));
            true
        }
    }
}

fn must_be(reader: &mut Reader, name: &str, node: &Node, takes: &str, example: &str) {
    reader.fault(name, node.span, format!("`{name}` must be {takes}"), Some(format!("for example {example}")));
}
