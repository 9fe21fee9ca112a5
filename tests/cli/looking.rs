//! `ls`, `status`, `logs`, `errors` and `doctor` on jobs in every state.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{completed, failed, interrupt, json, paused, place, running, said, told, with_failures};
use crate::support::{LIMIT, Place, finish};

#[test]
fn there_are_no_jobs_at_first() {
    let place = Place::new();
    assert_eq!(said(&place, &["ls"]), "No jobs. `fanfold run JOB.yaml` starts one.\n");
    assert_eq!(json(&place, &["ls"])["jobs"], serde_json::json!([]));
}

#[test]
fn a_completed_job() {
    let place = completed();
    let listed = said(&place, &["ls"]);
    let cells: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["JOB", "STATE", "DONE", "FAILED", "AGE", "JOB", "DIR"]);
    assert_eq!(cells[1], ["echo-<id>", "Completed", "100", "%", "0", "<time>", "<place>/job"]);
    insta::assert_snapshot!(said(&place, &["status", "job"]), @r#"
    echo-<id> Completed

                  ALL  SUCCEEDED  FAILED  REMAINING
    mini-batches   20         20       0          0
    items          20         20       0          0

    ran for   <time>
    attempts  20 run, 0 failed
    output    <place>/job/output/parallel_run_step.txt (20 results, 180 B)
    job dir   <place>/job
    "#);
    assert_eq!(said(&place, &["errors", "job"]), "No failures.\n");
    let status = json(&place, &["status", "job"]);
    assert_eq!((&status["state"], &status["coordinator"]), (&"Completed".into(), &"gone".into()));
    let jobs = json(&place, &["ls"]);
    assert_eq!(
        (&jobs["jobs"][0]["state"], &jobs["jobs"][0]["mini_batches_settled"]),
        (&"Completed".into(), &20.into())
    );
    assert_eq!(place.run(&["errors", "job", "--json"]).expect(0).stdout, "");
}

