//! From the tree to the job: one validator for each idea, in the order in which they need each other.

mod arguments;
mod conda;
mod driver_options;
mod dtypes;
mod encodings;
mod environment;
mod failure;
mod inputs;
mod mltable;
mod name;
mod output;
mod partition;
mod partition_columns;
mod processes;
mod script;
mod size;
mod table;
mod timeouts;
mod variables;

pub(super) use driver_options::without as script_arguments;
pub(super) use dtypes::is_unheard_of as is_unheard_of_dtype;
pub(super) use output::DEFAULT_FILE_NAME;

use super::reader::Reader;
use super::spec::{InputType, JobSpec, MiniBatchSize, ReadCsv};
use inputs::Inputs;

/// Reads every key. What could not be read is in the reader's errors, and a default stands for it in the job.
pub(crate) fn job(reader: &mut Reader) -> JobSpec {
    // First: driver options among the arguments set other keys.
    let (arguments, driver_options) = arguments::read(reader);
    let script = script::read(reader);
    let Inputs { inputs, input_type, read_csv, mltable, several } = inputs::read(reader);
    let side_inputs = inputs::side(reader, "side_inputs");
    let models = inputs::side(reader, "models");
    arguments::references(reader, &arguments, &inputs, &several, &side_inputs);
    let output = output::read(reader);
    let failure = failure::read(reader);
    let timeouts = timeouts::read(reader);
    let processes = processes::read(reader);
    let ranks = size::ranks(reader);
    let size = size::read(reader, input_type);
    let read_csv = table::read(reader, input_type, read_csv);
    let partition = partition::read(reader, input_type, &read_csv, mltable.as_ref());
    JobSpec {
        name: name::read(reader),
        entry_script: script.entry_script,
        source_directory: script.root,
        whole_source_directory: script.whole,
        // What is said of inputs is checked all the same, and counts for nothing.
        mini_batch_size: if ranks.is_some() { MiniBatchSize::Items(1) } else { size },
        rank_mini_batch_count: ranks,
        partition: if ranks.is_some() { None } else { partition },
        read_csv,
        mltable: if ranks.is_some() { None } else { mltable },
        inputs,
        input_type: if ranks.is_some() { InputType::Ranks } else { input_type.unwrap_or(InputType::Files) },
        side_inputs,
        models,
        arguments: arguments.into_iter().map(|argument| argument.text).collect(),
        driver_options,
        output: output.folder,
        output_uri: output.uri,
        output_action: output.action,
        append_row_file_name: output.file_name,
        append_row_dataframe_header: output.header,
        ordered: output.ordered,
        append_row_key: output.key,
        error_threshold: failure.error_threshold,
        allowed_failed_count: failure.allowed_failed_count,
        allowed_failed_percent: failure.allowed_failed_percent,
        run_max_try: failure.run_max_try,
        on_failure: failure.on_failure,
        run_invocation_timeout: timeouts.run_invocation,
        task_overhead_timeout: timeouts.task_overhead,
        progress_update_timeout: timeouts.progress_update,
        first_task_creation_timeout: timeouts.first_task_creation,
        resource_monitor_interval: timeouts.resource_monitor,
        node_count: processes.nodes,
        process_count_per_node: processes.per_node,
        gpus: processes.gpus,
        surplus_processes: processes.surplus,
        compute_target: processes.pool,
        priority: processes.priority,
        environment: environment::read(reader),
        environment_variables: variables::environment_variables(reader),
        logging_level: variables::logging_level(reader),
        profiling_module: variables::profiling_module(reader),
        allow_reuse: reader.boolean("allow_reuse").unwrap_or(true),
        overrides: variables::recorded_overrides(reader),
    }
}

/// Reads what a dataset is to be registered with, given as `inputs`, `input_type` and `read_csv`.
pub(crate) fn data(reader: &mut Reader) -> (Vec<String>, InputType, ReadCsv) {
    let (paths, input_type) = inputs::paths_of_dataset(reader);
    let read_csv = table::read(reader, input_type, None);
    (paths, input_type.unwrap_or(InputType::Files), read_csv)
}
