//! What a node does for a job, fixed when it joins.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fanfold_shared::job::{
    ColumnStep, InputType, LoggingLevel, MlTable, OutputAction, Partition, ProfilingModule, ReadCsv,
};
use fanfold_shared::partition::PartitionFormat;

/// What a node does, fixed when it joins.
pub struct NodePlan {
    /// The job's id.
    pub job_id: String,
    /// The interpreter.
    pub python: PathBuf,
    /// The node's own copy of the snapshot.
    pub working_dir: PathBuf,
    /// A path in it, or a dotted module.
    pub entry_script: String,
    /// `sys.argv` without the script.
    pub argv: Vec<String>,
    /// What items are.
    pub input_type: InputType,
    /// What mini-batches are made by.
    pub partition: Option<Partition>,
    /// Where in the paths of files values stand.
    pub path_format: Option<PartitionFormat>,
    /// How CSV is read.
    pub read_csv: ReadCsv,
    /// What `MLTable` files say beside it.
    pub mltable: Option<MlTable>,
    /// Where the header of all tables is, if only the first one has it and lies in the cloud.
    pub header: Option<PathBuf>,
    /// What becomes of the columns of frames.
    pub column_steps: Vec<ColumnStep>,
    /// Whether rows are wanted.
    pub output_action: OutputAction,
    /// Whether rows are wanted as record batches of Arrow, not as text.
    pub writes_parquet: bool,
    /// Whether each row begins with the key of its item.
    pub row_key: bool,
    /// Whether a DataFrame's header is wanted.
    pub dataframe_header: bool,
    /// `EntryScript().output_dir`.
    pub output_dir: PathBuf,
    /// The level of `EntryScript().logger`.
    pub logging_level: LoggingLevel,
    /// The profiler.
    pub profiling_module: Option<ProfilingModule>,
    /// Seconds between two looks at what the host's resources do; 0: none.
    pub resource_monitor_interval: u64,
    /// Processes, at least 1.
    pub processes: u32,
    /// The number of the first process.
    pub next_process: u32,
    /// Attempts of a mini-batch.
    pub run_max_try: u32,
    /// Seconds for one `run()`.
    pub run_invocation_timeout: u64,
    /// Seconds around it.
    pub task_overhead_timeout: u64,
    /// `AZUREML_MODEL_DIR`.
    pub model_dir: Option<PathBuf>,
    /// The job's `environment_variables`.
    pub environment_variables: BTreeMap<String, String>,
}

impl NodePlan {
    /// Whether the header of the first file counts for all, which have none.
    pub fn header_in_first_file(&self) -> bool {
        self.mltable.as_ref().is_some_and(|mltable| mltable.header_in_first_file)
    }
}
