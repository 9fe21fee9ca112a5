//! What pandas notes of a frame beside its columns, so that `pandas.read_parquet` gives the same dtypes back: JSON under `pandas` in the
//! metadata of a schema, with an entry for each column.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Whose type a column has.
#[derive(Debug, PartialEq)]
pub enum Whose {
    /// That of the output so far.
    Old,
    /// That of the new frame.
    New,
    /// Both have it.
    Either,
    /// Neither: it is this one, by pandas' name.
    Neither(String),
}

/// The notes of both; None: there are none. Notes that can't be read are none.
pub fn joined(old: Option<&str>, new: Option<&str>, whose: &HashMap<&str, Whose>) -> Option<String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok().filter(|notes| notes["columns"].is_array());
    let (old, new) = (old.and_then(read), new.and_then(read));
    let entries = |notes: &Option<Value>| -> HashMap<String, Value> {
        let columns = notes.iter().filter_map(|notes| notes["columns"].as_array()).flatten();
        columns.filter_map(|entry| Some((field_name(entry)?.to_string(), entry.clone()))).collect()
    };
    let (mut of_old, mut of_new) = (entries(&old), entries(&new));
    let mut notes = old.or(new)?;
    for entry in notes["columns"].as_array_mut()? {
        let Some(name) = field_name(entry).map(str::to_string) else { continue };
        let (before, said) = (of_old.remove(&name), of_new.remove(&name));
        let chosen = match whose.get(name.as_str()) {
            Some(Whose::New) => said.or(before),
            Some(Whose::Either) => match (before, said) {
                (Some(before), Some(said)) if !holds_missing(&before) && before != said => Some(said),
                (before, said) => before.or(said),
            },
            Some(Whose::Neither(of)) => before.or(said).map(|mut entry| {
                entry["pandas_type"] = json!(of);
                entry["numpy_type"] = json!(of);
                entry["metadata"] = Value::Null;
                entry
            }),
            _ => before.or(said),
        };
        if let Some(chosen) = chosen {
            *entry = chosen;
        }
    }
    Some(notes.to_string())
}

fn field_name(entry: &Value) -> Option<&str> {
    entry["field_name"].as_str().or_else(|| entry["name"].as_str())
}

/// Whether a column of this dtype may have missing values; numpy's whole numbers and truth values may not, pandas' own (`Int64`) may.
fn holds_missing(entry: &Value) -> bool {
    let dtype = entry["numpy_type"].as_str().unwrap_or_default();
    !(dtype.starts_with("int") || dtype.starts_with("uint") || dtype == "bool")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(dtypes: &[(&str, &str)]) -> String {
        let columns: Vec<Value> = dtypes
            .iter()
            .map(|(name, dtype)| json!({"name": name, "field_name": name, "pandas_type": dtype, "numpy_type": dtype, "metadata": null}))
            .collect();
        json!({"index_columns": [], "columns": columns, "pandas_version": "3.1.1"}).to_string()
    }

    #[test]
    fn each_column_has_the_notes_of_whoever_gave_it_its_type() {
        let old = notes(&[("a", "int64"), ("b", "object"), ("c", "int32"), ("d", "int64")]);
        let new = notes(&[("d", "Int64"), ("c", "float32"), ("b", "str"), ("a", "float64")]);
        let whose = HashMap::from([
            ("a", Whose::New),
            ("b", Whose::Old),
            ("c", Whose::Neither("float64".into())),
            ("d", Whose::Either),
        ]);
        let both = joined(Some(&old), Some(&new), &whose).unwrap();
        let expected = notes(&[("a", "float64"), ("b", "object"), ("c", "float64"), ("d", "Int64")]);
        assert_eq!(serde_json::from_str::<Value>(&both).unwrap(), serde_json::from_str::<Value>(&expected).unwrap());
        assert_eq!(joined(None, Some(&new), &HashMap::new()).as_deref(), Some(new.as_str()));
        assert_eq!(joined(Some("no JSON"), None, &HashMap::new()), None);
    }
}
