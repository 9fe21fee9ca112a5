//! What a valid job file means.

use std::path::PathBuf;

use fanfold_shared::job::{
    Environment, InputType, LoggingLevel, MiniBatchSize, OutputAction, ProfilingModule, SurplusProcesses,
};
use fanfold_shared::report::Report;

use crate::folder::Folder;

#[test]
fn three_keys_are_enough() {
    let folder = Folder::new();
    let spec = folder.spec("");
    assert_eq!(spec.name, "score-images");
    assert_eq!((spec.entry_script.as_str(), &spec.source_directory), ("score.py", &folder.root));
    assert!(!spec.whole_source_directory);
    assert_eq!(spec.inputs.len(), 1);
    assert_eq!(spec.inputs[0].name, "input0");
    assert_eq!(PathBuf::from(&spec.inputs[0].path), folder.path("images"));
    assert_eq!((spec.input_type, spec.mini_batch_size), (InputType::Files, MiniBatchSize::Items(10)));
    assert_eq!((spec.error_threshold, spec.allowed_failed_count, spec.allowed_failed_percent), (-1, None, None));
    assert_eq!((spec.run_invocation_timeout, spec.run_max_try, spec.task_overhead_timeout), (60, 3, 30));
    assert_eq!((spec.progress_update_timeout, spec.first_task_creation_timeout), (210, 600));
    assert_eq!((spec.node_count, spec.process_count_per_node, &spec.gpus), (None, None, &None));
    assert_eq!((spec.output, spec.append_row_file_name.as_str()), (None, "parallel_run_step.txt"));
    assert_eq!(spec.output_action, OutputAction::AppendRow);
    assert_eq!(spec.environment, Environment::Python("python3".into()));
    assert_eq!((spec.logging_level, spec.resource_monitor_interval, spec.priority), (LoggingLevel::Info, 600, 4));
    assert!(spec.allow_reuse && !spec.append_row_dataframe_header);
}

#[test]
fn values_are_read_as_they_are_meant() {
    let folder = Folder::new();
    let spec = folder.spec(
        "mini_batch_size: \"5\"\nlogging_level: warning\noutput_action: SUMMARY_ONLY\nallowed_failed_percent: 12.5\n\
         allowed_failed_count: 0\nnode_count: max\ngpus: \"1, 0\"\nsurplus_processes: hide\nprofiling_module: cprofile\n\
         append_row_dataframe_header: True\nrun_invocation_timeout: 1_000\noutput: ../x/./y\ninput_type: lines\n\
         environment_variables: {A: 1.10, B: yes, C: 010, D: True, E: '', F: 1e3}\n",
    );
    assert_eq!(spec.mini_batch_size, MiniBatchSize::Items(5));
    assert_eq!(spec.logging_level, LoggingLevel::Warning);
    assert_eq!(spec.output_action, OutputAction::SummaryOnly);
    assert_eq!((spec.allowed_failed_percent, spec.allowed_failed_count), (Some(12.5), Some(0)));
    assert_eq!(spec.gpus, Some(vec!["1".to_string(), "0".to_string()]));
    assert_eq!(spec.surplus_processes, SurplusProcesses::Hide);
    assert_eq!(spec.profiling_module, Some(ProfilingModule::CProfile));
    assert!(spec.append_row_dataframe_header);
    assert_eq!((spec.run_invocation_timeout, spec.progress_update_timeout), (1000, 3030));
    assert_eq!(spec.output, Some(folder.root.parent().unwrap().join("x/y")));
    assert_eq!(spec.input_type, InputType::Lines);
    let values: Vec<&str> = spec.environment_variables.values().map(String::as_str).collect();
    assert_eq!(values, ["1.10", "yes", "010", "True", "", "1e3"]);
}

#[test]
fn off_is_written_as_in_the_original() {
    let spec =
        Folder::new().spec("allowed_failed_count: -1\nallowed_failed_percent: 100\nprofiling_module: ''\ngpus: all\n");
    assert_eq!((spec.allowed_failed_count, spec.allowed_failed_percent), (None, None));
    assert_eq!((spec.profiling_module, spec.gpus), (None, None));
    assert_eq!(Folder::new().spec("gpus: []\n").gpus, Some(vec![]));
    assert_eq!(Folder::new().spec("gpus: [GPU-8932f937]\n").gpus, Some(vec!["GPU-8932f937".into()]));
}

