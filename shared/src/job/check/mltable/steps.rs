//! `transformations` of an `MLTable`, in their order: one that reads the files, and those about columns.

use super::reads::{self, Reads};
use crate::job::error::shown;
use crate::job::mltable::{ColumnStep, MlTable};
use crate::job::reader::Reader;
use crate::job::source::Span;
use crate::job::spec::{InputType, ReadCsv};
use crate::job::tree::{Node, Value};
use crate::partition::PartitionFormat;

const STEPS: [&str; 6] = [
    "read_delimited",
    "read_parquet",
    "read_json_lines",
    "extract_columns_from_partition_format",
    "keep_columns",
    "drop_columns",
];

/// What they come to.
#[derive(Debug, Default)]
pub(super) struct Steps {
    reads: Option<Reads>,
    format: Option<PartitionFormat>,
    columns: Vec<ColumnStep>,
}

impl Steps {
    /// What the files are, how they are read, and the rest. Without a step that reads, they are files.
    pub(super) fn meaning(self) -> (InputType, Option<ReadCsv>, MlTable) {
        let Steps { reads, format: partition_format, columns } = self;
        let Some(reads) = reads else {
            return (InputType::Files, None, MlTable { partition_format, ..MlTable::default() });
        };
        let Reads { input_type, read_csv, header_in_first_file, empty_as_string, .. } = reads;
        (input_type, read_csv, MlTable { header_in_first_file, empty_as_string, partition_format, columns })
    }
}

/// Reads `transformations`.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Steps {
    let mut steps = Steps::default();
    let Value::Sequence(items) = &node.value else {
        if !node.is_null() {
            let hint = "for example `- read_delimited: {delimiter: \";\"}`".to_string();
            reader.fault("transformations", node.span, "`transformations` must be a list".into(), Some(hint));
        }
        return steps;
    };
    for (at, item) in items.iter().enumerate() {
        let (name, span, given) = match &item.value {
            Value::Scalar(scalar) if !item.is_null() => (scalar.text.clone(), item.span, None),
            Value::Mapping(entries) if entries.len() == 1 => {
                (entries[0].0.text.clone(), entries[0].0.span, Some(&entries[0].1))
            }
            _ => {
                let message = format!("`transformations[{at}]` must be one transformation, and what it takes");
                let hint = "begin each with a dash: `- read_parquet`, then `- keep_columns: [a, b]`".to_string();
                reader.fault("transformations", item.span, message, Some(hint));
                continue;
            }
        };
        steps.take(reader, &name, span, given.filter(|node| !node.is_null()));
    }
    steps
}

impl Steps {
    fn take(&mut self, reader: &mut Reader, name: &str, span: Span, given: Option<&Node>) {
        match name {
            "read_delimited" | "read_parquet" | "read_json_lines" => {
                if self.reads.is_some() {
                    let hint = "keep one of the two: the files of a job are of one kind".to_string();
                    reader.fault(name, span, format!("`{name}`: another step reads the files already"), Some(hint));
                    return;
                }
                let reads = reads::read(reader, name, given);
                if reads.include_path_column {
                    self.columns.insert(0, ColumnStep::Path);
                }
                self.reads = Some(reads);
            }
            "extract_columns_from_partition_format" => self.extract(reader, name, span, given),
            "keep_columns" | "drop_columns" => {
                if self.reads.is_none() {
                    let hint = "move it behind `read_delimited`, `read_parquet` or `read_json_lines`".to_string();
                    let message =
                        format!("`{name}` stands before the step that reads the files: there are no columns yet");
                    reader.fault(name, span, message, Some(hint));
                } else if let Some(columns) = columns(reader, name, span, given) {
                    self.columns.push(match name {
                        "keep_columns" => ColumnStep::Keep(columns),
                        _ => ColumnStep::Drop(columns),
                    });
                }
            }
            other => {
                let (message, hint) = match advice(other) {
                    Some(advice) => (format!("`{other}` of an MLTable can't be used"), advice.to_string()),
                    None => (format!("there is no transformation `{}`", shown(other)), super::instead(other, &STEPS)),
                };
                reader.fault(other, span, message, Some(hint));
            }
        }
    }

    fn extract(&mut self, reader: &mut Reader, name: &str, span: Span, given: Option<&Node>) {
        let format = match given.map(|node| &node.value) {
            Some(Value::Mapping(entries)) => match entries.as_slice() {
                [(key, node)] if key.text == "partition_format" => {
                    node.scalar().map(|scalar| (scalar.text.clone(), node.span))
                }
                _ => None,
            },
            _ => None,
        };
        let Some((text, at)) = format else {
            let message = format!("`{name}` takes `partition_format`, and nothing else");
            let hint = format!("for example `{name}: {{partition_format: \"/{{user}}/{{season}}/*.csv\"}}`");
            reader.fault(name, given.map_or(span, |node| node.span), message, Some(hint));
            return;
        };
        if self.format.is_some() {
            let hint = "put all values into one format".to_string();
            reader.fault(name, span, format!("`{name}` stands twice"), Some(hint));
            return;
        }
        match text.parse::<PartitionFormat>() {
            Ok(format) => {
                self.format = Some(format);
                self.columns.push(match self.reads {
                    Some(_) => ColumnStep::Values,
                    None => ColumnStep::ValuesFirst,
                });
            }
            Err(error) => {
                let hint = "for example `partition_format: \"/{user}/{season}/*.csv\"`".to_string();
                reader.fault(name, at, format!("`partition_format`: {error}"), Some(hint));
            }
        }
    }
}

/// The names of columns: one, or a list.
pub(super) fn columns(reader: &mut Reader, key: &str, span: Span, given: Option<&Node>) -> Option<Vec<String>> {
    let word = |node: &Node| node.scalar().filter(|_| !node.is_null()).map(|scalar| scalar.text.clone());
    let names = match given.map(|node| (node, &node.value)) {
        Some((_, Value::Sequence(items))) => items.iter().map(word).collect::<Option<Vec<_>>>(),
        Some((node, Value::Scalar(_))) => word(node).map(|name| vec![name]),
        _ => None,
    };
    if names.as_ref().is_some_and(|names| !names.is_empty()) {
        return names;
    }
    let message = match given.map(|node| &node.value) {
        Some(Value::Mapping(_)) => format!("`{key}` takes names of columns: a pattern can't be used"),
        _ => format!("`{key}` must be the name of a column, or a list of such"),
    };
    reader.fault(
        key,
        given.map_or(span, |node| node.span),
        message,
        Some(format!("for example `{key}: [age, weight]`")),
    );
    None
}

/// What to do instead of a transformation that changes which rows there are, or what is in them.
fn advice(name: &str) -> Option<&'static str> {
    Some(match name {
        "read_delta_lake" => "name the Parquet files of one version in `paths`, and write `read_parquet`",
        "filter" => "remove it, and leave rows out in `run()`: `mini_batch = mini_batch[…]`",
        "take" | "skip" | "take_random_sample" | "sample" | "select_partitions" => {
            "remove it, and name in `paths` only the files that are meant; or leave rows out in `run()`"
        }
        "convert_column_types" => {
            "remove it: convert in `run()`, or fix types as they are read, with `infer_column_types: {column_type_overrides: …}` or \
             the job's `read_csv: {dtype: …}`"
        }
        "rename_columns" | "summarize" | "promote_headers" | "distinct" | "sort" | "set_column_types" => {
            "remove it, and do it in `run()`"
        }
        _ => return None,
    })
}
