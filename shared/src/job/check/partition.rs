//! `partition_format` and `partition_keys`: one mini-batch for each combination of values.

use super::partition_columns;
use crate::job::error::shown;
use crate::job::mltable::MlTable;
use crate::job::nearest::nearest;
use crate::job::reader::Reader;
use crate::job::spec::{InputType, Partition, ReadCsv};
use crate::job::tree::{Node, Value};
use crate::partition::PartitionFormat;

/// Reads both keys. `input_type` is None if it is at fault itself; `mltable` may say where in the paths values stand.
pub(super) fn read(
    reader: &mut Reader,
    input_type: Option<InputType>,
    read_csv: &ReadCsv,
    mltable: Option<&MlTable>,
) -> Option<Partition> {
    let typed = format(reader, input_type);
    let Some(keys) = reader.given("partition_keys") else {
        // An `MLTable` takes values from paths without making mini-batches by them.
        let format = typed?;
        let keys = format.names().to_vec();
        return Some(Partition { format: Some(format), keys });
    };
    let input_type = input_type?;
    if reader.given("partition_format").is_some() && typed.is_none() {
        return None;
    }
    if typed.is_none() {
        excludes_size(reader, "partition_keys");
        let of_mltable = mltable.and_then(|mltable| mltable.partition_format.as_ref());
        let in_paths = of_mltable.map_or(&[][..], |format| format.names());
        let in_columns = of_mltable.is_none()
            || entries(&keys).iter().any(|node| {
                let text = node.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
                !in_paths.iter().any(|name| name == text)
            });
        if in_columns && (of_mltable.is_none() || input_type.is_table()) {
            let chosen = partition_columns::read(reader, &keys, entries(&keys), input_type, read_csv, mltable)?;
            return Some(Partition { format: of_mltable.cloned(), keys: chosen });
        }
    }
    let format = typed.or_else(|| mltable.and_then(|mltable| mltable.partition_format.clone()))?;
    if mltable.is_some_and(|mltable| mltable.header_in_first_file) {
        let message = "`partition_keys` can't be used where only the first file has a header".to_string();
        let hint = "give each file its header, and write `header: all_files_same_headers` in the MLTable";
        reader.fault("partition_keys", keys.span, message, Some(hint.to_string()));
    }
    let chosen = chosen(reader, &keys, &format);
    Some(Partition { format: Some(format), keys: chosen })
}

/// The keys that stand in a format.
fn chosen(reader: &mut Reader, keys: &Node, format: &PartitionFormat) -> Vec<String> {
    let names = format.names();
    let mut chosen: Vec<String> = Vec::new();
    for node in entries(keys) {
        let text = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
        if chosen.contains(&text) {
            let message = format!("`{}` stands twice in `partition_keys`", shown(&text));
            reader.fault("partition_keys", node.span, message, Some("name each key once".to_string()));
        } else if names.contains(&text) {
            chosen.push(text);
        } else {
            let message = format!("`partition_keys`: there is no `{}` in `partition_format`", shown(&text));
            let hint = match nearest(&text, names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("there are: {}", names.join(", ")),
            };
            reader.fault("partition_keys", node.span, message, Some(hint));
        }
    }
    if chosen.is_empty() && matches!(&keys.value, Value::Sequence(items) if items.is_empty()) {
        let hint = format!("remove it for all of them, or choose from: {}", names.join(", "));
        reader.fault("partition_keys", keys.span, "`partition_keys` is empty".into(), Some(hint));
    }
    chosen
}

/// Refuses a size beside `key`.
fn excludes_size(reader: &mut Reader, key: &str) {
    if let Some(size) = reader.given("mini_batch_size") {
        let message = format!("`mini_batch_size` and `{key}` exclude each other: a mini-batch is all of a combination");
        reader.fault("mini_batch_size", size.span, message, Some("remove one of them".to_string()));
    }
}

fn entries(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::Sequence(items) => items.clone(),
        // One key needs no brackets.
        _ => vec![node.clone()],
    }
}

fn format(reader: &mut Reader, input_type: Option<InputType>) -> Option<PartitionFormat> {
    let (scalar, node) = reader.scalar("partition_format")?;
    if input_type == Some(InputType::Lines) {
        let message = "`partition_format` is about the paths of files, and with `input_type: lines` the items are none"
            .to_string();
        reader.fault(
            "partition_format",
            node.span,
            message,
            Some("remove it, or write `input_type: files`".to_string()),
        );
        return None;
    }
    if reader.given("rank_mini_batch_count").is_some() {
        let message =
            "`partition_format` and `rank_mini_batch_count` exclude each other: such mini-batches have no files"
                .to_string();
        reader.fault("partition_format", node.span, message, Some("remove one of them".to_string()));
        return None;
    }
    excludes_size(reader, "partition_format");
    match scalar.text.parse::<PartitionFormat>() {
        Ok(format) => Some(format),
        Err(error) => {
            let message = format!("`partition_format`: {error}");
            let hint = "for example `partition_format: \"{user}/{season}/*.wav\"`";
            reader.fault("partition_format", node.span, message, Some(hint.to_string()));
            None
        }
    }
}
