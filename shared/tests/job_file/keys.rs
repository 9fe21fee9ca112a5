//! Every key of the table: a wrong type, a value out of range, a misspelt name, and its example.

use std::collections::BTreeSet;

use fanfold_shared::job::{KEYS, Origin};
use fanfold_shared::report::{ExitCode, Report};

use crate::folder::Folder;

/// Key, what is written for it, and what message and hint must hold.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("name", "[a]", "`name` must be 3 to 32", "name: score-images"),
    ("name", "Score Images", "`name` must be 3 to 32", "`name: score-images` would do"),
    ("name", "ab", "`name` must be 3 to 32", "`ab` has 2 characters"),
    ("name", "", "`name` has no value", "name: score-images"),
    ("entry_script", "[score.py]", "not a list", "entry_script: score.py"),
    ("entry_script", "scor.py", "there is no `scor.py`", "did you mean `score.py`?"),
    ("entry_script", "src", "`src` is a folder", "src/main.py"),
    ("entry_script", "labels.txt", "does not end in `.py`", "run(mini_batch)"),
    ("entry_script", "src.main", "there is no file `src.main`", "source_directory: ."),
    ("source_directory", "[src]", "must be a path, not a list", "relative ones start at"),
    ("source_directory", "scr", "there is no `scr`", "did you mean `src`?"),
    ("source_directory", "score.py", "this is a file", "needs no `source_directory`"),
    ("inputs", "[]", "`inputs` is empty", "inputs: [images]"),
    ("inputs", "{}", "`inputs` is empty", "inputs: [images]"),
    ("inputs", "imges", "no file, folder or registered dataset `imges`", "did you mean `images`?"),
    ("inputs", "5", "there is no `5`", "holds"),
    ("inputs", "iris@latest", "no dataset is registered as `iris`", "fanfold dataset register iris --path PATH"),
    ("inputs", "abfss://c@account/x", "its account has no host", "dfs.core.windows.net"),
    ("inputs", "ftp://host/x", "takes paths, not `ftp:`", "s3://"),
    ("inputs", "azureml:iris:3", "takes paths, not `azureml:`", "mount"),
    ("inputs", "file:///data/x", "takes paths, not `file:`", "write the path alone: `/data/x`"),
    ("inputs", "~/data", "there is no `~/data`", "`~` is not expanded"),
    ("inputs", "images/b.png", "there is no `images/b.png`", "did you mean `images/a.png`?"),
    ("input_type", "[files]", "not a list", "input_type: files"),
    ("mltable", "[x]", "must be a map of `header_in_first_file`", "mltable: {columns: []}"),
    ("input_type", "uri_folder", "must be `files`, `lines`, `csv`", "write `input_type: files`"),
    ("input_type", "filles", "must be `files`, `lines`, `csv`", "did you mean `input_type: files`?"),
    ("input_type", "ndjson", "must be `files`, `lines`, `csv`", "write `input_type: jsonl`"),
    ("read_csv", "{sep: \";\"}", "has no meaning with `input_type: files`", "write `input_type: csv`"),
    ("partition_format", "[a]", "a path with `{name}` parts, not a list", "{user}/{season}"),
    ("partition_format", "\"*.wav\"", "it names nothing", "{user}/{season}"),
    ("partition_keys", "[user]", "needs `partition_format`", "{user}/{season}"),
    ("side_inputs", "[labels.txt]", "must be a map of names", "side_inputs: {labels: labels.txt}"),
    ("models", "model", "must be a map of names", "models: {mnist: model}"),
    ("arguments", "{a: b}", "must be a list of strings, not a mapping", "arguments: ["),
    ("arguments", "--a 1", "not one text", "arguments: [\"--a\", \"1\"]"),
    ("output", "[x]", "must be a path, not a list", "give one path"),
    ("output", "labels.txt", "must be a folder", "append_row_file_name"),
    ("output", "ftp://host/x", "`output` takes paths, not `ftp:`", "there are s3://"),
    ("output", "https://host/x", "can't be on a web server", "for example `output: s3://bucket/folder`"),
    ("output", "s3://bucket/*/x", "must be one folder", "for example `output: s3://bucket/folder`"),
    ("output", "s3:///x", "it names no bucket", "behind the two slashes"),
    ("output_action", "{a: b}", "not a mapping", "output_action: append_row"),
    (
        "output_action",
        "append_rows",
        "must be `append_row` or `summary_only`",
        "did you mean `output_action: append_row`?",
    ),
    ("append_row_file_name", "[x]", "not a list", "predictions.txt"),
    ("append_row_file_name", "out/x.txt", "can't hold `/`", "the folder is `output`"),
    ("append_row_file_name", "a*b", "can't hold `*`", "none of"),
    ("append_row_file_name", "..", "must be a file name", "predictions.txt"),
    (
        "append_row_dataframe_header",
        "[true]",
        "must be `true` or `false`, not a list",
        "append_row_dataframe_header: true",
    ),
    ("append_row_dataframe_header", "yes", "must be `true` or `false`", "write `append_row_dataframe_header: true`"),
    ("ordered", "[x]", "not a list", "ordered: true"),
    ("append_row_key", "5", "must be `true` or `false`", "append_row_key: true"),
    ("mini_batch_size", "[1]", "rows (`1000rows`), not a list", "mini_batch_size: 10"),
    ("mini_batch_size", "0", "must be a count of at least 1", "mini_batch_size: 10"),
    ("mini_batch_size", "-3", "must be a count of at least 1", "mini_batch_size: 10"),
    ("mini_batch_size", "1MB", "a count with `input_type: files`", "input_type: csv"),
    ("mini_batch_size", "1000rows", "a count with `input_type: files`", "mini_batch_size: 10"),
    ("mini_batch_size", "99999999999", "at most 4294967295", "number of items"),
    ("rank_mini_batch_count", "[8]", "not a list", "rank_mini_batch_count: 8"),
    ("rank_mini_batch_count", "0", "a whole number from 1 to", "rank_mini_batch_count: 8"),
    ("error_threshold", "[1]", "not a list", "error_threshold: 10"),
    ("error_threshold", "-2", "a whole number of at least -1", "error_threshold: 10"),
    ("error_threshold", "1.5", "a whole number of at least -1", "error_threshold: 10"),
    ("error_threshold", "\"5\"", "not text in quotes", "without quotes: `error_threshold: 5`"),
    ("allowed_failed_count", "{a: 1}", "not a mapping", "allowed_failed_count: 5"),
    ("allowed_failed_count", "-2", "a whole number of at least -1", "allowed_failed_count: 5"),
    ("allowed_failed_percent", "[5]", "not a list", "allowed_failed_percent: 2.5"),
    ("allowed_failed_percent", "101", "from 0 to 100", "allowed_failed_percent: 2.5"),
    ("allowed_failed_percent", ".nan", "from 0 to 100", "allowed_failed_percent: 2.5"),
    ("run_invocation_timeout", "[60]", "not a list", "run_invocation_timeout: 60"),
    ("run_invocation_timeout", "0", "whole seconds, from 1", "run_invocation_timeout: 60"),
    ("run_invocation_timeout", "60s", "whole seconds, from 1", "run_invocation_timeout: 60"),
    ("run_max_try", "[3]", "not a list", "run_max_try: 3"),
    ("run_max_try", "0", "at least 1", "run_max_try: 3"),
    ("run_max_try", "\"3\"", "not text in quotes", "without quotes: `run_max_try: 3`"),
    ("task_overhead_timeout", "{s: 1}", "not a mapping", "task_overhead_timeout: 30"),
    ("task_overhead_timeout", "-1", "whole seconds, from 1", "task_overhead_timeout: 30"),
    ("progress_update_timeout", "[1]", "not a list", "progress_update_timeout: 210"),
    ("progress_update_timeout", "0", "whole seconds, from 1", "progress_update_timeout: 210"),
    ("first_task_creation_timeout", "[1]", "not a list", "first_task_creation_timeout: 600"),
    ("first_task_creation_timeout", "99999999999", "31536000 (a year)", "first_task_creation_timeout: 600"),
    ("node_count", "[1]", "not a list", "node_count: 4"),
    ("node_count", "0", "at least 1, or `max`", "node_count: 4"),
    ("node_count", "all", "at least 1, or `max`", "node_count: 4"),
    ("process_count_per_node", "[2]", "not a list", "process_count_per_node: 2"),
    ("process_count_per_node", "0", "from 1 to 10000", "process_count_per_node: 2"),
    ("gpus", "{a: 1}", "not a mapping", "gpus: [0, 1]"),
    ("gpus", "0,1,0", "names device `0` twice", "name each device once"),
    ("gpus", "cuda:0", "`cuda:0` in `gpus` is no device", "nvidia-smi -L"),
    ("surplus_processes", "[hide]", "not a list", "surplus_processes: hide"),
    ("surplus_processes", "hidden", "must be `unset`, `hide` or `share`", "did you mean `surplus_processes: hide`?"),
    ("compute_target", "[x]", "not a list", "compute_target: default"),
    ("compute_target", "a b", "must be 1 to 64", "compute_target: default"),
    ("environment", "[x]", "not a list", "environment: {requirements: [numpy]}"),
    ("environment", "azureml:env:1", "must be a mapping", "environment: {requirements: [numpy]}"),
    ("environment", "env/requirements.txt", "must be a mapping", "environment: {requirements: env/requirements.txt}"),
    ("environment", "{}", "says nothing", "give one of"),
    ("environment_variables", "[A=1]", "must be a map of names to text", "OMP_NUM_THREADS"),
    ("logging_level", "[INFO]", "not a list", "logging_level: DEBUG"),
    ("logging_level", "warn", "must be `WARNING`, `INFO` or `DEBUG`", "logging_level"),
    ("resource_monitor_interval", "[1]", "not a list", "resource_monitor_interval: 60"),
    ("resource_monitor_interval", "-1", "from 0 (off)", "resource_monitor_interval: 60"),
    ("profiling_module", "[cProfile]", "not a list", "profiling_module: cProfile"),
    ("profiling_module", "cprofiler", "`cProfile` or `profile`", "did you mean `profiling_module: cProfile`?"),
    ("allow_reuse", "[true]", "not a list", "allow_reuse: true"),
    ("allow_reuse", "off", "must be `true` or `false`", "write `allow_reuse: false`"),
    ("allow_reuse", "\"true\"", "must be `true` or `false`", "write `allow_reuse: true`"),
    ("priority", "[1]", "not a list", "priority: 4"),
    ("priority", "10", "from 0 to 9", "priority: 4"),
    ("on_failure", "[drop]", "not a list", "on_failure: bisect"),
    ("on_failure", "halve", "must be `drop` or `bisect`", "on_failure: bisect"),
    ("input_datasets", "[x]", "must be a map of names", "input_datasets: {}"),
    ("overrides", "{a: 1}", "must be a list of strings", "overrides: ["),
];

