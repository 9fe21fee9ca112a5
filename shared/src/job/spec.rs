//! The validated job: what was meant, not what was typed. Paths are absolute, defaults are filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::is_unheard_of_dtype;
use super::dataset::FromDataset;
use super::mltable::{ColumnStep, MlTable};
use crate::partition::PartitionFormat;
use crate::uri::Uri;

/// A job after validation (spec section 3). It is stored in the job directory and never changes but by continuing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `^[a-z]([-a-z0-9]*[a-z0-9])?$`, 3 to 32 characters.
    pub name: String,
    /// Relative to the snapshot's root: a path (`score.py`), or a dotted module (`package.main`).
    pub entry_script: String,
    /// The snapshot's root.
    pub source_directory: PathBuf,
    /// Whether `source_directory` was given: if not, the snapshot is the script and the `.py` files beside it.
    pub whole_source_directory: bool,
    /// In the order of the job file.
    pub inputs: Vec<Input>,
    /// What the inputs are.
    pub input_type: InputType,
    /// Name to absolute path, or address ([`crate::uri::Uri`]).
    pub side_inputs: BTreeMap<String, PathBuf>,
    /// Name to absolute path, or address.
    pub models: BTreeMap<String, PathBuf>,
    /// As typed: `${…}` is replaced when a node hands them to the script.
    pub arguments: Vec<String>,
    /// Options of the driver found in `arguments`, by their long name without dashes, as typed. They have set the keys of
    /// their names already (unless a `--set` did), and they stay in `arguments`.
    pub driver_options: BTreeMap<String, String>,
    /// Where the output file goes; None: `<job dir>/output`.
    pub output: Option<PathBuf>,
    /// Where in the cloud everything in `<job dir>/output` goes at the end; `output` is then None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_uri: Option<Uri>,
    /// What happens to the results.
    pub output_action: OutputAction,
    /// The output file's name.
    pub append_row_file_name: String,
    /// Whether a DataFrame's header is written once, first.
    pub append_row_dataframe_header: bool,
    /// Whether rows come in the order of the input.
    #[serde(default)]
    pub ordered: bool,
    /// Whether each row begins with the key of its item: its path, its line, or its file and row.
    #[serde(default)]
    pub append_row_key: bool,
    /// What one `run()` gets.
    pub mini_batch_size: MiniBatchSize,
    /// One mini-batch for each combination of values; None: mini-batches have the size above.
    pub partition: Option<Partition>,
    /// So many mini-batches without input ([`InputType::Ranks`]): the inputs are then the script's own affair, and not split.
    pub rank_mini_batch_count: Option<u64>,
    /// How CSV is read; of other inputs what pandas does by itself.
    pub read_csv: ReadCsv,
    /// What `MLTable` files say beside it, if the inputs came from such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mltable: Option<MlTable>,
    /// Failed items tolerated; -1 tolerates all.
    pub error_threshold: i64,
    /// Failed mini-batches tolerated; None tolerates all.
    pub allowed_failed_count: Option<u64>,
    /// Percentage of failed mini-batches tolerated; None tolerates all.
    pub allowed_failed_percent: Option<f64>,
    /// Seconds for one `run()`.
    pub run_invocation_timeout: u64,
    /// Attempts of a mini-batch, at least 1.
    pub run_max_try: u32,
    /// What becomes of a mini-batch out of tries.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Seconds for everything around `run()`.
    pub task_overhead_timeout: u64,
    /// Seconds without progress after which the job fails.
    pub progress_update_timeout: u64,
    /// Seconds from the start to the first mini-batch scheduled.
    pub first_task_creation_timeout: u64,
    /// Nodes that may join; None: every worker that comes. Embedded there is one.
    pub node_count: Option<u32>,
    /// Processes on each node; None: one on a node with GPUs, else one for each core.
    pub process_count_per_node: Option<u32>,
    /// Devices that a node may use, as `CUDA_VISIBLE_DEVICES` spells them; None: all visible.
    pub gpus: Option<Vec<String>>,
    /// What processes without a device of their own get.
    pub surplus_processes: SurplusProcesses,
    /// The pool.
    pub compute_target: String,
    /// Which Python runs the script.
    pub environment: Environment,
    /// Set for the processes.
    pub environment_variables: BTreeMap<String, String>,
    /// The level of `EntryScript().logger` and of our own logs.
    pub logging_level: LoggingLevel,
    /// Seconds between two looks at the resources in use; 0: off.
    pub resource_monitor_interval: u64,
    /// The profiler each process runs under.
    pub profiling_module: Option<ProfilingModule>,
    /// Whether an identical finished job may stand in for this one, and this one for a later.
    pub allow_reuse: bool,
    /// 0 to 9, on a fleet.
    pub priority: u8,
    /// `key=value` as given with `--set`, in order.
    pub overrides: Vec<String>,
}

