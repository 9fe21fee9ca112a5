//! What makes it another job, and is refused when a job directory is continued: inputs, sizes, snapshot, arguments and
//! output format. All else (timeouts, thresholds, processes, the environment …) may change.

use std::path::Path;

use super::check::script_arguments;
use super::spec::{Input, JobSpec};
use crate::uri::canonical;

/// One thing in which two jobs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: &'static str,
    /// What it was, for the message.
    pub old: String,
    /// What it is now.
    pub new: String,
}

/// What in `new` makes it another job than `old`; empty if `old`'s job directory can go on with `new`.
pub fn differences(old: &JobSpec, new: &JobSpec) -> Vec<Difference> {
    let (old, new) = (identity(old), identity(new));
    let of = |identity: &[(&str, String)], key| {
        let found = identity.iter().find(|(name, _)| *name == key);
        // Only those that are set where few jobs have them: see `identity`.
        found.map_or("false".into(), |(_, value)| value.clone())
    };
    let added = new.iter().filter(|(key, _)| old.iter().all(|(name, _)| name != key));
    let keys = old.iter().chain(added).map(|(key, _)| *key);
    keys.map(|key| Difference { key, old: of(&old, key), new: of(&new, key) })
        .filter(|one| one.old != one.new)
        .collect()
}

/// The same as one word, 64 hexadecimal digits: equal if and only if there is no difference.
pub fn fingerprint(spec: &JobSpec) -> String {
    let mut hasher = blake3::Hasher::new();
    // Counted up when what stands below means something else; a ledger of before then refuses the job by name.
    hasher.update(b"fanfold job 1");
    for (key, value) in identity(spec) {
        for part in [key, value.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// The keys that count and their values, in one order. Those that came later are there if they are set: the word of every other job stays what it is.
fn identity(spec: &JobSpec) -> Vec<(&'static str, String)> {
    // Another version of a dataset is another input, even if its path is the same.
    let input = |input: &Input| match &input.dataset {
        Some(from) => format!("{} ({})", canonical(&input.path), from.dataset),
        None => canonical(&input.path).into_owned(),
    };
    let inputs: Vec<_> = spec.inputs.iter().map(|given| (given.name.as_str(), input(given))).collect();
    let inputs = pairs(inputs.iter().map(|(name, path)| (*name, path.as_str())));
    let named = |map: &std::collections::BTreeMap<String, std::path::PathBuf>| {
        let paths = map.iter().map(|(name, path)| (name.as_str(), canonical(path.to_str().unwrap_or_default())));
        let paths: Vec<_> = paths.collect();
        pairs(paths.iter().map(|(name, path)| (*name, &**path)))
    };
    let path = |path: &Path| path.display().to_string();
    let mut identity = vec![
        (
            "inputs",
            match spec.rank_mini_batch_count {
                // Not a key of its own, as above.
                Some(count) => format!("{inputs} and rank_mini_batch_count: {count}"),
                None => inputs,
            },
        ),
        (
            "input_type",
            match &spec.mltable {
                // Not a key of its own, as above.
                Some(mltable) => {
                    let mltable = serde_json::to_string(mltable).expect("plain data");
                    format!("{}, of an MLTable: {mltable}", spec.input_type.name())
                }
                None => spec.input_type.name().into(),
            },
        ),
        ("mini_batch_size", spec.mini_batch_size.to_string()),
        ("partition", serde_json::to_string(&spec.partition).expect("plain data")),
        ("read_csv", serde_json::to_string(&spec.read_csv).expect("plain data")),
        (
            "source_directory",
            match spec.whole_source_directory {
                true => path(&spec.source_directory),
                false => format!("the script and the .py files beside it in {}", path(&spec.source_directory)),
            },
        ),
        ("entry_script", spec.entry_script.clone()),
        ("side_inputs", named(&spec.side_inputs)),
        ("models", named(&spec.models)),
        // The driver's options among them set keys that may change.
        ("arguments", list(&script_arguments(&spec.arguments))),
        (
            "output",
            match &spec.output_uri {
                Some(uri) => uri.canonical().to_string(),
                None => spec.output.as_deref().map_or("<job directory>/output".into(), path),
            },
        ),
        ("output_action", spec.output_action.name().into()),
        ("append_row_file_name", spec.append_row_file_name.clone()),
        ("append_row_dataframe_header", spec.append_row_dataframe_header.to_string()),
    ];
    let later = [("ordered", spec.ordered), ("append_row_key", spec.append_row_key)];
    identity.extend(later.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| (key, "true".into())));
    identity
}

/// `{"a": "x"}`: unambiguous, and readable in a message.
fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn list(items: &[String]) -> String {
    format!("{items:?}")
}
