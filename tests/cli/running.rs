//! What `fanfold plan` and `fanfold run` say where no terminal is.

use std::fs;

use super::{RUN, completed, failed, interrupt, json, paused, place, place_of, running, said, told};

#[test]
fn plan_says_what_would_run_and_runs_nothing() {
    let place = place();
    insta::assert_snapshot!(said(&place, &["plan", "job.yaml", "--set", "mini_batch_size=8", "--set", "gpus=[]"]), @r#"
    echo: 20 lines in 3 mini-batches
      input0        20 lines, 3 mini-batches
      processes     1 on this machine, no GPUs
      snapshot      1 file, 255 B
      output        fanfold-jobs/<job id>/output/parallel_run_step.txt

    Resolved job file
      name: echo
      entry_script: <place>/score.py
      inputs:
        input0: <place>/items.txt
      input_type: lines
      side_inputs: {}
      models: {}
      arguments: []
      output_action: append_row
      append_row_file_name: parallel_run_step.txt
      append_row_dataframe_header: false
      ordered: false
      append_row_key: false
      mini_batch_size: 8
      error_threshold: -1
      allowed_failed_count: -1
      allowed_failed_percent: 100
      run_invocation_timeout: 60
      run_max_try: 2
      on_failure: drop
      task_overhead_timeout: 30
      progress_update_timeout: 210
      first_task_creation_timeout: 600
      node_count: max
      process_count_per_node: 1
      gpus: []
      surplus_processes: unset
      compute_target: default
      environment:
        python: python3
      environment_variables:
        GO: <place>/go
      logging_level: INFO
      resource_monitor_interval: 600
      allow_reuse: true
      priority: 4
      overrides:
      - mini_batch_size=8
      - gpus=[]
    "#);
    let plan = json(&place, &["plan", "job.yaml", "--set", "mini_batch_size=8"]);
    assert_eq!((&plan["items"], &plan["mini_batches"], &plan["processes"]), (&20.into(), &3.into(), &1.into()));
    assert_eq!((&plan["inputs"][0]["items"], &plan["job"]["mini_batch_size"]), (&20.into(), &8.into()));
    let mut left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // The test's own: see `Place::command`.
    left.retain(|name| name != ".no-nvml");
    left.sort();
    assert_eq!(left, ["go", "items.txt", "job.yaml", "score.py"], "nothing was made");
}

#[test]
fn plan_for_a_fleet_looks_at_nothing_that_workers_bring() {
    let place = place();
    fs::create_dir(place.path("elsewhere")).unwrap();
    let shared = place.path("").display().to_string();
    let plan = |shared: &str, more: &[&str]| {
        let servers = ["plan", "job.yaml", "--broker", "amqp://nobody/", "--redis", "redis://nobody/", "--shared"];
        // Only workers need to have it.
        let python = ["--set", "environment.python=/nowhere/python3"];
        place.run(&[&servers[..], &[shared], &python, more].concat())
    };
    let text = plan(&shared, &["--set", "node_count=3", "--set", "compute_target=gpu"]).expect(0).stdout;
    insta::assert_snapshot!(told(&place, text.split("\n\nResolved").next().unwrap()), @r#"
    echo: 20 lines in 20 mini-batches
      input0        20 lines, 20 mini-batches
      nodes         up to 3 of pool `gpu`
      processes     1 on each node
      snapshot      1 file, 255 B
      output        fanfold-jobs/<job id>/output/parallel_run_step.txt
    "#);
    let text = plan(&shared, &["--set", "process_count_per_node="]).expect(0).stdout;
    assert!(text.contains("\n  nodes         as many as come of pool `default`\n"), "{text}");
    assert!(text.contains("\n  processes     as many as each worker brings\n"), "{text}");
    let plan_json: serde_json::Value =
        serde_json::from_str(&plan(&shared, &["--json", "--set", "node_count=3"]).expect(0).stdout).unwrap();
    assert_eq!((&plan_json["pool"], &plan_json["node_count"]), (&"default".into(), &3.into()));
    assert!(plan_json["processes"].is_null() && plan_json["gpus"].is_null(), "{plan_json}");
    let elsewhere = place.path("elsewhere").display().to_string();
    insta::assert_snapshot!(told(&place, &plan(&elsewhere, &[]).expect(2).stderr), @r#"
    error: the job directory: `<place>/fanfold-jobs/<job id>` is not under the shared directory `<place>/elsewhere`
    hint: on a fleet the job lies where every worker sees it: name a directory under `<place>/elsewhere` with `--job-dir`, or start fanfold there
    "#);
}

#[test]
fn resume_goes_on_here_or_on_the_fleet_that_is_named() {
    let place = paused();
    let ran = place.run(&["resume", "./job", "--redis", "redis://nobody/"]).expect(2);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    error: the address of the broker is not known
    hint: set FANFOLD_BROKER_FILE to the path of a file with it, or FANFOLD_BROKER or `--broker` to an address like amqp://user:password@host:5672/
    "#);
    assert_eq!(json(&place, &["status", "job"])["state"], "Paused", "nothing was touched");
    let ran = place.run(&["resume", "./job"]).expect(0);
    assert!(ran.stderr.contains("\nContinues: 1"), "{}", ran.stderr);
    assert_eq!(place.rows().len(), 20);
    let ran = place.run(&["resume", "./job"]).expect(2);
    assert!(ran.stderr.contains("is Completed: there is nothing to resume"), "{}", ran.stderr);
}

#[test]
fn a_clean_job_says_where_its_result_is() {
    let place = place();
    let ran = place.run(&RUN).expect(0);
    assert_eq!(ran.stdout, "", "standard output is for data");
    // A line about the progress comes after a second or not at all, as the machine pleases.
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| !line.ends_with(" to go")).collect();
    insta::assert_snapshot!(told(&place, &lines.join("\n")), @r#"
    Job echo-<id> in <place>/job
    Preparing
    Running
    Finalizing
    20 of 20 mini-batches (100 %), 20 of 20 items

    echo-<id> Completed after <time>
      mini-batches  20 planned, 20 run, 0 run again, 20 committed
      items         20 succeeded, 0 failed
      rate          <rate> mini-batches/s
      output        <place>/job/output/parallel_run_step.txt (20 results, 180 B)
      logs          <place>/job/logs
    "#);
}

#[test]
fn a_job_with_a_bad_item_shows_it_and_says_what_next() {
    let place = place_of(&["item-000", "item-001-bad", "item-002"]);
    let ran = place.run(&RUN).expect(5);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    Job echo-<id> in <place>/job
    Preparing
    Running
    error: ValueError: bad pixel
      exception in mini-batch 1, attempt 1, node 0, process000; it is tried again
      Traceback (most recent call last):
        File "score.py", line 5, in run
          raise ValueError("bad pixel")
      ValueError: bad pixel
    Finalizing
    3 of 3 mini-batches (100 %), 3 of 3 items, 1 failed

    echo-<id> Completed after <time>
      mini-batches  3 planned, 4 run, 1 run again, 2 committed, 1 failed
      items         2 succeeded, 1 failed
      exit code     5: items failed, and the job sets no threshold for them
      rate          <rate> mini-batches/s
      output        <place>/job/output/parallel_run_step.txt (2 results, 18 B)
      errors        exception: ValueError: bad pixel (1 item lost in 2 failed attempts)
                    each failure is in <place>/job/errors.jsonl
      logs          <place>/job/logs
      next          fanfold errors echo-<id>    # what failed, grouped; --full with tracebacks
                    fanfold retry --failed echo-<id>    # try again what is out of tries, and go on
                    fanfold retry --failed --new-script echo-<id>    # the same with the script as it is by then
    "#);
    let again = place.run(&RUN).expect(5);
    insta::assert_snapshot!(told(&place, &again.stderr), @r#"
    echo-<id> is Completed already: nothing was run
      output        <place>/job/output/parallel_run_step.txt
      failed        1 item; see `fanfold errors echo-<id>`
    "#);
}

#[test]
fn a_failed_job_ends_with_one_cause_and_what_next() {
    let place = place_of(&["item-000-bad"]);
    let ran = place.run(&RUN).expect(1);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    Job echo-<id> in <place>/job
    Preparing
    Running
    error: ValueError: bad pixel
      exception in mini-batch 0, attempt 1, node 0, process000; it is tried again
      Traceback (most recent call last):
        File "score.py", line 5, in run
          raise ValueError("bad pixel")
      ValueError: bad pixel
    1 of 1 mini-batches (100 %), 1 of 1 items, 1 failed

    echo-<id> Failed after <time>
      cause         no item succeeded, so there is no result; the most frequent error: ValueError: bad pixel
      mini-batches  1 planned, 2 run, 1 run again, 0 committed, 1 failed
      items         0 succeeded, 1 failed
      rate          <rate> mini-batches/s
      output        none yet
      errors        exception: ValueError: bad pixel (1 item lost in 2 failed attempts)
                    each failure is in <place>/job/errors.jsonl
      logs          <place>/job/logs
      next          fanfold errors echo-<id>    # what failed, grouped; --full with tracebacks
                    fanfold retry --failed echo-<id>    # try again what is out of tries, and go on
                    fanfold retry --failed --new-script echo-<id>    # the same with the script as it is by then
                    fanfold logs echo-<id>    # the logs and what is in them
    "#);
}

#[test]
fn a_script_that_cannot_start_is_shown_once_with_its_traceback() {
    let place = failed();
    let ran = place.run(&["run", "job.yaml", "--job-dir", "other"]).expect(1);
    assert_eq!(ran.stderr.matches("Traceback (most recent call last):").count(), 1, "{}", ran.stderr);
    insta::assert_snapshot!(told(&place, &ran.stderr), @r#"
    Job echo-<id> in <place>/other
    Preparing
    Running
    error: RuntimeError: no model here
      init on node 0, process000
      Traceback (most recent call last):
        File "score.py", line 1, in <module>
          raise RuntimeError("no model here")
      RuntimeError: no model here
    0 of 20 mini-batches (0 %), 0 of 20 items

    echo-<id> Failed after <time>
      cause         the entry script could not be started: RuntimeError: no model here
      mini-batches  20 planned, 0 run, 0 run again, 0 committed, 20 not done
      items         0 succeeded, 0 failed
      output        none yet
      errors        init: RuntimeError: no model here (3 times)
                    each failure is in <place>/other/errors.jsonl
      logs          <place>/other/logs
      next          fanfold errors echo-<id>    # what failed, grouped; --full with tracebacks
                    fanfold retry --failed echo-<id>    # try again what is out of tries, and go on
                    fanfold retry --failed --new-script echo-<id>    # the same with the script as it is by then
                    fanfold logs echo-<id>    # the logs and what is in them
    "#);
}

#[test]
fn an_interrupted_job_says_how_to_go_on_and_does() {
    let place = place();
    let child = running(&place);
    let ran = interrupt(&place, child).expect(130);
    let text = told(&place, &ran.stderr);
    let (before, summary) = text.split_once("\n\n").expect("a summary");
    assert!(before.contains("\ninterrupted: finishing what runs; "), "{before}");
    assert!(summary.starts_with("echo-<id> Paused after <time>\n  cause         interrupted\n"), "{summary}");
    assert!(
        summary.contains("\n  next          fanfold run <place>/job/job.yaml --job-dir <place>/job    # go on"),
        "{summary}"
    );
    let ran = place.run(&RUN).expect(0);
    assert!(ran.stderr.contains("\nContinues: 1"), "{}", ran.stderr);
    assert_eq!(place.rows().len(), 20);
}

#[test]
fn a_reader_that_had_enough_is_no_error() {
    use std::process::{Command, Stdio};
    let place = completed();
    // More than a pipe holds.
    let log = place.job().join("logs/user/stdout/0/process000.stdout.txt");
    fs::write(&log, "a line of the script\n".repeat(50_000)).unwrap();
    let line = format!("\"{}\" logs job stdout | head -n 1; echo ${{PIPESTATUS[0]}}", crate::support::FANFOLD);
    let mut command = Command::new("bash");
    command.args(["-c", &line]).current_dir(place.path("")).stdin(Stdio::null());
    let output = command.output().expect("bash starts");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().last(), Some("0"), "{text}");
    for verb in ["ls", "status job", "errors job", "doctor", "--help"] {
        let line = format!("\"{}\" {verb} | true; echo ${{PIPESTATUS[0]}}", crate::support::FANFOLD);
        let output = Command::new("bash").args(["-c", &line]).current_dir(place.path("")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{verb}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{verb}");
    }
}