#[test]
fn scripts_are_found_by_path_and_by_module() {
    let folder = Folder::new();
    let in_source = folder.spec("source_directory: src\nentry_script: main.py\n");
    assert_eq!((in_source.source_directory, in_source.entry_script.as_str()), (folder.path("src"), "main.py"));
    assert!(in_source.whole_source_directory);
    let module = folder.spec("source_directory: src\nentry_script: package.entry\n");
    assert_eq!(module.entry_script, "package.entry");
    let nested = folder.spec("entry_script: ./src/package/entry.py\n");
    assert_eq!((nested.source_directory, nested.entry_script.as_str()), (folder.path("src/package"), "entry.py"));
    assert!(!nested.whole_source_directory);

    let outside = folder.errors("source_directory: src\nentry_script: ../score.py\n");
    assert!(outside.errors[0].message.contains("outside `source_directory`"), "{outside}");
    let no_module = folder.errors("source_directory: src\nentry_script: package.entri\n");
    assert!(no_module.errors[0].message.contains("neither a file nor a module"), "{no_module}");
    assert_eq!(no_module.hint().unwrap(), "did you mean `package/entry.py`?");
    let deeper = folder.errors("source_directory: src\nentry_script: entry.py\n");
    assert_eq!(deeper.hint().unwrap(), "did you mean `package/entry.py`?");
}

#[test]
fn inputs_are_a_list_or_a_map_of_paths_and_globs() {
    let folder = Folder::new();
    let map = folder.spec("inputs:\n  second: images\n  first: 'none/*.jpg'\n");
    let told: Vec<_> = map.inputs.iter().map(|input| (input.name.as_str(), PathBuf::from(&input.path))).collect();
    assert_eq!(told, [("second", folder.path("images")), ("first", folder.path("none/*.jpg"))]);
    assert_eq!(folder.spec("inputs: images\n").inputs.len(), 1);

    for (more, key, message, hint) in [
        ("inputs: [images, imags]\n", "inputs[1]", "no file, folder or registered dataset `imags`", "`images`"),
        ("inputs: {a: iris:3}\n", "inputs.a", "no dataset is registered as `iris`", "path of the data"),
        ("models: {m: iris:3}\n", "models.m", "registered datasets are for `inputs`", "path of the file"),
        ("inputs: {1a: images}\n", "inputs", "`1a` in `inputs` is not a name", "a letter or `_`"),
        (
            "inputs: {a: {type: uri_folder, path: images}}\n",
            "inputs.a",
            "not a mapping",
            "write the path alone: `images`",
        ),
        ("inputs: [{a: images}]\n", "inputs[0]", "not a mapping", "`inputs: {a: images}`"),
        ("inputs: ['']\n", "inputs[0]", "must be a path, not nothing", "give one path"),
        ("side_inputs: {labels: lables.txt}\n", "side_inputs.labels", "there is no `lables.txt`", "`labels.txt`"),
        ("models: {m: s3://b/m}\n", "models.m", "only local paths work", "mount"),
        ("models: {a.b: model}\n", "models", "`a.b` in `models` is not a name", "letters"),
    ] {
        let errors = folder.errors(more);
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert_eq!(errors.errors[0].key, key);
        assert!(errors.errors[0].message.contains(message), "{errors}");
        assert!(errors.hint().unwrap().contains(hint), "{more}: {:?}", errors.hint());
    }
}