#[test]
fn a_job_with_failures() {
    let place = with_failures();
    insta::assert_snapshot!(said(&place, &["status", "job"]), @r#"
    error: ValueError: bad pixel (exception: 1 item lost in 2 failed attempts)
      Traceback (most recent call last):
        File "score.py", line 5, in run
          raise ValueError("bad pixel")
      ValueError: bad pixel
    echo-<id> Completed

                  ALL  SUCCEEDED  FAILED  REMAINING
    mini-batches    3          2       1          0
    items           3          2       1          0

    ran for   <time>
    attempts  4 run, 2 failed
    output    <place>/job/output/parallel_run_step.txt (2 results, 18 B)
    job dir   <place>/job
    errors    1 distinct error; see `fanfold errors echo-<id>`
    "#);
    insta::assert_snapshot!(said(&place, &["errors", "job"]), @r#"
    1 failure, 1 item lost, 1 distinct error

    1 × exception: ValueError: bad pixel
        lost: 1 item
        example: mini-batch 1 (item-001-bad), attempt 2, node 0, process000, <time>

    beside that 1 failed attempt that cost no item: tried again
    "#);
    insta::assert_snapshot!(said(&place, &["errors", "job", "--full"]), @r#"
    1 failure, 1 item lost, 1 distinct error

    1 × exception: ValueError: bad pixel
        lost: 1 item
        example: mini-batch 1 (item-001-bad), attempt 2, node 0, process000, <time>
        Traceback (most recent call last):
          File "score.py", line 5, in run
            raise ValueError("bad pixel")
        ValueError: bad pixel

    beside that 1 failed attempt that cost no item: tried again
    "#);
    assert_eq!(said(&place, &["errors", "job", "--kind", "timeout"]), "No failures of kind `timeout`.\n");
    let lines = place.run(&["errors", "job", "--json"]).expect(0).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, place.errors());
    assert_eq!((lines.len(), &lines[0]["v"], &lines[0]["item"]), (1, &1.into(), &"item-001-bad".into()));
    assert_eq!((&lines[0]["kind"], &lines[0]["attempt"]), (&"exception".into(), &2.into()));
    assert_eq!(
        lines[0]["traceback"],
        "Traceback (most recent call last):\n  File \"score.py\", line 5, in run\n    raise ValueError(\"bad pixel\")\nValueError: bad pixel\n"
    );
}

#[test]
fn a_failed_job() {
    let place = failed();
    insta::assert_snapshot!(said(&place, &["status", "job"]), @r#"
    error: RuntimeError: no model here (init: 3 times)
      Traceback (most recent call last):
        File "score.py", line 1, in <module>
          raise RuntimeError("no model here")
      RuntimeError: no model here
    echo-<id> Failed
      cause: the entry script could not be started: RuntimeError: no model here

                  ALL  SUCCEEDED  FAILED  REMAINING
    mini-batches   20          0       0         20
    items          20          0       0         20

    ran for   <time>
    attempts  0 run, 0 failed
    output    none yet
    job dir   <place>/job
    errors    1 distinct error; see `fanfold errors echo-<id>`
    "#);
    insta::assert_snapshot!(said(&place, &["errors", "job", "--full"]), @r#"
    3 failures, 1 distinct error

    3 × init: RuntimeError: no model here
        example: node 0, process000, <time>
        Traceback (most recent call last):
          File "score.py", line 1, in <module>
            raise RuntimeError("no model here")
        RuntimeError: no model here
    "#);
    let result = fs::read_to_string(place.job().join("logs/job_result.txt")).unwrap();
    assert!(
        result.starts_with("State: Failed (exit code 1)\nCause: the entry script could not be started: "),
        "{result}"
    );
    assert_eq!(said(&place, &["logs", "job", "result"]), told(&place, &result));
    let errors = place.errors();
    assert!(!errors.is_empty() && errors.iter().all(|error| error["kind"] == "init"), "{errors:?}");
    assert!(errors.iter().all(|error| error["mini_batch"].is_null() && error["process"].is_string()), "{errors:?}");
}

#[test]
fn a_paused_job() {
    let place = paused();
    let status = said(&place, &["status", "job"]);
    assert!(status.starts_with("echo-<id> Paused\n  cause: interrupted\n\n"), "{status}");
    assert!(status.contains("output/parallel_run_step.txt.partial ("), "{status}");
    assert!(!status.contains("PER SECOND") && !status.contains("time to go"), "nobody works on it: {status}");
    let value = json(&place, &["status", "job"]);
    assert_eq!(value["coordinator"], "gone");
    // What the command said when it was interrupted.
    let again = told(&place, value["go_on"].as_str().expect("a command"));
    assert_eq!(again, "fanfold run <place>/job/job.yaml --job-dir <place>/job");
    assert!(status.ends_with(&format!("\ngo on     {again}\n")), "{status}");
    assert!(said(&place, &["watch", "job"]).starts_with("echo-<id> Paused: "), "it is at rest");
    assert!(said(&place, &["ls"]).contains(" Paused "));
    assert_eq!(said(&place, &["errors", "job"]), "No failures.\n");
}

#[test]
fn a_running_job() {
    let place = place();
    let child = running(&place);
    let status = said(&place, &["status", "job"]);
    assert!(status.starts_with("echo-<id> Running\n\n"), "{status}");
    assert!(
        status.contains("PER SECOND")
            && status.contains("\nprocesses    1 process (1 ready) on 1 node; --processes shows each\n"),
        "{status}"
    );
    let value = json(&place, &["status", "job"]);
    assert_eq!((&value["state"], &value["coordinator"]), (&"Running".into(), &"alive".into()));
    assert!(said(&place, &["ls"]).contains(" Running "));
    assert_eq!(said(&place, &["errors", "job"]), "No failures.\n");
    let verified = said(&place, &["doctor", "--verify", "job"]);
    assert!(verified.ends_with("sound: every checksum and every interval is right\n"), "{verified}");

    let follow = place.fanfold().args(["logs", "job", "overview", "--follow"]).spawn().expect("the program starts");
    interrupt(&place, child).expect(130);
    let followed = finish(follow, LIMIT).expect(0);
    assert!(
        followed.stdout.contains("The job is Running.") && followed.stdout.contains("The job is Paused"),
        "{}",
        followed.stdout
    );
}

#[test]
fn a_job_whose_program_was_killed() {
    let place = place();
    let child = running(&place);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    assert_eq!(finish(child, LIMIT).code, None);
    let status = said(&place, &["status", "job"]);
    assert!(status.starts_with("echo-<id> Running (stopped: coordinator is gone)\n"), "{status}");
    let again = "fanfold run <place>/job/job.yaml --job-dir <place>/job";
    assert!(status.ends_with(&format!("\ngo on     {again}\n")), "{status}");
    assert!(!status.contains("PER SECOND"), "{status}");
    assert!(said(&place, &["ls"]).contains(" Running (stopped: coordinator is gone) "));
    let watched = place.run(&["watch", "job"]).expect(4).stdout;
    assert!(watched.contains(" Running (stopped: coordinator is gone): "), "{watched}");
    assert_eq!(json(&place, &["status", "job"])["coordinator"], "gone");
    place.nothing_left().unwrap();
    place.write("go", "");
    let job = place.job();
    place.run(&["run", job.join("job.yaml").to_str().unwrap(), "--job-dir", job.to_str().unwrap()]).expect(0);
    assert_eq!(place.rows().len(), 20);
}

#[test]
fn logs_lists_the_files_and_shows_them() {
    let place = completed();
    let listed = place.run(&["logs", "job"]).expect(0).stdout;
    for what in ["explains this layout", "state, cause, first errors", "a line for each mini-batch", "the coordinator"]
    {
        assert!(listed.contains(what), "{listed}");
    }
    let value = json(&place, &["logs", "job"]);
    let files: Vec<&str> =
        value["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(files.contains(&"logs/job_result.txt") && files.contains(&"azureml-logs/70_driver_log.txt"), "{files:?}");
    let lines = place.run(&["logs", "job", "process000", "--tail", "1"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn doctor_looks_at_the_machine() {
    let place = Place::new();
    let said = said(&place, &["doctor"]);
    let names: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["python", "venv", "gpus", "disk"], "{said}");
    assert_eq!(json(&place, &["doctor"])["sound"], true);

    let mut command = place.fanfold();
    let ran = finish(command.arg("doctor").env("PATH", place.path("")).spawn().unwrap(), LIMIT).expect(1);
    assert!(ran.stdout.starts_with("problem  python  python3 can't be started"), "{}", ran.stdout);
}

#[test]
fn doctor_verifies_a_result() {
    let place = completed();
    let sound = said(&place, &["doctor", "--verify", "job"]);
    assert!(sound.ends_with("sound: every checksum and every interval is right\n"), "{sound}");
    assert_eq!(json(&place, &["doctor", "--verify", "job"])["sound"], true);

    let output = place.job().join("output/parallel_run_step.txt");
    let mut text = fs::read(&output).unwrap();
    text[4] ^= 1;
    fs::write(&output, text).unwrap();
    let ran = place.run(&["doctor", "--verify", "job"]).expect(1);
    assert!(ran.stdout.ends_with("NOT sound\n") && ran.stdout.contains("\nproblem: "), "{}", ran.stdout);
    let ran = place.run(&["doctor", "--verify", "job", "--json"]).expect(1);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&value["sound"], &value["problem_count"]), (&false.into(), &1.into()), "{value}");
}
