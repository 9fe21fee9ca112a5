//! Keys that other systems, and older versions of the original, use: what to write here instead.
//!
//! None of them is taken as what it looks like: some mean another thing here (`max_retries` does not count the first try), and two names
//! for one key would be two truths in one file. They are refused, with the line to write.

use super::keys;
use super::nearest;
use super::tree::{Node, Value};

/// A key of another system, under all its names.
pub struct Alias {
    /// Its names.
    pub names: &'static [&'static str],
    /// What to write here.
    pub instead: Instead,
    /// The same with the value that was given, where it can be said.
    precise: Option<fn(&str, &Node) -> String>,
}

/// What stands here for a key of another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// This key, with the same value.
    Key(&'static str),
    /// Something that takes words: a fragment.
    Words(&'static str),
}

impl Instead {
    fn said(self) -> String {
        match self {
            Instead::Key(key) => format!("here this key is `{key}`"),
            Instead::Words(words) => words.to_string(),
        }
    }
}

impl Alias {
    const fn key(names: &'static [&'static str], key: &'static str) -> Alias {
        Alias { names, instead: Instead::Key(key), precise: None }
    }

    const fn words(names: &'static [&'static str], words: &'static str) -> Alias {
        Alias { names, instead: Instead::Words(words), precise: None }
    }

    const fn precise(mut self, precise: fn(&str, &Node) -> String) -> Alias {
        self.precise = Some(precise);
        self
    }
}

/// All of them, in the order of the reference.
pub static ALIASES: &[Alias] = &[
    Alias::key(&["display_name", "job_name", "experiment_name"], "name"),
    Alias::key(&["scoring_script", "script"], "entry_script"),
    Alias::key(&["code", "source_dir", "snapshot"], "source_directory"),
    Alias::words(
        &["code_configuration"],
        "write its parts as `source_directory` (`code`) and `entry_script` (`scoring_script`)",
    ),
    Alias::key(&["program_arguments", "args", "argv"], "arguments"),
    Alias::key(&["input_data", "input", "dataset", "datasets", "data"], "inputs"),
    Alias::words(&["model"], "here this is a map of names: `models: {my-model: path}`"),
    Alias::key(&["outputs", "output_path", "output_dir", "output_directory"], "output"),
    Alias::key(&["output_file_name", "output_file"], "append_row_file_name"),
    Alias::words(&["append_row_to"], "the folder is `output`, the file's name `append_row_file_name`"),
    Alias::key(&["batch_size", "minibatch_size"], "mini_batch_size"),
    Alias::key(&["mini_batch_error_threshold"], "allowed_failed_count"),
    Alias::words(
        &["max_retries", "retries"],
        "here this key is `run_max_try`, which counts the first try too: `max_retries` + 1",
    )
    .precise(|_, node| tries(text(node))),
    Alias::key(&["timeout", "run_timeout"], "run_invocation_timeout"),
    Alias::words(
        &["retry_settings"],
        "these are keys of their own: `run_max_try` (the first try counts), and `run_invocation_timeout` for the timeout",
    )
    .precise(|_, node| retry_settings(node)),
    Alias::key(
        &["max_concurrency_per_instance", "processes", "workers", "num_workers", "processes_per_node"],
        "process_count_per_node",
    ),
    Alias::key(&["instance_count", "nodes", "replicas"], "node_count"),
    Alias::words(
        &["resources"],
        "the number of nodes is `node_count`; the machines are those of `compute_target`",
    )
    .precise(|_, node| match field(node, "instance_count") {
        Some(count) => format!("here this is one key: `node_count: {count}`"),
        None => "the number of nodes is `node_count`; the machines are those of `compute_target`".into(),
    }),
    Alias::key(&["compute", "compute_target_name", "compute_name", "pool", "queue"], "compute_target"),
    Alias::words(
        &["python", "requirements", "conda_file", "conda"],
        "it belongs under `environment`: `environment: {requirements: …}`",
    )
    .precise(|name, node| {
        let name = if name == "conda" { "conda_file" } else { name };
        format!("it belongs under `environment`: `environment: {{{name}: {}}}`", text(node).unwrap_or("…"))
    }),
    Alias::words(
        &["environment_name", "environment_dir_path", "image"],
        "here `environment` takes `python`, `requirements` or `conda_file`",
    ),
    Alias::key(&["env", "env_vars", "environment_variable"], "environment_variables"),
    Alias::key(&["log_level"], "logging_level"),
    Alias::key(&["is_deterministic"], "allow_reuse"),
    Alias::words(
        &["parallel_run_config", "task", "settings", "jobs"],
        "here the keys of it stand at the top level, without indentation",
    ),
    Alias::words(&["description", "tags", "properties"], "write it as a comment: `# …`"),
    Alias::words(
        &["type", "$schema", "component", "version", "identity"],
        "leave it out: it means nothing here",
    ),
    Alias::words(&["resume_from"], "run the same job directory again: it continues by itself"),
];