#[test]
fn every_key_refuses_what_it_does_not_take_and_says_where_and_what_instead() {
    let folder = Folder::new();
    for (key, value, message, hint) in REFUSED {
        let more = format!("{key}: {value}\n");
        let errors = folder.errors(&more);
        let line = Folder::text(&more).lines().position(|line| line.starts_with(key)).unwrap() as u64 + 1;
        let told = folder.rendered(folder.errors(&more));
        assert_eq!(errors.exit_code(), ExitCode::Usage);
        assert_eq!(errors.errors.len(), 1, "`{more}` has one fault:\n{told}");
        let error = &errors.errors[0];
        assert!(error.key.starts_with(key), "`{more}` is about {}", error.key);
        assert!(error.message.contains(message), "`{more}` must say `{message}`:\n{told}");
        assert!(error.hint.as_ref().is_some_and(|told| told.contains(hint)), "`{more}` must hint `{hint}`:\n{told}");
        let spot = error.place.spot.as_ref().unwrap_or_else(|| panic!("no place:\n{told}"));
        // Where nothing was written, the colon is pointed at.
        let column = key.len() as u64 + if value.is_empty() { 1 } else { 3 };
        assert_eq!((spot.line, spot.column), (line, column), "{told}");
        assert_eq!(spot.text, more.trim_end_matches('\n'));
        assert_eq!(error.place.origin, Origin::File(folder.job_file()));
    }
}