#[test]
fn partitions_have_all_names_of_the_format_or_those_that_are_chosen() {
    let folder = Folder::new();
    let keys =
        |more: &str| folder.spec(&format!("partition_format: \"{{a}}/{{b}}/*\"\n{more}")).partition.unwrap().keys;
    assert_eq!(keys(""), ["a", "b"]);
    assert_eq!(keys("partition_keys: [b]\n"), ["b"]);
    assert_eq!(keys("partition_keys: b\n"), ["b"]);
    let told = |more: &str| folder.errors(&format!("partition_format: \"{{a}}/*\"\n{more}")).errors[0].message.clone();
    assert_eq!(told("partition_keys: []\n"), "`partition_keys` is empty");
    assert_eq!(told("partition_keys: [a, a]\n"), "`a` stands twice in `partition_keys`");
    assert!(told("mini_batch_size: 5\n").contains("exclude each other"));
}

#[test]
fn an_mltable_that_is_not_there_is_the_only_complaint() {
    let folder = Folder::new();
    assert_eq!(folder.errors("input_type: mltable\nmini_batch_size: 10KB\nread_csv: {sep: x}\n").errors.len(), 1);
}

#[test]
fn mini_batches_without_input_need_none() {
    let folder = Folder::new();
    let parse = |more: &str| {
        let text = format!("name: abc\nentry_script: score.py\n{more}");
        fanfold_shared::job::parse(&text, &folder.job_file(), &[], &fanfold_shared::job::NoDatasets).unwrap()
    };
    let ranks = parse("rank_mini_batch_count: 4\n");
    assert_eq!((ranks.rank_mini_batch_count, ranks.input_type, ranks.inputs.len()), (Some(4), InputType::Ranks, 0));
    let option = parse("arguments: [--rank_mini_batch_count, '4', mine]\n");
    assert!(fanfold_shared::job::differences(&ranks, &option).iter().all(|difference| difference.key == "arguments"));
    assert_eq!(option.rank_mini_batch_count, Some(4));
    // What is said of inputs is kept for references in the arguments, and nothing is split.
    let given = parse("rank_mini_batch_count: 4\ninputs: {data: images}\ninput_type: lines\nmini_batch_size: 7\n");
    assert_eq!((given.input_type, given.mini_batch_size), (InputType::Ranks, MiniBatchSize::Items(1)));
    assert_eq!(given.inputs.len(), 1);
    for spec in [&ranks, &option, &given] {
        let again =
            fanfold_shared::job::parse(&spec.to_yaml(), &folder.job_file(), &[], &fanfold_shared::job::NoDatasets)
                .unwrap();
        assert_eq!(&again, spec, "{}", spec.to_yaml());
    }
    let other = parse("rank_mini_batch_count: 5\n");
    assert_eq!(fanfold_shared::job::differences(&ranks, &other).len(), 1);
}

#[test]
fn set_wins_and_may_be_nested() {
    let folder = Folder::new();
    let spec = folder.spec_with(
        "mini_batch_size: 3\nenvironment_variables: {A: 1, B: 2}\n",
        &[
            "mini_batch_size=7",
            "mini_batch_size=8",
            "run_max_try=\"5\"",
            "environment_variables.B=3.0",
            "environment_variables.a.b=x=y",
            "environment_variables.E=",
            "side_inputs.labels=labels.txt",
            "inputs=*.png",
            "append_row_dataframe_header='true'",
            "priority=",
        ],
    );
    assert_eq!((spec.mini_batch_size, spec.run_max_try, spec.priority), (MiniBatchSize::Items(8), 5, 4));
    let variables: Vec<_> = spec.environment_variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(variables, [("A", "1"), ("B", "3.0"), ("E", ""), ("a.b", "x=y")]);
    assert_eq!(spec.side_inputs["labels"], folder.path("labels.txt"));
    assert_eq!(PathBuf::from(&spec.inputs[0].path), folder.path("*.png"));
    assert!(spec.append_row_dataframe_header);
    assert_eq!(spec.overrides.len(), 10);
    let required = folder.spec_with("name:\n", &["name=from-flag"]);
    assert_eq!(required.name, "from-flag");
}

