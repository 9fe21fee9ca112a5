//! A job written out again: every key, every default, paths absolute. [`super::load`] reads it back to an equal job.

use std::path::Path;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};

use super::dataset::{Contents, FromDataset};
use super::spec::{Environment, JobSpec, MiniBatchSize};

impl JobSpec {
    /// The resolved job, for the `job.yaml` of a job directory.
    pub fn to_yaml(&self) -> String {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&Resolved(entries(self)), options)
            .expect("text, numbers, lists and maps can be written as YAML")
    }
}

/// Keys in the order of the table of keys.
struct Resolved(Vec<(&'static str, Value)>);

impl Serialize for Resolved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn entries(spec: &JobSpec) -> Vec<(&'static str, Value)> {
    let path = |path: &Path| Value::from(path.to_string_lossy());
    let paths = |map: &std::collections::BTreeMap<String, std::path::PathBuf>| {
        Value::Object(map.iter().map(|(name, value)| (name.clone(), path(value))).collect())
    };
    let mut entries = vec![("name", json!(spec.name))];
    let mut put = |key, value| entries.push((key, value));
    if spec.whole_source_directory {
        put("entry_script", json!(spec.entry_script));
        put("source_directory", path(&spec.source_directory));
    } else {
        put("entry_script", path(&spec.source_directory.join(&spec.entry_script)));
    }
    let inputs = spec.inputs.iter().map(|input| (input.name.clone(), json!(input.path)));
    if !spec.inputs.is_empty() || spec.rank_mini_batch_count.is_none() {
        put("inputs", Value::Object(inputs.collect()));
    }
    match spec.rank_mini_batch_count {
        Some(count) => put("rank_mini_batch_count", json!(count)),
        None => put("input_type", json!(spec.input_type.name())),
    }
    put("side_inputs", paths(&spec.side_inputs));
    put("models", paths(&spec.models));
    put("arguments", json!(spec.arguments));
    if let Some(output) = &spec.output {
        put("output", path(output));
    }
    if let Some(uri) = &spec.output_uri {
        put("output", json!(uri));
    }
    put("output_action", json!(spec.output_action.name()));
    put("append_row_file_name", json!(spec.append_row_file_name));
    put("append_row_dataframe_header", json!(spec.append_row_dataframe_header));
    put("ordered", json!(spec.ordered));
    put("append_row_key", json!(spec.append_row_key));
    match (&spec.partition, spec.mini_batch_size) {
        _ if spec.rank_mini_batch_count.is_some() => (),
        (Some(partition), _) => {
            if let Some(format) = partition.format.as_ref().filter(|_| spec.mltable.is_none()) {
                put("partition_format", json!(format.to_string()));
            }
            put("partition_keys", json!(partition.keys));
        }
        (None, MiniBatchSize::Items(items)) => put("mini_batch_size", json!(items)),
        (None, size) => put("mini_batch_size", json!(size.to_string())),
    }
    if spec.input_type.is_csv() {
        put("read_csv", json!(spec.read_csv));
    }
    if let Some(mltable) = &spec.mltable {
        put("mltable", json!(mltable));
    }
    put("error_threshold", json!(spec.error_threshold));
    put("allowed_failed_count", spec.allowed_failed_count.map_or(json!(-1), |count| json!(count)));
    put("allowed_failed_percent", spec.allowed_failed_percent.map_or(json!(100), |percent| json!(percent)));
    put("run_invocation_timeout", json!(spec.run_invocation_timeout));
    put("run_max_try", json!(spec.run_max_try));
    put("on_failure", json!(spec.on_failure.name()));
    put("task_overhead_timeout", json!(spec.task_overhead_timeout));
    put("progress_update_timeout", json!(spec.progress_update_timeout));
    put("first_task_creation_timeout", json!(spec.first_task_creation_timeout));
    put("node_count", spec.node_count.map_or(json!("max"), |count| json!(count)));
    if let Some(count) = spec.process_count_per_node {
        put("process_count_per_node", json!(count));
    }
    put("gpus", spec.gpus.as_ref().map_or(json!("all"), |gpus| json!(gpus)));
    put("surplus_processes", json!(spec.surplus_processes.name()));
    put("compute_target", json!(spec.compute_target));
    put("environment", environment(&spec.environment));
    put("environment_variables", json!(spec.environment_variables));
    put("logging_level", json!(spec.logging_level.name()));
    put("resource_monitor_interval", json!(spec.resource_monitor_interval));
    if let Some(module) = spec.profiling_module {
        put("profiling_module", json!(module.name()));
    }
    put("allow_reuse", json!(spec.allow_reuse));
    put("priority", json!(spec.priority));
    let from = spec.inputs.iter().filter_map(|input| Some((input.name.clone(), input.dataset.as_ref()?)));
    let from: serde_json::Map<String, Value> = from
        .map(|(name, FromDataset { dataset, contents, path })| {
            let Contents { files, bytes, fingerprint } = contents;
            let mut value =
                json!({ "dataset": dataset.to_string(), "files": files, "bytes": bytes, "fingerprint": fingerprint });
            if let Some(path) = path {
                value["path"] = json!(path);
            }
            (name, value)
        })
        .collect();
    if !from.is_empty() {
        put("input_datasets", Value::Object(from));
    }
    if !spec.overrides.is_empty() {
        put("overrides", json!(spec.overrides));
    }
    entries
}

fn environment(environment: &Environment) -> Value {
    match environment {
        Environment::Python(python) => json!({ "python": python.to_string_lossy() }),
        Environment::Requirements { lines, python, base } => json!({
            "requirements": lines,
            "python": python.to_string_lossy(),
            "base": base.to_string_lossy(),
        }),
    }
}