#[test]
fn the_table_leaves_no_key_out() {
    let all: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    let refused: BTreeSet<&str> = REFUSED.iter().map(|(key, ..)| *key).collect();
    assert_eq!(all, refused);
    assert_eq!(all.len(), KEYS.len(), "a key stands in the table twice");
}

#[test]
fn a_misspelt_key_gets_the_nearest_one() {
    let folder = Folder::new();
    for key in KEYS {
        let slip = {
            let mut letters: Vec<char> = key.name.chars().collect();
            let last = letters.len() - 1;
            letters.swap(last, last - 1);
            letters.into_iter().collect::<String>()
        };
        for slip in [slip, format!("{}x", key.name), key.name.replace('_', "-").to_uppercase()] {
            let errors = folder.errors(&format!("{slip}: 1\n"));
            let told = folder.rendered(folder.errors(&format!("{slip}: 1\n")));
            assert_eq!(errors.errors.len(), 1, "{told}");
            let error = &errors.errors[0];
            let spot = error.place.spot.as_ref().unwrap();
            assert_eq!((spot.line, spot.column, spot.width), (4, 1, slip.len() as u64), "{told}");
            assert_eq!(error.message, format!("unknown key `{slip}`"));
            assert_eq!(error.hint, Some(format!("did you mean `{}`?", key.name)), "{told}");
        }
    }
}

