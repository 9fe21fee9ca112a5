//! The script's arguments.

use fanfold_shared::job::{Places, entry_argv};
use fanfold_shared::report::Report;

use crate::folder::Folder;

#[test]
fn the_drivers_own_come_first_then_the_jobs() {
    let folder = Folder::new();
    let spec = folder.spec("arguments: [--flag, 1.10, yes, '', 'a b']\n");
    let argv = entry_argv(&spec, &Places::local(&spec, "/out", 4));
    assert_eq!(
        argv.join(" "),
        "--scoring_module_name score.py --mini_batch_size 10 --error_threshold -1 \
         --output_action append_row --logging_level INFO --run_invocation_timeout 60 --run_max_try 3 --output /out \
         --process_count_per_node 4 --flag 1.10 yes  a b"
    );
    let set = folder.spec(
        "allowed_failed_count: 2\nallowed_failed_percent: 5\nappend_row_file_name: p.txt\nlogging_level: debug\n",
    );
    let argv = entry_argv(&set, &Places::local(&set, "/out", 1)).join(" ");
    assert!(argv.contains("--allowed_failed_count 2 --allowed_failed_percent 5 --append_row_file_name p.txt --output"));
    assert!(argv.contains("--logging_level DEBUG"));
}

#[test]
fn references_become_local_paths_and_dollars_stay() {
    let folder = Folder::new();
    let spec = folder.spec(
        "inputs: {a: images, g: 'images/*.png'}\nside_inputs: {labels: labels.txt}\n\
         arguments: ['--l=${side_inputs.labels}', '${inputs.a}:${inputs.g}', '${output}/x', $, $$, $HOME, '${', \
         '$${output}']\n",
    );
    let argv = entry_argv(&spec, &Places::local(&spec, "/out", 1));
    let root = folder.root.display();
    let expected = [
        format!("--l={root}/labels.txt"),
        format!("{root}/images:{root}/images"),
        "/out/x".into(),
        "$".into(),
        "$$".into(),
        "$HOME".into(),
        "${".into(),
        "$/out".into(),
    ];
    assert_eq!(argv[argv.len() - 8..], expected);
    // On another machine the same job has other paths.
    let mut places = Places::local(&spec, "/out", 1);
    places.side_inputs.insert("labels".into(), "/mnt/labels".into());
    assert!(entry_argv(&spec, &places).contains(&"--l=/mnt/labels".to_string()));
}

#[test]
fn references_that_name_nothing_are_refused() {
    let folder = Folder::new();
    for (argument, hint) in [
        ("${inputs.b}", "did you mean `${inputs.a}`?"),
        ("${HOME}", "there is `${inputs.a}`, `${side_inputs.labels}` and `${output}`"),
        ("${}", "there is"),
        ("${{inputs.a}}", "`${inputs.a}`"),
        ("${{outputs.score}}", "`${output}`"),
        ("x${side_input.labels}", "did you mean `${side_inputs.labels}`?"),
    ] {
        let more =
            format!("inputs: {{a: images}}\nside_inputs: {{labels: labels.txt}}\narguments:\n- \"{argument}\"\n");
        let errors = folder.errors(&more);
        assert_eq!(errors.errors.len(), 1, "{errors}");
        assert!(errors.errors[0].message.contains("names nothing"), "{errors}");
        assert_eq!(errors.errors[0].place.spot.as_ref().unwrap().column, 3);
        assert!(errors.hint().unwrap().contains(hint), "{argument}: {:?}", errors.hint());
    }
    // A side input at fault is not reported a second time through its reference.
    let once = folder.errors("side_inputs: {labels: none}\narguments: ['${side_inputs.labels}']\n");
    assert_eq!(once.errors.len(), 1, "{once}");
}

#[test]
fn driver_options_set_their_keys_and_stay() {
    let folder = Folder::new();
    let spec = folder.spec(
        "error_threshold: 1\narguments: [--error_threshold, 5, --profiling_module=cProfile, --resource_monitor_interva, 20, \
         --append_row_dataframe_header, 'True', --progress_update_timeout, '90', --mine, x]\n",
    );
    assert_eq!((spec.error_threshold, spec.resource_monitor_interval, spec.progress_update_timeout), (5, 600, 90));
    assert!(spec.append_row_dataframe_header && spec.profiling_module.is_some());
    assert_eq!(spec.driver_options["error_threshold"], "5");
    assert_eq!(spec.driver_options.len(), 4);
    assert_eq!(spec.arguments.len(), 11);
    let argv = entry_argv(&spec, &Places::local(&spec, "/out", 1)).join(" ");
    assert!(argv.contains("--error_threshold 5 --output_action"), "{argv}");
    assert!(argv.ends_with("--mine x"), "{argv}");
    // `--set` is the last word.
    let set = folder.spec_with("arguments: [--error_threshold, 5]\n", &["error_threshold=7"]);
    assert_eq!(set.error_threshold, 7);
}

#[test]
fn driver_options_are_validated_where_they_stand() {
    let folder = Folder::new();
    for (arguments, key, column, message) in [
        ("[--error_threshold, -2]", "error_threshold", 32, "at least -1"),
        ("[--a, --process_count_per_node=0]", "process_count_per_node", 18, "from 1 to 10000"),
        ("[--first_task_creation_timeout]", "arguments", 13, "has no value"),
        ("[--task_overhead_timeout, --x]", "arguments", 13, "has no value"),
        ("[--mini_batch_size, 5]", "arguments", 13, "belongs to the driver"),
        ("[--output, /x]", "arguments", 13, "belongs to the driver"),
        ("[--partition_keys, x]", "arguments", 13, "belongs to the driver"),
        ("[--rank_mini_batch_count, 0]", "rank_mini_batch_count", 38, "from 1 to 4294967295"),
        ("[a, null]", "arguments", 16, "`arguments[1]` must be text, not nothing"),
        ("[--a: 1]", "arguments", 13, "`arguments[0]` must be text, not a mapping"),
        ("[[a]]", "arguments", 13, "`arguments[0]` must be text, not a list"),
    ] {
        let errors = folder.errors(&format!("arguments: {arguments}\n"));
        assert_eq!(errors.errors.len(), 1, "{errors}");
        let error = &errors.errors[0];
        assert_eq!((error.key.as_str(), error.place.spot.as_ref().unwrap().column), (key, column), "{errors}");
        assert!(error.message.contains(message), "{errors}");
        assert!(error.hint.is_some());
    }
    // What a script with an `--output` of its own would write.
    folder.spec("arguments: [--output, '${output}']\n");
}