/// What to tell someone who wrote a key of another system; None if the key is none of those.
pub(crate) fn advice(name: &str, node: &Node) -> Option<String> {
    let alias = ALIASES.iter().find(|alias| alias.names.contains(&name))?;
    Some(alias.precise.map_or_else(|| alias.instead.said(), |precise| precise(name, node)))
}

/// What to tell someone who asks for a key that is none, without a value.
pub fn instead_of(name: &str) -> Option<String> {
    if let Some(alias) = ALIASES.iter().find(|alias| alias.names.contains(&name)) {
        return Some(alias.instead.said());
    }
    let near = nearest::nearest(name, keys::KEYS.iter().map(|key| key.name))?;
    Some(format!("did you mean `{near}`?"))
}

fn retry_settings(node: &Node) -> String {
    let mut advice = "these are keys of their own: ".to_string();
    let retries = field(node, "max_retries");
    advice.push_str(&retries.map_or("`run_max_try` (the first try counts)".into(), |n| tries(Some(n))));
    match field(node, "timeout") {
        Some(timeout) => advice.push_str(&format!(", and `run_invocation_timeout: {timeout}`")),
        None => advice.push_str(", and `run_invocation_timeout` for the timeout"),
    }
    advice
}

/// Retries are counted without the first try, `run_max_try` with it.
fn tries(retries: Option<&str>) -> String {
    match retries.and_then(|text| text.parse::<u32>().ok()) {
        Some(retries) => {
            format!("`run_max_try: {}` (it counts the first try, `max_retries` did not)", u64::from(retries) + 1)
        }
        None => "here this key is `run_max_try`, which counts the first try too: `max_retries` + 1".into(),
    }
}

fn text(node: &Node) -> Option<&str> {
    node.scalar().map(|scalar| scalar.text.as_str()).filter(|text| !text.is_empty())
}

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    let Value::Mapping(entries) = &node.value else { return None };
    let (_, value) = entries.iter().find(|(key, _)| key.text == name)?;
    value.scalar().map(|scalar| scalar.text.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_a_key_or_stands_twice_and_what_to_write_is_a_key() {
        let mut seen = BTreeSet::new();
        for alias in ALIASES {
            for name in alias.names {
                assert!(keys::find(name).is_none(), "`{name}` is a key");
                assert!(seen.insert(name), "`{name}` stands twice");
            }
            if let Instead::Key(key) = alias.instead {
                assert!(keys::find(key).is_some(), "`{key}` is no key");
            }
        }
    }

    #[test]
    fn who_asks_without_a_value_is_answered_as_well() {
        assert_eq!(instead_of("timeout").unwrap(), "here this key is `run_invocation_timeout`");
        assert!(instead_of("retries").unwrap().contains("counts the first try"));
        assert_eq!(instead_of("mini_batch_sise").unwrap(), "did you mean `mini_batch_size`?");
        assert_eq!(instead_of("xyzzy"), None);
    }
}
