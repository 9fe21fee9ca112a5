//! What the tests of this part share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fanfold_shared::job::*;

/// A job with every default and nothing else.
pub(super) fn spec() -> JobSpec {
    JobSpec {
        name: "score".into(),
        entry_script: "score.py".into(),
        source_directory: PathBuf::new(),
        whole_source_directory: false,
        inputs: Vec::new(),
        input_type: InputType::Files,
        side_inputs: BTreeMap::new(),
        models: BTreeMap::new(),
        arguments: Vec::new(),
        driver_options: BTreeMap::new(),
        output: None,
        output_uri: None,
        output_action: OutputAction::AppendRow,
        append_row_file_name: "parallel_run_step.txt".into(),
        append_row_dataframe_header: false,
        ordered: false,
        append_row_key: false,
        mini_batch_size: MiniBatchSize::Items(10),
        partition: None,
        rank_mini_batch_count: None,
        read_csv: ReadCsv::new(','),
        mltable: None,
        error_threshold: -1,
        allowed_failed_count: None,
        allowed_failed_percent: None,
        run_invocation_timeout: 60,
        run_max_try: 3,
        on_failure: OnFailure::Drop,
        task_overhead_timeout: 30,
        progress_update_timeout: 210,
        first_task_creation_timeout: 600,
        node_count: Some(1),
        process_count_per_node: None,
        gpus: None,
        surplus_processes: SurplusProcesses::Unset,
        compute_target: "default".into(),
        environment: Environment::Python("python3".into()),
        environment_variables: BTreeMap::new(),
        logging_level: LoggingLevel::Info,
        resource_monitor_interval: 600,
        profiling_module: None,
        allow_reuse: true,
        priority: 4,
        overrides: Vec::new(),
    }
}