#[test]
fn environments() {
    let folder = Folder::new();
    folder.write("venv/bin/python", "");
    folder.write("env/requirements.txt", "# pinned\n-r base.txt\nnumpy==2.1\n");
    let python = folder.spec("environment: {python: venv/bin/python}\n");
    assert_eq!(python.environment, Environment::Python(folder.path("venv/bin/python")));
    let list = folder.spec("environment:\n  requirements: [numpy, ./wheel.whl]\n");
    let expected = Environment::Requirements {
        lines: vec!["numpy".into(), "./wheel.whl".into()],
        python: "python3".into(),
        base: folder.root.clone(),
    };
    assert_eq!(list.environment, expected);
    let file = folder.spec("environment: {requirements: env/requirements.txt, python: venv/bin/python}\n");
    let expected = Environment::Requirements {
        lines: vec!["# pinned".into(), "-r base.txt".into(), "numpy==2.1".into()],
        python: folder.path("venv/bin/python"),
        base: folder.path("env"),
    };
    assert_eq!(file.environment, expected);

    for (environment, key, message, hint) in [
        ("{python: python9.9}", "environment.python", "no `python9.9` on PATH", "python:"),
        ("{python: venv/}", "environment.python", "this is a folder", "did you mean `venv/bin/python`?"),
        ("{python: venv/bin/pyton}", "environment.python", "there is no", "did you mean `venv/bin/python`?"),
        ("{requirements: numpy}", "environment.requirements", "no file `numpy`", "requirements: [\"numpy\"]"),
        ("{requirements: env/requirement.txt}", "environment.requirements", "there is no", "env/requirements.txt"),
        ("{requirements: [[a]]}", "environment.requirements", "one line of a requirements file", "pillow"),
        ("{requirements: {a: b}}", "environment.requirements", "not a mapping", "a file, or a list"),
        ("{requirement: [a]}", "environment.requirement", "unknown key", "did you mean `requirements`?"),
        ("{python: venv/bin/python, conda_file: c.yml}", "environment.conda_file", "stands alone", "exactly one"),
    ] {
        let errors = folder.errors(&format!("environment: {environment}\n"));
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert_eq!(errors.errors[0].key, key);
        assert!(errors.errors[0].message.contains(message), "{errors}");
        assert!(errors.hint().unwrap().contains(hint), "{environment}: {:?}", errors.hint());
    }
}

#[test]
fn conda_files() {
    let folder = Folder::new();
    let conda = |text: &str| {
        folder.write("env/conda.yml", text);
        folder.parse("environment: {conda_file: env/conda.yml}\n")
    };
    let spec =
        conda("name: e\nchannels: [conda-forge]\ndependencies:\n- python\n- pip=24\n- pip: [numpy, -r more.txt]\n");
    let expected = Environment::Requirements {
        lines: vec!["numpy".into(), "-r more.txt".into()],
        python: "python3".into(),
        base: folder.path("env"),
    };
    assert_eq!(spec.unwrap().environment, expected);

    for (text, line, message, hint) in [
        ("dependencies:\n- python=3.99\n", 2, "asks for `python3.99`, which is not on PATH", "python:"),
        ("dependencies: ['python>=3.8']\n", 1, "does not name one version", "python=3.11"),
        (
            "dependencies:\n- cudatoolkit=11\n- conda-forge::scikit-learn\n- pip: [a]\n",
            2,
            "conda is needed for `cudatoolkit` and `scikit-learn`",
            "`pip:` list",
        ),
        ("- a\n", 1, "not a conda environment file", "`requirements:`"),
        ("name: x\n", 1, "no `dependencies`", "dependencies: ["),
        ("dependencies: [pip]\nvariables: {A: 1}\n", 2, "`variables`", "environment_variables"),
        ("dependencies: [pip\n", 1, "not valid YAML", "brackets"),
    ] {
        let errors = conda(text).unwrap_err();
        assert_eq!(errors.errors.len(), 1, "{errors}");
        let place = &errors.errors[0].place;
        assert_eq!(place.origin, fanfold_shared::job::Origin::File(folder.path("env/conda.yml")));
        assert_eq!(place.spot.as_ref().unwrap().line, line, "{errors}");
        assert!(errors.errors[0].message.contains(message), "{errors}");
        assert!(errors.hint().unwrap().contains(hint), "{text}: {:?}", errors.hint());
    }
}
