//! What the entry script finds in `sys.argv`, as the original orders it (spec section 2).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::check::DEFAULT_FILE_NAME;
use super::references::{Piece, pieces};
use super::spec::{Input, JobSpec, OutputAction};

/// Where things lie on the machine whose process gets the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The output folder.
    pub output: PathBuf,
    /// Each input by name: a file or a folder; for a glob the folder that it starts in.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Each side input by name.
    pub side_inputs: BTreeMap<String, PathBuf>,
    /// How many processes the node really runs, at least 1.
    pub process_count_per_node: u32,
}

impl Places {
    /// The places of a job whose paths are those of this machine.
    pub fn local(spec: &JobSpec, output: impl Into<PathBuf>, process_count_per_node: u32) -> Places {
        Places {
            output: output.into(),
            inputs: spec.inputs.iter().map(|input| (input.name.clone(), fixed_part(input))).collect(),
            side_inputs: spec.side_inputs.clone(),
            process_count_per_node,
        }
    }
}

/// The input itself, or the deepest folder of a glob above its first wildcard.
fn fixed_part(input: &Input) -> PathBuf {
    let path = Path::new(&input.path);
    if path.exists() {
        return path.into();
    }
    path.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '[', '{'])).collect()
}

/// `sys.argv` without the script: the driver's own arguments, then the job's, their references replaced.
pub fn entry_argv(spec: &JobSpec, places: &Places) -> Vec<String> {
    let mut argv = Vec::new();
    let mut option = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    let append = spec.output_action == OutputAction::AppendRow;
    option("scoring_module_name", spec.entry_script.clone());
    option("mini_batch_size", spec.mini_batch_size.to_string());
    option("error_threshold", spec.error_threshold.to_string());
    option("output_action", spec.output_action.name().into());
    option("logging_level", spec.logging_level.name().into());
    option("run_invocation_timeout", spec.run_invocation_timeout.to_string());
    option("run_max_try", spec.run_max_try.to_string());
    if let Some(count) = spec.allowed_failed_count {
        option("allowed_failed_count", count.to_string());
    }
    if let Some(percent) = spec.allowed_failed_percent {
        option("allowed_failed_percent", percent.to_string());
    }
    if append && spec.append_row_file_name != DEFAULT_FILE_NAME {
        option("append_row_file_name", spec.append_row_file_name.clone());
    }
    if let Some(partition) = &spec.partition {
        option("partition_keys", serde_json::to_string(&partition.keys).expect("text"));
    }
    option("output", text(&places.output));
    option("process_count_per_node", places.process_count_per_node.to_string());
    argv.extend(spec.arguments.iter().map(|argument| expand(argument, places)));
    argv
}

fn expand(argument: &str, places: &Places) -> String {
    let mut expanded = String::new();
    for piece in pieces(argument) {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Reference(name) => {
                let path = match name.split_once('.') {
                    None if name == "output" => Some(&places.output),
                    Some(("inputs", input)) => places.inputs.get(input),
                    Some(("side_inputs", input)) => places.side_inputs.get(input),
                    _ => None,
                };
                match path {
                    Some(path) => expanded.push_str(&text(path)),
                    // Validation refuses these; were one to come through, the script had better see it.
                    None => expanded.extend(["${", name, "}"]),
                }
            }
        }
    }
    expanded
}

/// Arguments travel to the process as text; what is not UTF-8 was refused with the job.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
