//! What is another thing in a job file and its script than it was when the job ran that they name.

use std::collections::BTreeMap;

use fanfold_shared::job::JobSpec;

use super::submit::Submitted;
use crate::prepare::{SnapshotError, snapshot};

/// Names that are told before it is only a number.
const NAMED: usize = 3;

/// Files of the script that are others than the job's own copy, in words; None: there are none. What came since is none of the job's
/// business.
///
/// # Errors
/// The copy or a file can't be read.
pub(super) fn changed_files(submitted: &Submitted) -> Result<Option<String>, SnapshotError> {
    let changed = snapshot::changed(&submitted.spec, &submitted.dir, submitted.script)?;
    if changed.is_empty() {
        return Ok(None);
    }
    let named: Vec<String> = changed.iter().take(NAMED).map(|name| format!("`{}`", name.display())).collect();
    let more = if changed.len() > NAMED { format!(" and {} more", changed.len() - NAMED) } else { String::new() };
    Ok(Some(named.join(", ") + &more))
}

/// What to tell whoever asks for a job that is Completed already, and has another script or other settings by now: a line for each.
/// `out_of_tries`: some of it failed.
pub(super) fn notes(submitted: &Submitted, out_of_tries: bool) -> Vec<String> {
    let mut notes = Vec::new();
    // A script that can't be compared is no obstacle to a result that is there.
    if let Ok(Some(files)) = changed_files(submitted) {
        notes.push(format!("{files} changed since: the result is that of the job's own copy of the script"));
        if out_of_tries {
            let id = &submitted.id;
            notes.push(format!(
                "`fanfold retry --failed --new-script {id}` runs what failed with the script as it is now"
            ));
        }
    }
    let settings = submitted.before.as_ref().map(|before| settings(before, &submitted.spec)).unwrap_or_default();
    if !settings.is_empty() {
        notes.push(format!("other settings than those it ran with: {}", settings.join("; ")));
    }
    if !notes.is_empty() {
        notes.push("to run it as it is now, leave `--job-dir` out or name a new directory".into());
    }
    notes
}

/// The keys of the job file whose values differ.
fn settings(before: &JobSpec, now: &JobSpec) -> Vec<String> {
    let (before, now) = (before.to_yaml(), now.to_yaml());
    let (before, now) = (keys(&before), keys(&now));
    let all: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let told = |key: &&&str| {
        let (was, is) = (before.get(**key), now.get(**key));
        match (was, is) {
            (was, is) if was == is => None,
            (Some(was), Some(is)) if !was.contains('\n') && !is.contains('\n') => {
                Some(format!("{key} was {was}, is {is}"))
            }
            _ => Some(key.to_string()),
        }
    };
    all.iter().filter_map(told).collect()
}

/// The values of a resolved job file by their keys: what stands behind a key, up to the next one.
fn keys(yaml: &str) -> BTreeMap<&str, String> {
    let mut keys: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = None;
    for line in yaml.lines() {
        match (line.starts_with([' ', '-', '#']), line.split_once(':'), last) {
            (false, Some((key, value)), _) => {
                keys.insert(key, value.trim().to_string());
                last = Some(key);
            }
            (_, _, Some(key)) => {
                let value = keys.entry(key).or_default();
                value.push('\n');
                value.push_str(line);
            }
            _ => (),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_where_they_take_a_line() {
        let read = keys("a: 1\nb:\n  x: 2\n  - y\nc: \"d: e\"\n");
        assert_eq!(read["a"], "1");
        assert_eq!(read["b"], "\n  x: 2\n  - y");
        assert_eq!(read["c"], "\"d: e\"");
    }
}
