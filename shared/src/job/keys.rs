//! The keys of a job file: one table that drives the messages, the search for a misspelt key, and the reference.

/// A key of a job file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes, to follow "must be".
    pub takes: &'static str,
    /// What stands in for it, in words; empty if it is required.
    pub default: &'static str,
    /// A line that a job file may hold; empty where the key waits for a later release.
    pub example: &'static str,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

/// Every key, in the order of the reference and of a resolved job.
pub static KEYS: &[Key] = &[
    Key {
        name: "name",
        takes: "3 to 32 of `a-z`, `0-9` and `-`, starting with a letter and not ending with `-`",
        default: "",
        example: "name: score-images",
        doc: "Names the job. The job id is this name, a `-` and eight characters that no other job has.",
    },
    Key {
        name: "entry_script",
        takes: "the path of a Python file, or a dotted module inside `source_directory`",
        default: "",
        example: "entry_script: score.py",
        doc: "The script with `run(mini_batch)` and, if it likes, `init()` and `shutdown()`. Relative to `source_directory` \
              if that is given.",
    },
    Key {
        name: "source_directory",
        takes: "an existing folder",
        default: "none: the script and the `.py` files beside it",
        example: "source_directory: src",
        doc: "The folder that is copied for the processes when the job is submitted; `.amlignore` and `.gitignore` are \
              honoured.",
    },
    Key {
        name: "inputs",
        takes: "one or more paths, folders, globs or registered datasets, as a list or as a map of names",
        default: "",
        example: "inputs: [images]",
        doc: "What is processed. Each input is split on its own: no mini-batch crosses it. A dataset is named `iris:3`, or \
              `iris` or `iris@latest` for its newest version when the job is submitted; what lies at a path of that name goes \
              before it.",
    },
    Key {
        name: "input_type",
        takes: "`files`, `lines`, `csv`, `tsv`, `jsonl`, `parquet` or `mltable`",
        default: "files",
        example: "input_type: files",
        doc: "What an item is: each file; each line of a list file; each row of tables, which `run()` then gets as a \
              `pandas.DataFrame`. With `mltable` each input is a folder with a file `MLTable`, or that file. A \
              registered dataset carries its own.",
    },
    Key {
        name: "read_csv",
        takes: "a map of `sep`, `encoding`, `header`, `quotechar` and `dtype`",
        default: "as pandas: {sep: \",\", encoding: utf-8, header: true, quotechar: '\"'}",
        example: "read_csv: {sep: \";\", dtype: {zip: str}}",
        doc: "How `csv` and `tsv` are read, in the words of `pandas.read_csv`. Types that are not given are inferred from \
              each mini-batch by itself. A registered dataset carries its own; what is given here goes before it.",
    },
    Key {
        name: "partition_format",
        takes: "a path with `{name}` parts",
        default: "none",
        example: "partition_format: \"{user}/{season}/*.wav\"",
        doc: "Takes values from the last parts of the files' paths. A mini-batch is then all files, or all rows, of one \
              combination of values that exists; `partition_key_value` of the context has them, and a table a column for each. Not \
              together with `mini_batch_size`.",
    },
    Key {
        name: "partition_keys",
        takes: "a list of names that stand in `partition_format`, or of columns",
        default: "of `partition_format`, all of them",
        example: "partition_keys: [user, season]",
        doc: "What mini-batches are made by: names of `partition_format`; without it columns of tables, and a mini-batch \
              is then all rows of one combination of their values. Not together with `mini_batch_size`.",
    },
    Key {
        name: "side_inputs",
        takes: "a map of names to existing files or folders",
        default: "{}",
        example: "side_inputs: {labels: labels.txt}",
        doc: "Files and folders that every process can read whole, beside the items; `${side_inputs.labels}` in \
              `arguments` is the path.",
    },
    Key {
        name: "models",
        takes: "a map of names to existing files or folders",
        default: "{}",
        example: "models: {mnist: model}",
        doc: "Files and folders that appear as `azureml-models/<name>/1/<file or folder>` in the working directory, where \
              `Model.get_model_path` looks, and under `AZUREML_MODEL_DIR`.",
    },
    Key {
        name: "arguments",
        takes: "a list of strings",
        default: "[]",
        example: "arguments: [\"--labels\", \"${output}/labels\"]",
        doc: "Follow the driver's own arguments in `sys.argv`. `${inputs.x}`, `${side_inputs.x}` and `${output}` become local \
              paths. An option of the driver among them (`--error_threshold 5`, `--profiling_module=cProfile`, …) sets the \
              key of its name; `--set` wins over it. The driver's other options (`--mini_batch_size`, …) are refused here: \
              they have keys, and reach the script by themselves.",
    },
    Key {
        name: "output",
        takes: "a folder",
        default: "`output` in the job directory",
        example: "output: results",
        doc: "The folder of the output file, and of what the script writes itself. An address (`s3://bucket/folder`): the job writes to \
              `output` in its directory, and all of that is uploaded when it is done.",
    },
    Key {
        name: "output_action",
        takes: "`append_row` or `summary_only`",
        default: "append_row",
        example: "output_action: append_row",
        doc: "`append_row` writes what `run()` returns into one file; `summary_only` only counts it, and the script \
              writes files of its own.",
    },
    Key {
        name: "append_row_file_name",
        takes: "a file name without any of `~ \" # % & * : < > ? / \\ { | }`",
        default: "parallel_run_step.txt",
        example: "append_row_file_name: predictions.txt",
        doc: "The name of the output file. One that ends in `.parquet` makes it a Parquet file.",
    },
    Key {
        name: "append_row_dataframe_header",
        takes: "`true` or `false`",
        default: "false",
        example: "append_row_dataframe_header: true",
        doc: "Writes the column names of the first DataFrame as the first line, once. Frames with other columns are then \
              refused.",
    },
    Key {
        name: "ordered",
        takes: "`true` or `false`",
        default: "false",
        example: "ordered: true",
        doc: "Whether rows come in the order of the input. They are written anew at the end, which needs room for the output twice.",
    },
    Key {
        name: "append_row_key",
        takes: "`true` or `false`",
        default: "false",
        example: "append_row_key: true",
        doc: "Writes the key of its item before each row: the path of a file, a line, of tables the file and the row. `run()` then returns one \
              element for each item, in their order, or a frame with the index of the mini-batch.",
    },
    Key {
        name: "mini_batch_size",
        takes: "a count of at least 1; of tables a size (`1MB`) or rows (`1000rows`)",
        default: "10; of tables 1MB",
        example: "mini_batch_size: 10",
        doc: "What one `run()` gets: so many files or lines; of tables about so many bytes (of Parquet, whole row groups), or \
              so many rows.",
    },
    Key {
        name: "rank_mini_batch_count",
        takes: "a whole number from 1 to 4294967295",
        default: "none",
        example: "rank_mini_batch_count: 8",
        doc: "So many mini-batches without input: `run()` gets an empty list, and the context's `minibatch_index` tells which it is. \
              Inputs are not needed, and not split.",
    },
    Key {
        name: "error_threshold",
        takes: "a whole number of at least -1 (-1 tolerates all)",
        default: "-1",
        example: "error_threshold: 10",
        doc: "Failed items tolerated over the whole input; one more fails the job. At 0 or more a short return makes its \
              mini-batch a failed one.",
    },
    Key {
        name: "allowed_failed_count",
        takes: "a whole number of at least -1 (-1 tolerates all)",
        default: "off",
        example: "allowed_failed_count: 5",
        doc: "Mini-batches out of tries that are tolerated; one more fails the job.",
    },
    Key {
        name: "allowed_failed_percent",
        takes: "a number from 0 to 100 (100 tolerates all)",
        default: "off",
        example: "allowed_failed_percent: 2.5",
        doc: "Mini-batches out of tries that are tolerated, in percent of all; judged once all are scheduled.",
    },
    Key {
        name: "run_invocation_timeout",
        takes: "whole seconds, from 1 to 31536000 (a year)",
        default: "60",
        example: "run_invocation_timeout: 60",
        doc: "Seconds for one `run()`, with the iterating of what it returned; the process is killed at it, and the \
              mini-batch has failed an attempt.",
    },
    Key {
        name: "run_max_try",
        takes: "a whole number of at least 1",
        default: "3",
        example: "run_max_try: 3",
        doc: "Attempts of a mini-batch, the first one, timeouts and dead processes included. Out of tries, its items have \
              failed, or `on_failure` says what else.",
    },
    Key {
        name: "task_overhead_timeout",
        takes: "whole seconds, from 1 to 31536000 (a year)",
        default: "30",
        example: "task_overhead_timeout: 30",
        doc: "Seconds for everything around `run()`: loading the data, handing it over, turning results into text.",
    },
    Key {
        name: "progress_update_timeout",
        takes: "whole seconds, from 1 to 31536000 (a year)",
        default: "3 × run_invocation_timeout + 30",
        example: "progress_update_timeout: 210",
        doc: "Seconds without progress after which the job fails; they count only while a node is there and nothing blocks.",
    },
    Key {
        name: "first_task_creation_timeout",
        takes: "whole seconds, from 1 to 31536000 (a year)",
        default: "600",
        example: "first_task_creation_timeout: 600",
        doc: "Seconds from the start to the first mini-batch scheduled, that is for listing the inputs; building an \
              environment is not counted.",
    },
    Key {
        name: "node_count",
        takes: "a whole number of at least 1, or `max`",
        default: "max (a job on one machine has one node)",
        example: "node_count: 4",
        doc: "The most nodes that the job takes, on a fleet; it begins with the first. `max` takes every worker that \
              comes.",
    },
    Key {
        name: "process_count_per_node",
        takes: "a whole number from 1 to 10000",
        default: "1 on a node with GPUs, else one for each core",
        example: "process_count_per_node: 2",
        doc: "Python processes on each node, each with one mini-batch at a time. On a fleet `--processes` of a worker \
              goes before it.",
    },
    Key {
        name: "gpus",
        takes: "indices or UUIDs of devices, as a list or as \"0,1\", or `all`",
        default: "all",
        example: "gpus: [0, 1]",
        doc: "The devices that a node may use, as `CUDA_VISIBLE_DEVICES` spells them; each process gets one that no other \
              has. `[]` uses none.",
    },
    Key {
        name: "surplus_processes",
        takes: "`unset`, `hide` or `share`",
        default: "unset",
        example: "surplus_processes: hide",
        doc: "What processes beyond the number of devices get in `CUDA_VISIBLE_DEVICES`: no variable, an empty one, or a \
              device dealt round robin.",
    },
    Key {
        name: "compute_target",
        takes: "1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`, starting with a letter or digit",
        default: "default",
        example: "compute_target: default",
        doc: "The pool whose workers run the job, on a fleet: those that were started with `--pool` and this name.",
    },
    Key {
        name: "environment",
        takes: "a mapping with one of `python`, `requirements` and `conda_file`",
        default: "the `python3` on PATH",
        example: "environment: {requirements: [numpy]}",
        doc: "Which Python runs the script: `python:` an interpreter; `requirements:` a file or a list, for a virtual \
              environment (`python:` beside it names the interpreter it is made from, `base:` the folder that relative paths \
              in a list start at); `conda_file:` the pip part of a conda environment, its `python=` the interpreter.",
    },
    Key {
        name: "environment_variables",
        takes: "a map of names to text",
        default: "{}",
        example: "environment_variables: {OMP_NUM_THREADS: 1}",
        doc: "Set for the Python processes; each value is the text as typed. Not for secrets: \
              they stand in the job's directory.",
    },
    Key {
        name: "logging_level",
        takes: "`WARNING`, `INFO` or `DEBUG`",
        default: "INFO",
        example: "logging_level: DEBUG",
        doc: "The level of `EntryScript().logger` and of the job's own logs.",
    },
    Key {
        name: "resource_monitor_interval",
        takes: "whole seconds, from 0 (off) to 31536000 (a year)",
        default: "600",
        example: "resource_monitor_interval: 60",
        doc: "Seconds between two looks of each node at what its host and processes take, written into \
              `logs/perf/<node>/`.",
    },
    Key {
        name: "profiling_module",
        takes: "`cProfile` or `profile`",
        default: "none",
        example: "profiling_module: cProfile",
        doc: "Profiles each process, and writes `<process>.profile` into `logs/sys/node/<node>/`, for `python3 -m \
              pstats`.",
    },
    Key {
        name: "allow_reuse",
        takes: "`true` or `false`",
        default: "true",
        example: "allow_reuse: true",
        doc: "Whether an identical job that is Completed stands in for this one, and this one for later ones.",
    },
    Key {
        name: "priority",
        takes: "a whole number from 0 to 9",
        default: "4",
        example: "priority: 4",
        doc: "Which job of a pool gets free workers first, on a fleet: 9 is the most urgent.",
    },
    Key {
        name: "on_failure",
        takes: "`drop` or `bisect`",
        default: "drop",
        example: "on_failure: bisect",
        doc: "What happens to a mini-batch out of tries: it is dropped and recorded, or halved until the bad items stand alone and the others \
              succeed.",
    },
    Key {
        name: "input_datasets",
        takes: "a map of names of inputs to `dataset`, `files`, `bytes` and `fingerprint`",
        default: "{}",
        example: "input_datasets: {}",
        doc: "Written into a resolved job: the versions of registered datasets that its inputs came from. Without effect of its \
              own.",
    },
    Key {
        name: "mltable",
        takes: "a map of `header_in_first_file`, `empty_as_string`, `partition_format` and `columns`",
        default: "none",
        example: "mltable: {columns: []}",
        doc: "Written into a resolved job: what the `MLTable` files said that its inputs came from, beside `inputs`, `input_type` and \
              `read_csv`.",
    },
    Key {
        name: "overrides",
        takes: "a list of strings",
        default: "[]",
        example: "overrides: [\"mini_batch_size=5\"]",
        doc: "Written into a resolved job: the `--set` flags that are in its values already. Without effect of its own.",
    },
];

/// The key called `name`.
///
/// # Panics
/// If there is none: names in the code come from the table.
pub(crate) fn key(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("`{name}` is not in the table of keys"))
}

/// The key called `name`, if it is one.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