/// What becomes of a mini-batch out of tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// All of its items have failed.
    #[default]
    Drop,
    /// It is halved until the bad items stand alone; the others succeed.
    Bisect,
}

impl OnFailure {
    /// The name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            OnFailure::Drop => "drop",
            OnFailure::Bisect => "bisect",
        }
    }
}

/// Whether an output file with this name is Parquet.
pub fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

impl JobSpec {
    /// Whether the output is one Parquet file: its name ends in `.parquet`, in letters of any case.
    pub fn writes_parquet(&self) -> bool {
        self.output_action == OutputAction::AppendRow && is_parquet(Path::new(&self.append_row_file_name))
    }

    /// The versions of registered datasets that its inputs came from, by the names of the inputs.
    pub fn datasets(&self) -> BTreeMap<String, String> {
        let from = self.inputs.iter().filter_map(|input| Some((input.name.clone(), input.dataset.as_ref()?)));
        from.map(|(name, from)| (name, from.dataset.to_string())).collect()
    }

    /// Where in the paths of its files values stand, if it takes any.
    pub fn path_format(&self) -> Option<&PartitionFormat> {
        let of_partition = self.partition.as_ref().and_then(|partition| partition.format.as_ref());
        of_partition.or(self.mltable.as_ref().and_then(|mltable| mltable.partition_format.as_ref()))
    }

    /// What becomes of the columns of its frames, in this order.
    pub fn column_steps(&self) -> Vec<ColumnStep> {
        match &self.mltable {
            Some(mltable) => mltable.columns.clone(),
            None if self.input_type.is_table() && self.path_format().is_some() => vec![ColumnStep::Values],
            None => Vec::new(),
        }
    }
}

/// One input of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name: as given in a map, or `input0`, `input1`, … in a list.
    pub name: String,
    /// An absolute path or glob, or an address in the cloud ([`crate::uri::Uri`]); not yet looked at.
    pub path: String,
    /// The version of a registered dataset that it is, if it was named so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<FromDataset>,
}

/// What an input's items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// Each file is an item.
    Files,
    /// Each line of a list file is an item.
    Lines,
    /// Each row of a file with comma-separated values is an item.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Each line of a file, an object in JSON, is an item.
    Jsonl,
    /// Each row of a Parquet file is an item.
    Parquet,
    /// What an `MLTable` file says: of a dataset, never of a job, which has one of the others in its place.
    Mltable,
    /// Each mini-batch is an item, and the script gets none: that of a job with `rank_mini_batch_count`, whatever its `input_type`.
    Ranks,
}

