//! The resolved job of a job directory.

use fanfold_shared::job::{JobSpec, NoDatasets, load, load_resolved};
use proptest::prelude::*;

use crate::folder::Folder;

#[track_caller]
fn round_trip(folder: &Folder, spec: &JobSpec) {
    let path = folder.path("jobs/job.yaml");
    folder.write("jobs/job.yaml", &spec.to_yaml());
    let back = load(&path, &[], &NoDatasets).unwrap_or_else(|errors| panic!("{errors}\n{}", spec.to_yaml()));
    assert_eq!(&back, spec);
    assert_eq!(&load_resolved(&path).unwrap(), spec);
    assert_eq!(back.to_yaml(), spec.to_yaml());
}

#[test]
fn a_resolved_job_reads_back_to_the_same_job() {
    let folder = Folder::new();
    folder.write("venv/bin/python", "");
    round_trip(&folder, &folder.spec(""));
    round_trip(&folder, &folder.spec("source_directory: src\nentry_script: package.entry\n"));
    round_trip(&folder, &folder.spec("gpus: []\nenvironment: {requirements: []}\nprofiling_module: profile\n"));
    let full = "inputs: {b: images, a: '*.png'}\nside_inputs: {labels: labels.txt}\nmodels: {m: model}\n\
        arguments: [--l, '${side_inputs.labels}', --error_threshold, 5, '1.0', 'true', '', '- x', \"a\\nb\", '#', 'é: ü']\n\
        output: out\nappend_row_file_name: p.txt\nallowed_failed_count: 0\nallowed_failed_percent: 0.1\nnode_count: 3\n\
        process_count_per_node: 2\ngpus: [0, GPU-1]\nenvironment_variables: {A: '5', B: 'null', C: \" x \"}\n\
        environment: {requirements: [a, 'b>=1  # c'], python: venv/bin/python}\nresource_monitor_interval: 0\n";
    // Here a flag contradicts an option among the arguments, and must still win when read back.
    round_trip(&folder, &folder.spec_with(full, &["error_threshold=7", "environment_variables.Q='x: y'"]));
}

#[test]
fn a_resolved_job_is_read_even_if_what_it_names_has_gone() {
    let folder = Folder::new();
    let spec = folder.spec("side_inputs: {labels: labels.txt}\noutput: out\n");
    folder.write("jobs/job.yaml", &spec.to_yaml());
    for gone in ["score.py", "labels.txt", "images/a.png"] {
        std::fs::remove_file(folder.path(gone)).unwrap();
    }
    std::fs::remove_dir(folder.path("images")).unwrap();
    folder.write("out", "a file where a folder was");
    assert_eq!(load_resolved(&folder.path("jobs/job.yaml")).unwrap(), spec);
    assert!(load(&folder.path("jobs/job.yaml"), &[], &NoDatasets).is_err());
}

proptest! {
    #[test]
    fn any_text_survives_the_round_trip(
        arguments in prop::collection::vec("[^\0$]{0,12}", 0..4),
        value in "[^\0]{0,12}",
        line in "[^\0\n]{0,12}[!-~]",
    ) {
        let folder = Folder::new();
        let mut spec = folder.spec("");
        // What looks like an option of the driver has its own rules.
        spec.arguments = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
        spec.environment_variables.insert("X".into(), value);
        spec.environment = fanfold_shared::job::Environment::Requirements {
            lines: vec![line],
            python: "python3".into(),
            base: folder.root.clone(),
        };
        folder.write("job.yaml", &spec.to_yaml());
        prop_assert_eq!(load_resolved(&folder.job_file()).map_err(|e| TestCaseError::fail(format!("{e}\n{}", spec.to_yaml())))?, spec);
    }
}
