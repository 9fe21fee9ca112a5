//! The script's settings file: each process reads it when it starts, so one that can't be read is refused before any does.

use std::fs;
use std::path::{Path, PathBuf};

use fanfold_shared::job::JobSpec;
use fanfold_shared::report::During;
use serde_json::Value;

use super::SnapshotError;
use super::select::{Entry, Kind};

/// Overrides the arguments of `to_csv`; belongs to the script.
pub(super) const SETTINGS: &str = "parallel_run_step.settings.json";

/// What fanfold looks at in it, from the outside in.
const KEYS: [&str; 2] = ["append_row", "pandas.DataFrame.to_csv"];

/// Refuses a settings file beside one of `scripts` (where the entry script may be) that Python could not read.
pub(super) fn check(spec: &JobSpec, entries: &[Entry], scripts: &[PathBuf]) -> Result<(), SnapshotError> {
    let is_script = |name: &Path| entries.iter().any(|entry| entry.name == name && entry.kind != Kind::Folder);
    let Some(script) = scripts.iter().find(|script| is_script(script)) else { return Ok(()) };
    let name = script.with_file_name(SETTINGS);
    if !is_script(&name) {
        return Ok(());
    }
    let path = spec.source_directory.join(name);
    let text = fs::read(&path).during("read", &path).map_err(SnapshotError::Unreadable)?;
    match fault(&text) {
        Some(why) => Err(SnapshotError::Settings { path, why }),
        None => Ok(()),
    }
}

/// What is wrong with the text; None: nothing that is sure to be.
fn fault(text: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(_) => return Some("it is not UTF-8 text".into()),
    };
    let settings: Value = match serde_json::from_str(text) {
        Ok(settings) => settings,
        Err(error) if python_may_read(text, &error) => return None,
        Err(error) => return Some(format!("it is no JSON: {error}")),
    };
    let mut value = Some(&settings);
    for place in std::iter::once(None).chain(KEYS.map(Some)) {
        if let Some(key) = place {
            value = value.and_then(|value| value.get(key));
        }
        if value.is_some_and(|value| !value.is_object()) {
            let what = place.map_or("it".into(), |key| format!("its `{key}`"));
            return Some(format!("{what} must be a JSON object"));
        }
    }
    None
}

/// Python's reader takes more than the standard: then it is its to say what is wrong.
fn python_may_read(text: &str, error: &serde_json::Error) -> bool {
    let said = error.to_string();
    let more =
        ["number out of range", "surrogate", "hex escape", "recursion limit"].iter().any(|more| said.contains(more));
    more || text.contains("NaN") || text.contains("Infinity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_python_refuses_is_refused() {
        for good in [
            "{}",
            "\u{feff}{\"append_row\": {}, \"other\": [1]}",
            "{\"append_row\": {\"pandas.DataFrame.to_csv\": {\"sep\": \",\"}}}",
            "{\"x\": NaN, \"y\": -Infinity, \"z\": 1e999}",
            "{\"x\": \"\\ud800\"}",
        ] {
            assert_eq!(fault(good.as_bytes()), None, "{good}");
        }
        let told = |text: &[u8]| fault(text).unwrap();
        assert_eq!(told(b"\xff\xfe"), "it is not UTF-8 text");
        assert_eq!(told(b"{'a': 1}"), "it is no JSON: key must be a string at line 1 column 2");
        assert_eq!(told(b""), "it is no JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(told(b"[]"), "it must be a JSON object");
        assert_eq!(told(b"{\"append_row\": null}"), "its `append_row` must be a JSON object");
        let inner = b"{\"append_row\": {\"pandas.DataFrame.to_csv\": []}}";
        assert_eq!(told(inner), "its `pandas.DataFrame.to_csv` must be a JSON object");
    }
}
