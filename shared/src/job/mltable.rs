//! What an `MLTable` file says beyond the words that a job file has for it. It is read when a job is submitted, and stays with the job.

use serde::{Deserialize, Serialize};

use super::tree::{Kind, Node, Value};
use crate::partition::PartitionFormat;

/// The name of the file, in its folder.
pub const MLTABLE: &str = "MLTable";

/// See the module documentation. Its paths, and the kind and the form of its files, are `inputs`, `input_type` and `read_csv` of the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlTable {
    /// Only the first file of delimited text has a header, and it counts for all (`header: from_first_file`).
    #[serde(default)]
    pub header_in_first_file: bool,
    /// An empty field of a column of text is an empty text, and not a missing value.
    #[serde(default)]
    pub empty_as_string: bool,
    /// Where in the paths of files values stand that become columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_format: Option<PartitionFormat>,
    /// What becomes of the columns of a frame, in this order.
    #[serde(default)]
    pub columns: Vec<ColumnStep>,
}

/// One thing that becomes of the columns of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnStep {
    /// The file's path becomes the first column, `Path`.
    Path,
    /// The values of the path become the last columns.
    Values,
    /// The values of the path become the first columns.
    ValuesFirst,
    /// All other columns go.
    Keep(Vec<String>),
    /// These go.
    Drop(Vec<String>),
}

/// What a resolved job says of it; None: it says something else.
pub(crate) fn from_node(node: &Node) -> Option<MlTable> {
    serde_json::from_value(json(node)).ok()
}

fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Sequence(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => {
            Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), json(node))).collect())
        }
        Value::Scalar(scalar) => match scalar.kind {
            Kind::Null => Json::Null,
            Kind::Bool => Json::Bool(scalar.text.eq_ignore_ascii_case("true")),
            Kind::Number | Kind::Text => Json::String(scalar.text.clone()),
        },
    }
}