impl InputType {
    /// As the job file spells it: `files`. `ranks` stands in none.
    pub fn name(self) -> &'static str {
        match self {
            InputType::Files => "files",
            InputType::Lines => "lines",
            InputType::Csv => "csv",
            InputType::Tsv => "tsv",
            InputType::Jsonl => "jsonl",
            InputType::Parquet => "parquet",
            InputType::Mltable => "mltable",
            InputType::Ranks => "ranks",
        }
    }

    /// Whether its items are rows, and the script gets them as a frame.
    pub fn is_table(self) -> bool {
        matches!(self, InputType::Csv | InputType::Tsv | InputType::Jsonl | InputType::Parquet)
    }

    /// Whether its entries are files, with sizes and times.
    pub fn has_files(self) -> bool {
        !matches!(self, InputType::Lines | InputType::Ranks)
    }

    /// Whether `read_csv` says how it is read.
    pub fn is_csv(self) -> bool {
        matches!(self, InputType::Csv | InputType::Tsv)
    }

    /// What its entries are called, one of them.
    pub fn item(self) -> &'static str {
        match self {
            InputType::Files | InputType::Mltable => "file",
            InputType::Lines => "line",
            InputType::Ranks => "rank",
            _ => "row",
        }
    }

    /// The byte that ends an entry wherever they are listed: one that no such entry can contain.
    pub fn separator(self) -> u8 {
        match self {
            InputType::Lines | InputType::Ranks => b'\n',
            // They are paths.
            _ => 0,
        }
    }
}

/// How much of the input one `run()` gets.
///
/// In JSON a number of items is a number, everything else is text as in the job file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "SizeText")]
pub enum MiniBatchSize {
    /// So many files or lines, 1 to `u32::MAX`.
    Items(u64),
    /// So many rows of a table, 1 to `u32::MAX`.
    Rows(u64),
    /// Of a table about so many bytes, at least 1.
    Bytes(u64),
}

/// How a [`MiniBatchSize`] is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SizeText {
    Items(u64),
    Other(String),
}

impl From<MiniBatchSize> for SizeText {
    fn from(size: MiniBatchSize) -> SizeText {
        match size {
            MiniBatchSize::Items(items) => SizeText::Items(items),
            other => SizeText::Other(other.to_string()),
        }
    }
}

impl TryFrom<SizeText> for MiniBatchSize {
    type Error = String;

    fn try_from(text: SizeText) -> Result<MiniBatchSize, String> {
        let text = match text {
            SizeText::Items(items) => return Ok(MiniBatchSize::Items(items)),
            SizeText::Other(text) => text,
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.parse().ok();
        let bytes =
            |shift: u32| number.and_then(|number: u64| number.checked_mul(1 << shift)).map(MiniBatchSize::Bytes);
        let size = match &text[digits.len()..] {
            "rows" => number.map(MiniBatchSize::Rows),
            "" => bytes(0),
            "KB" => bytes(10),
            "MB" => bytes(20),
            "GB" => bytes(30),
            _ => None,
        };
        size.ok_or_else(|| format!("`{text}` is no size"))
    }
}

impl fmt::Display for MiniBatchSize {
    /// As the job file spells it: `10`, `1000rows`, `1MB`, or bytes without a unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match *self {
            MiniBatchSize::Items(items) => return write!(f, "{items}"),
            MiniBatchSize::Rows(rows) => return write!(f, "{rows}rows"),
            MiniBatchSize::Bytes(bytes) => bytes,
        };
        let unit = [(30, "GB"), (20, "MB"), (10, "KB")].into_iter().find(|(shift, _)| bytes % (1 << shift) == 0);
        match unit {
            Some((shift, name)) => write!(f, "{}{name}", bytes >> shift),
            None => write!(f, "{bytes}"),
        }
    }
}

/// What mini-batches are made by, instead of a size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Where in the paths of files the values stand; None: in columns of the tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<PartitionFormat>,
    /// Those of its names that count, or the columns, in the order of the job file.
    pub keys: Vec<String>,
}

impl Partition {
    /// Whether values stand in columns of the tables, and not all of them in the paths of files.
    pub fn is_by_columns(&self) -> bool {
        let names = self.format.as_ref().map_or(&[][..], PartitionFormat::names);
        self.keys.iter().any(|key| !names.contains(key))
    }

    /// Of the values that the format takes from a path those of the keys, in their order.
    pub fn key_values<'v>(&self, values: &[&'v [u8]]) -> Vec<&'v [u8]> {
        let names = self.format.as_ref().map_or(&[][..], PartitionFormat::names);
        let value = |key: &String| names.iter().position(|name| name == key).map(|at| values[at]);
        self.keys.iter().filter_map(value).collect()
    }
}

