//! What the rows of a mini-batch are called, for a job that writes the key of its item before each row (`append_row_key`).
//!
//! The names are those of the list: what a file is called does not depend on where this machine has it.

use std::ops::Range;

use fanfold_shared::items::{Group, ItemsError, Slice};
use fanfold_shared::job::InputType;

use super::current::Held;
use super::feed::json_text;
use crate::host::path_text;
use crate::node::Node;

/// As JSON, what the host can't know: a list with the names of the files, and of rows that were gathered
/// `{origins, first, names: {entry: name}}`. None: the items are their own keys. `whole`: the items of the mini-batch, of which a part may be held.
pub(super) fn of(
    node: &Node,
    held: &Held,
    slice: Option<&Slice>,
    group: Option<&Group>,
    whole: &Range<u64>,
) -> Result<Option<String>, ItemsError> {
    let files = match (node.plan.input_type, slice) {
        (_, Some(_)) if group.is_some() => return gathered(node, whole).map(Some),
        (InputType::Lines | InputType::Ranks, _) => return Ok(None),
        (_, Some(slice)) => node.items.called(slice.entries())?,
        (_, None) => {
            let mut unreadable = held.unreadable.iter().map(|error| error.item).peekable();
            let readable = |(item, _): &(u64, Vec<u8>)| unreadable.next_if_eq(item).is_none();
            held.items
                .clone()
                .zip(node.items.called(held.items.clone())?)
                .filter(readable)
                .map(|(_, name)| name)
                .collect()
        }
    };
    let files: Vec<String> = files.iter().map(|name| json_text(name)).collect();
    Ok(Some(format!("[{}]", files.join(","))))
}

fn gathered(node: &Node, rows: &Range<u64>) -> Result<String, ItemsError> {
    let (_, origins) = node.items.group_files();
    let origins = std::path::absolute(&origins).unwrap_or(origins);
    let mut entries = Vec::new();
    node.items.for_each_origin(rows.clone(), |origin| {
        // They are in the order of their files.
        if entries.last() != Some(&origin.entry) {
            entries.push(origin.entry);
        }
    })?;
    let mut names = Vec::new();
    for entry in entries {
        let name = node.items.called(entry.into()..u64::from(entry) + 1)?;
        names.push(format!("\"{entry}\":{}", json_text(&name.concat())));
    }
    let origins = serde_json::json!(path_text(&origins));
    Ok(format!("{{\"origins\":{origins},\"first\":{},\"names\":{{{}}}}}", rows.start, names.join(",")))
}
