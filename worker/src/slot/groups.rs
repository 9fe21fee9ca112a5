//! What the host is told of rows that were gathered by the values of columns (`docs/design/groups.md`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fanfold_shared::items::{Group, ItemsError, Segment, check};
use fanfold_shared::text::one_line;
use serde_json::json;

use crate::cloud::Local;
use crate::host::path_text;
use crate::node::Node;

/// Each value as an item: null, or a text whose characters are the bytes of the value.
pub(super) fn add_key(group: &Group, items: &mut Vec<u8>) {
    for value in &group.key {
        match value {
            None => items.extend_from_slice(b"null"),
            Some(bytes) => items.extend_from_slice(json_bytes(bytes).as_bytes()),
        }
        items.push(0);
    }
}

/// In ASCII, whatever the bytes are.
fn json_bytes(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\u{byte:04x}")),
        }
    }
    text + "\""
}

/// Adds where the rows lie: for each segment one item. `first` is the ordinal of the first row, `local` what was brought for them. Returns how many.
pub(super) fn add_segments(
    node: &Node,
    group: &Group,
    first: u64,
    local: Option<&Local>,
    items: &mut Vec<u8>,
) -> Result<u64, ItemsError> {
    // The process is at home elsewhere.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let (records_path, origins_path) = node.items.group_files();
    let (records_path, origins_path) = (absolute(records_path), absolute(origins_path));
    let mut ordinal = first;
    // Of each segment whose file does not lie on this machine, where that was brought to.
    let mut brought = local.iter().flat_map(|local| &local.files);
    for segment in &group.segments {
        let Segment { entry, rows, header, columns, records, crc32 } = segment;
        let name = node.items.item(u64::from(*entry))?;
        // Rows of several inputs may be together.
        let input = node.items.input_of(u64::from(*entry));
        let root = Path::new(&input.root);
        let path = root.join(OsStr::from_bytes(&name));
        let in_place = records.is_empty();
        let address = input.address(&name);
        let here = match (in_place, &address) {
            // What is read is a copy.
            (false, _) => Ok(&path),
            (true, Some(_)) => brought.next().expect("each was brought").as_ref().map_err(Clone::clone),
            (true, None) => {
                let known = node.fingerprints.get(u64::from(*entry)..u64::from(*entry) + 1)?;
                let trouble = check(root, [name.as_slice()], &known).pop();
                trouble.map_or(Ok(&path), |(_, trouble)| Err(format!("`{}`: {trouble}", path.display())))
            }
        };
        match &here {
            Err(trouble) => items.extend_from_slice(format!("!{}", one_line(trouble, usize::MAX)).as_bytes()),
            Ok(_) => {
                let file = if in_place { &origins_path } else { &records_path };
                // They are in the order of their files.
                let last = node.items.origin(ordinal + rows.saturating_sub(1))?.entry;
                let told = json!({
                    "file": path_text(file),
                    "header": [header.start, header.end],
                    "columns": columns,
                    "records": if in_place { [ordinal, ordinal + rows] } else { [records.start, records.end] },
                    "crc32": crc32,
                    "rows": rows,
                    "of_others": last != *entry,
                });
                items.push(b'@');
                items.extend_from_slice(told.to_string().as_bytes());
            }
        }
        super::feed::add_about(node, &path, address, items);
        items.push(b'\n');
        items.extend_from_slice(here.unwrap_or(&path).as_os_str().as_bytes());
        items.push(0);
        ordinal += rows;
    }
    Ok(group.segments.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_text_in_json() {
        let told = json_bytes(b"a\"\\\n\0\xff ");
        assert_eq!(told, r#""a\"\\\u000a\u0000\u00ff ""#);
        let read: String = serde_json::from_str(&told).unwrap();
        assert_eq!(read.chars().map(|c| c as u8).collect::<Vec<_>>(), b"a\"\\\n\0\xff ");
    }
}