/// How CSV is read, in the words of `pandas.read_csv`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCsv {
    /// What separates fields: one character of ASCII.
    pub sep: char,
    /// The encoding, as Python calls it.
    pub encoding: String,
    /// Whether the first record names the columns.
    pub header: bool,
    /// What fields are quoted with: one character of ASCII; None: a quote means nothing.
    pub quotechar: Option<char>,
    /// The types of all columns, or of some by their names; empty: pandas infers them from each mini-batch.
    pub dtype: Dtypes,
}

/// See [`ReadCsv`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dtypes {
    /// Of all columns.
    All(String),
    /// Of columns by name.
    Some(BTreeMap<String, String>),
}

impl Dtypes {
    /// Those that are not known to be names of pandas or numpy: only the job's Python can judge them.
    pub fn unheard_of(&self) -> Vec<&str> {
        let mut names: Vec<&str> = match self {
            Dtypes::All(name) => vec![name],
            Dtypes::Some(types) => types.values().map(String::as_str).collect(),
        };
        names.retain(|name| is_unheard_of_dtype(name));
        names
    }

    /// The columns that are given a type by their names.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Dtypes::All(_) => Vec::new(),
            Dtypes::Some(types) => types.keys().map(String::as_str).collect(),
        }
    }
}

impl ReadCsv {
    /// What pandas does by itself.
    pub fn new(sep: char) -> ReadCsv {
        ReadCsv {
            sep,
            encoding: "utf-8".into(),
            header: true,
            quotechar: Some('"'),
            dtype: Dtypes::Some(BTreeMap::new()),
        }
    }
}

/// What happens to what `run()` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputAction {
    /// It is appended to the output file.
    AppendRow,
    /// It is only counted.
    SummaryOnly,
}

impl OutputAction {
    /// As the job file spells it: `append_row`.
    pub fn name(self) -> &'static str {
        match self {
            OutputAction::AppendRow => "append_row",
            OutputAction::SummaryOnly => "summary_only",
        }
    }
}

/// What processes beyond the number of devices get in `CUDA_VISIBLE_DEVICES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SurplusProcesses {
    /// No variable: the original's rule.
    Unset,
    /// An empty variable: they see no device.
    Hide,
    /// A device dealt round robin.
    Share,
}

impl SurplusProcesses {
    /// As the job file spells it: `unset`.
    pub fn name(self) -> &'static str {
        match self {
            SurplusProcesses::Unset => "unset",
            SurplusProcesses::Hide => "hide",
            SurplusProcesses::Share => "share",
        }
    }
}

/// Which Python runs the script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// This interpreter: an absolute path, or a name to be found on PATH.
    Python(PathBuf),
    /// A virtual environment with these requirements.
    Requirements {
        /// The lines of a requirements file.
        lines: Vec<String>,
        /// The interpreter it is made from: as in [`Environment::Python`].
        python: PathBuf,
        /// Where relative paths in `lines` start: the folder of the requirements file, or of the job file.
        base: PathBuf,
    },
}

/// The verbosity of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LoggingLevel {
    /// Warnings and errors.
    Warning,
    /// What happens.
    Info,
    /// Everything.
    Debug,
}

impl LoggingLevel {
    /// As the original spells it: `INFO`.
    pub fn name(self) -> &'static str {
        match self {
            LoggingLevel::Warning => "WARNING",
            LoggingLevel::Info => "INFO",
            LoggingLevel::Debug => "DEBUG",
        }
    }
}

/// The profilers of Python's standard library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfilingModule {
    /// The one in C.
    #[serde(rename = "cProfile")]
    CProfile,
    /// The one in Python.
    #[serde(rename = "profile")]
    Profile,
}

impl ProfilingModule {
    /// The module's name.
    pub fn name(self) -> &'static str {
        match self {
            ProfilingModule::CProfile => "cProfile",
            ProfilingModule::Profile => "profile",
        }
    }
}
