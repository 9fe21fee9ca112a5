//! Keys that other systems, and older versions of the original, use: what to write here instead.

use super::tree::{Node, Value};

/// What to tell someone who wrote a key of another system; None if the key is none of those.
pub(crate) fn advice(name: &str, node: &Node) -> Option<String> {
    let simple = |key: &str| Some(format!("here this key is `{key}`"));
    let text = node.scalar().map(|scalar| scalar.text.as_str()).filter(|text| !text.is_empty());
    match name {
        "max_concurrency_per_instance" | "processes" | "workers" | "num_workers" | "processes_per_node" => {
            simple("process_count_per_node")
        }
        "instance_count" | "nodes" | "replicas" => simple("node_count"),
        "resources" => match field(node, "instance_count") {
            Some(count) => Some(format!("here this is one key: `node_count: {count}`")),
            None => Some("the number of nodes is `node_count`; the machines are those of `compute_target`".into()),
        },
        "mini_batch_error_threshold" => simple("allowed_failed_count"),
        "max_retries" | "retries" => Some(tries(text)),
        "retry_settings" => {
            let mut advice = "these are keys of their own: ".to_string();
            let retries = field(node, "max_retries");
            advice.push_str(&retries.map_or("`run_max_try` (the first try counts)".into(), |n| tries(Some(n))));
            match field(node, "timeout") {
                Some(timeout) => advice.push_str(&format!(", and `run_invocation_timeout: {timeout}`")),
                None => advice.push_str(", and `run_invocation_timeout` for the timeout"),
            }
            Some(advice)
        }
        "timeout" | "run_timeout" => simple("run_invocation_timeout"),
        "compute" | "compute_target_name" | "compute_name" | "pool" | "queue" => simple("compute_target"),
        "append_row_to" => Some("the folder is `output`, the file's name `append_row_file_name`".into()),
        "output_file_name" | "output_file" => simple("append_row_file_name"),
        "outputs" | "output_path" | "output_dir" | "output_directory" => simple("output"),
        "program_arguments" | "args" | "argv" => simple("arguments"),
        "input_data" | "input" | "dataset" | "datasets" | "data" => simple("inputs"),
        "model" => Some("here this is a map of names: `models: {my-model: path}`".into()),
        "code" | "source_dir" | "snapshot" => simple("source_directory"),
        "scoring_script" | "script" => simple("entry_script"),
        "code_configuration" => {
            Some("write its parts as `source_directory` (`code`) and `entry_script` (`scoring_script`)".into())
        }
        "is_deterministic" => simple("allow_reuse"),
        "env" | "env_vars" | "environment_variable" => simple("environment_variables"),
        "python" | "requirements" | "conda_file" | "conda" => {
            let name = if name == "conda" { "conda_file" } else { name };
            Some(format!("it belongs under `environment`: `environment: {{{name}: {}}}`", text.unwrap_or("…")))
        }
        "environment_name" | "environment_dir_path" | "image" => {
            Some("here `environment` takes `python`, `requirements` or `conda_file`".into())
        }
        "log_level" => simple("logging_level"),
        "batch_size" | "minibatch_size" => simple("mini_batch_size"),
        "parallel_run_config" | "task" | "settings" | "jobs" => {
            Some("here the keys of it stand at the top level, without indentation".into())
        }
        "display_name" | "job_name" | "experiment_name" => simple("name"),
        "description" | "tags" | "properties" => Some("write it as a comment: `# …`".into()),
        "type" | "$schema" | "component" | "version" | "identity" => Some("leave it out: it means nothing here".into()),
        "resume_from" => Some("run the same job directory again: it continues by itself".into()),
        _ => None,
    }
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

fn field<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    let Value::Mapping(entries) = &node.value else { return None };
    let (_, value) = entries.iter().find(|(key, _)| key.text == name)?;
    value.scalar().map(|scalar| scalar.text.as_str())
}
