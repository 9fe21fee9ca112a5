//! `partition_keys` that are columns of the tables.

use crate::job::error::shown;
use crate::job::mltable::MlTable;
use crate::job::reader::Reader;
use crate::job::spec::{InputType, ReadCsv};
use crate::job::tree::{Kind, Node};
use crate::partition::column_number;

/// The keys, if such can be.
pub(super) fn read(
    reader: &mut Reader,
    keys: &Node,
    named: Vec<Node>,
    input_type: InputType,
    read_csv: &ReadCsv,
    mltable: Option<&MlTable>,
) -> Option<Vec<String>> {
    let has_ranks = reader.given("rank_mini_batch_count").is_some();
    let mut fault = |span, message: String, hint: &str| {
        reader.fault("partition_keys", span, message, Some(hint.to_string()));
    };
    if has_ranks {
        let message = "`partition_keys` and `rank_mini_batch_count` exclude each other: such mini-batches have no rows"
            .to_string();
        fault(keys.span, message, "remove one of them");
        return None;
    }
    if !input_type.is_table() {
        let message =
            "`partition_keys` needs `partition_format`, which says where in the paths their values stand".to_string();
        let hint = match input_type {
            InputType::Files => {
                "for example `partition_format: \"{user}/{season}/*.wav\"`; by columns only tables are partitioned, as with `input_type: csv`"
            }
            _ => "by columns only tables are partitioned, as with `input_type: csv`",
        };
        fault(keys.span, message, hint);
        return None;
    }
    if named.is_empty() {
        fault(keys.span, "`partition_keys` is empty".into(), "name the columns, or remove it");
        return None;
    }
    if input_type.is_csv() && !is_one_to_one(&read_csv.encoding) {
        let message = format!(
            "`partition_keys` compares texts by their bytes, and with `encoding: {}` two runs of bytes may be the same text",
            read_csv.encoding
        );
        fault(keys.span, message, "save the files as UTF-8");
        return None;
    }
    let mut chosen: Vec<String> = Vec::new();
    let mut fits = true;
    for node in named {
        let scalar = node.scalar().filter(|scalar| scalar.kind != Kind::Null);
        let text = scalar.map(|scalar| scalar.text.clone()).unwrap_or_default();
        let of_path = mltable.and_then(|mltable| mltable.partition_format.as_ref());
        let is_of_path = of_path.is_some_and(|format| format.names().contains(&text));
        let numbered = input_type.is_csv() && !read_csv.header;
        if chosen.contains(&text) {
            fault(node.span, format!("`{}` stands twice in `partition_keys`", shown(&text)), "name each key once");
        } else if text.is_empty() || text.contains('\0') {
            fault(node.span, "a key of `partition_keys` is no name of a column".into(), "for example [user, season]");
        } else if numbered && !is_of_path && column_number(&text, mltable.is_some()).is_none() {
            let message = format!("`partition_keys`: without a header there is no column `{}`", shown(&text));
            let hint = match mltable {
                Some(_) => "columns are called Column1, Column2, …",
                None => "columns are called 0, 1, …",
            };
            fault(node.span, message, hint);
        } else {
            chosen.push(text);
            continue;
        }
        fits = false;
    }
    fits.then_some(chosen)
}

/// Whether in this encoding, as Python calls it, different bytes are different texts.
fn is_one_to_one(encoding: &str) -> bool {
    let bare: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let one_of = ["utf8", "utf8sig", "u8", "ascii", "usascii", "646", "latin1", "latin", "l1", "macroman", "maclatin2"];
    // Families with one byte for a character; of `cp` that are those of one, two and three digits with these beginnings.
    let code_page = bare.strip_prefix("windows").or(bare.strip_prefix("cp")).unwrap_or("");
    let code_page = code_page.starts_with("125") || ["437", "850", "852", "855", "858", "866"].contains(&code_page);
    one_of.contains(&bare.as_str()) || bare.starts_with("iso8859") || bare.starts_with("koi8") || code_page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_whose_bytes_are_one_to_one_are_known() {
        for encoding in ["utf-8", "UTF_8", "latin-1", "iso-8859-15", "cp1252", "windows-1251", "koi8-r", "ascii"] {
            assert!(is_one_to_one(encoding), "{encoding}");
        }
        for encoding in ["shift_jis", "gbk", "big5", "euc-jp", "cp932", "utf-16"] {
            assert!(!is_one_to_one(encoding), "{encoding}");
        }
    }
}
