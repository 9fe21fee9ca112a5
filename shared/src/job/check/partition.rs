//! `partition_format` and `partition_keys`: one mini-batch for each combination of values.

use crate::job::error::shown;
use crate::job::nearest::nearest;
use crate::job::reader::Reader;
use crate::job::spec::{InputType, Partition};
use crate::job::tree::{Node, Value};
use crate::partition::PartitionFormat;

/// Reads both keys. `input_type` is None if it is at fault itself.
pub(super) fn read(reader: &mut Reader, input_type: Option<InputType>) -> Option<Partition> {
    let format = format(reader, input_type);
    let Some(keys) = reader.given("partition_keys") else {
        let format = format?;
        let keys = format.names().to_vec();
        return Some(Partition { format, keys });
    };
    if reader.given("partition_format").is_none() {
        let message =
            "`partition_keys` needs `partition_format`, which says where in the paths their values stand".to_string();
        let hint =
            "for example `partition_format: \"{user}/{season}/*.wav\"`; partitions by columns are not available yet";
        reader.fault("partition_keys", keys.span, message, Some(hint.to_string()));
        return None;
    }
    let format = format?;
    let mut chosen: Vec<String> = Vec::new();
    for node in entries(&keys) {
        let text = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
        let names = format.names();
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
        let hint = format!("remove it for all of them, or choose from: {}", format.names().join(", "));
        reader.fault("partition_keys", keys.span, "`partition_keys` is empty".into(), Some(hint));
    }
    Some(Partition { format, keys: chosen })
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
    if let Some(size) = reader.given("mini_batch_size") {
        let message =
            "`mini_batch_size` and `partition_format` exclude each other: a mini-batch is all of a combination"
                .to_string();
        reader.fault("mini_batch_size", size.span, message, Some("remove one of them".to_string()));
    }
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