#[test]
fn every_example_of_the_table_is_a_valid_line() {
    let folder = Folder::new();
    folder.write("src/score.py", "");
    for key in KEYS.iter().filter(|key| !key.example.is_empty()) {
        assert!(key.example.starts_with(&format!("{}: ", key.name)));
        let of_tables = if matches!(key.name, "read_csv" | "partition_keys") { "input_type: csv\n" } else { "" };
        folder.spec(&format!("{of_tables}{}\n", key.example));
    }
}

#[test]
fn every_key_can_be_left_empty_but_the_required_ones() {
    let folder = Folder::new();
    let plain = folder.spec("");
    for key in KEYS {
        let given = folder.parse(&format!("{}:\n", key.name));
        if key.default.is_empty() {
            let errors = given.unwrap_err().errors;
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].message, format!("`{}` has no value", key.name));
        } else {
            assert_eq!(given.unwrap(), plain, "{}", key.name);
        }
    }
}

#[test]
fn a_value_given_with_set_is_pointed_at_in_the_flag() {
    let folder = Folder::new();
    for (key, value, message, hint) in
        REFUSED.iter().filter(|(_, value, ..)| !value.starts_with('"') && !value.is_empty())
    {
        let flag = format!("{key}={value}");
        let Err(errors) = folder.parse_with("", &[&flag]) else {
            // Words for true and false, and nothing else, are read kindly there.
            panic!("`--set {flag}` was accepted");
        };
        let error = errors.errors.iter().find(|error| error.key.starts_with(key)).unwrap();
        assert_eq!(error.place.origin, Origin::Flag);
        let spot = error.place.spot.as_ref().unwrap();
        assert_eq!((spot.line, spot.column), (1, key.len() as u64 + 2), "{errors}");
        assert!(error.message.contains(message) && error.hint.as_ref().unwrap().contains(hint), "{errors}");
    }
}

#[test]
fn a_secret_in_an_address_is_refused_and_not_shown() {
    let folder = Folder::new();
    for address in ["s3://user:canary@bucket/key", "https://host/x?sig=canary"] {
        let told = folder.errors(&format!("inputs: [\"{address}\"]\n"));
        assert!(told.errors[0].message.contains("which is a secret"), "{told}");
        assert!(!format!("{told} {told:?}").contains("canary"), "{told}");
    }
}

#[test]
fn keys_of_other_systems_are_translated() {
    let folder = Folder::new();
    for (line, hint) in [
        ("max_concurrency_per_instance: 2", "`process_count_per_node`"),
        ("mini_batch_error_threshold: 5", "`allowed_failed_count`"),
        ("max_retries: 2", "`run_max_try: 3` (it counts the first try"),
        ("retry_settings: {max_retries: 2, timeout: 30}", "`run_invocation_timeout: 30`"),
        ("retry_settings: {max_retries: 4294967295}", "`run_max_try: 4294967296`"),
        ("retry_settings: x", "`run_max_try` (the first try counts)"),
        ("compute: cpu", "`compute_target`"),
        ("instance_count: 2", "`node_count`"),
        ("resources: {instance_count: 2}", "`node_count: 2`"),
        ("append_row_to: x", "`output`"),
        ("program_arguments: --a", "`arguments`"),
        ("input_data: x", "`inputs`"),
        ("code: src", "`source_directory`"),
        ("task: {}", "top level"),
        ("parallel_run_config: {}", "top level"),
        ("requirements: r.txt", "`environment: {requirements: r.txt}`"),
        ("$schema: x", "leave it out"),
        ("description: my job", "comment"),
        ("colour: red", "the keys are name, entry_script"),
    ] {
        let errors = folder.errors(&format!("{line}\n"));
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert!(errors.hint().unwrap().contains(hint), "{line}: {:?}", errors.hint());
    }
}
