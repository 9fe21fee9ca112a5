//! What makes it another job.

use fanfold_shared::job::{differences, fingerprint};

use crate::folder::Folder;

#[test]
fn what_determines_the_results_may_not_change() {
    let folder = Folder::new();
    folder.write("other.py", "");
    let old = folder.spec("");
    for (more, key, was, is) in [
        ("inputs: {input0: labels.txt}\n", "inputs", "images", "labels.txt"),
        ("inputs: {x: images}\n", "inputs", "input0", "x: "),
        ("input_type: lines\n", "input_type", "files", "lines"),
        ("mini_batch_size: 11\n", "mini_batch_size", "10", "11"),
        ("entry_script: other.py\n", "entry_script", "score.py", "other.py"),
        ("source_directory: .\n", "source_directory", "the script and", "/"),
        ("arguments: [a]\n", "arguments", "[]", "[\"a\"]"),
        ("side_inputs: {a: model}\n", "side_inputs", "{}", "a: "),
        ("models: {a: model}\n", "models", "{}", "a: "),
        ("output: o\n", "output", "<job directory>/output", "/o"),
        ("output: s3a://bucket/o/\n", "output", "<job directory>/output", "s3://bucket/o"),
        ("output_action: summary_only\n", "output_action", "append_row", "summary_only"),
        ("append_row_file_name: p\n", "append_row_file_name", "parallel_run_step.txt", "p"),
        ("append_row_dataframe_header: true\n", "append_row_dataframe_header", "false", "true"),
        ("append_row_key: true\n", "append_row_key", "false", "true"),
    ] {
        let new = folder.spec(more);
        let told = differences(&old, &new);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].key, key);
        assert!(told[0].old.contains(was) && told[0].new.contains(is), "{told:?}");
        assert_ne!(fingerprint(&old), fingerprint(&new), "{key}");
    }
}

#[test]
fn all_else_may_change() {
    let folder = Folder::new();
    let old = folder.spec("");
    let new = folder.spec_with(
        "name: other\nrun_max_try: 9\nrun_invocation_timeout: 5\nenvironment: {requirements: [a]}\npriority: 1\n\
         environment_variables: {A: b}\nprocess_count_per_node: 3\ngpus: [1]\nlogging_level: debug\nnode_count: 2\n\
         arguments: [--error_threshold, 5, --profiling_module=profile]\n",
        &["allowed_failed_count=3"],
    );
    assert_eq!(differences(&old, &new), []);
    assert_eq!(fingerprint(&old), fingerprint(&new));
    assert_eq!(fingerprint(&old).len(), 64);
}

#[test]
fn a_boundary_can_not_move_between_values() {
    let folder = Folder::new();
    let one = folder.spec("arguments: ['a, b']\n");
    let two = folder.spec("arguments: [a, b]\n");
    assert_ne!(fingerprint(&one), fingerprint(&two));
}
