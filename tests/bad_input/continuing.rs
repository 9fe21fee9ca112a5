//! What must not change under a job that goes on, what may, and jobs that are over.

use std::fs;

use super::{completed, job_file, paused, place, refused, refused_with, told};
use crate::support::{Place, assert_each_once};

#[test]
fn a_job_goes_on_only_as_what_it_was() {
    let place = place();
    paused(&place);
    let again = ["job.yaml", "--job-dir", "job"];
    let with = |more: &[(&str, &str)]| {
        place.write("job.yaml", job_file(&place, more));
        refused(&place, &again)
    };
    insta::assert_snapshot!(with(&[("mini_batch_size", "2")]), @r#"
    error: `job` holds another job, echo-<id>: mini_batch_size was 1, is 2
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
    insta::assert_snapshot!(with(&[("arguments", "[\"--scale\", \"2\"]")]), @r#"
    error: `job` holds another job, echo-<id>: arguments was [], is ["--scale", "2"]
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
    place.write("more.txt", "item-100\n");
    insta::assert_snapshot!(with(&[("inputs", "[items.txt, more.txt]")]), @r#"
    error: `job` holds another job, echo-<id>: inputs was {input0: "items.txt"}, is {input0: "items.txt", input1: "more.txt"}
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
    insta::assert_snapshot!(with(&[("append_row_file_name", "other.txt")]), @r#"
    error: `job` holds another job, echo-<id>: append_row_file_name was parallel_run_step.txt, is other.txt
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
    insta::assert_snapshot!(with(&[("output", "elsewhere")]), @r#"
    error: `job` holds another job, echo-<id>: output was <job directory>/output, is elsewhere
    hint: leave `--job-dir` out or name a new directory to run this as a new job; say the same again (job file, `--set`) to continue the old one
    "#);
    place.write("job.yaml", job_file(&place, &[]));
    place.write("score.py", format!("{}\n# changed\n", super::SCRIPT));
    insta::assert_snapshot!(refused(&place, &again), @r#"
    error: job echo-<id> in `job` runs its own copy of the script, and `score.py` changed since
    hint: `fanfold retry --failed --new-script echo-<id>` goes on with the new script, and keeps the rows that are in; to go on with the old one, bring the files back as they are in `job/.fanfold/snapshot`; what changes by itself (logs, outputs) belongs into .amlignore
    "#);
}

#[test]
fn what_does_not_change_the_result_may_change() {
    let place = place();
    paused(&place);
    let more = [("run_max_try", "5"), ("process_count_per_node", "1"), ("logging_level", "DEBUG")];
    place.write("job.yaml", job_file(&place, &more));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &(0..20).map(|i| format!("item-{i:03}")).collect::<Vec<_>>());
}

#[test]
fn a_failed_job_is_not_run_again() {
    let place = place();
    place.write_items(1);
    place.write("score.py", "def run(mini_batch):\n    raise ValueError(\"no\")\n");
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "error_threshold=0"]).expect(1);
    let mut again = place.fanfold();
    again.args(["run", "job.yaml", "--job-dir", "job", "--set", "error_threshold=0"]);
    insta::assert_snapshot!(refused_with(&place, &mut again, 1), @r#"
    error: job echo-<id> in `job` is Failed: 1 failed item exceeds error_threshold 0
    hint: `fanfold errors echo-<id>` shows what failed; `fanfold retry --failed echo-<id>` goes on with this job and its copy of the script, and with `--new-script` with the script as it is now
    "#);
}

#[test]
fn a_completed_job_whose_output_changed_says_so() {
    let place = place();
    completed(&place);
    let again = ["job.yaml", "--job-dir", "job"];
    let output = place.job().join("output/parallel_run_step.txt");
    let text = fs::read(&output).unwrap();
    fs::write(&output, &text[..50]).unwrap();
    insta::assert_snapshot!(refused(&place, &again), @r#"
    error: job echo-<id> is Completed, but its output `job/output/parallel_run_step.txt` has 50 bytes, and the job wrote 180
    hint: nothing was changed; bring the file back from a copy, or run the job in a new directory (leave `--job-dir` out)
    "#);
    fs::remove_file(&output).unwrap();
    insta::assert_snapshot!(refused(&place, &again), @r#"
    error: job echo-<id> is Completed, but its output `job/output/parallel_run_step.txt` is gone
    hint: nothing was changed; bring the file back from a copy, or run the job in a new directory (leave `--job-dir` out)
    "#);
    fs::write(&output, &text).unwrap();
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    insta::assert_snapshot!(told::told(&again.stderr, &place.path(""), "echo"), @r#"
    echo-<id> is Completed already: nothing was run
      output        <place>/job/output/parallel_run_step.txt
    "#);
}

#[test]
fn a_file_that_changed_is_refused_while_it_is_still_to_be_run_and_one_that_is_gone_is_a_failed_item() {
    let place = place();
    for name in ["a", "b", "c", "d"] {
        place.write(format!("data/{name}"), format!("content of {name}"));
    }
    place.write(
        "score.py",
        "import os\n\ndef run(mini_batch):\n    names = [os.path.basename(item) for item in mini_batch]\n    if names >= ['b'] and not \
         os.path.exists('PLACE/ok'):\n        raise ValueError('not yet')\n    return names\n"
            .replace("PLACE", place.path("").to_str().unwrap()),
    );
    place.write("job.yaml", job_file(&place, &[("inputs", "[data]"), ("input_type", "files"), ("run_max_try", "1")]));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    place.write("ok", "");
    let retry = |place: &Place| {
        let mut retry = place.fanfold();
        retry.args(["retry", "--failed", "job"]);
        retry
    };
    fs::remove_file(place.path("data/b")).unwrap();
    place.write("data/c", "more of c than there was");
    // It is in: whatever becomes of it.
    place.write("data/a", "");
    insta::assert_snapshot!(refused_with(&place, &mut retry(&place), 2), @r"
    error: input `input0`: `data/c` changed since the job listed it: size 12 -> 24, and it is still to be run
    hint: nothing was run or changed; bring the file back as it was, its time of change included (`cp -p`, `touch -d`), and give the same command; or run what is there now as a new job, in a new directory
    ");
    fs::remove_file(place.path("data/c")).unwrap();
    place.run(&["retry", "--failed", "job"]).expect(5);
    assert_each_once(&place.rows(), &["a".to_string(), "d".to_string()]);
    let errors = place.errors();
    let gone = errors.iter().filter(|error| error["kind"] == "input").count();
    assert_eq!(gone, 2, "{errors:?}");
}

#[test]
fn a_completed_job_says_what_is_another_thing_by_now() {
    let place = place();
    completed(&place);
    let again = |place: &Place| {
        let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
        told::told(&ran.stderr, &place.path(""), "echo")
    };
    assert!(!again(&place).contains("note"), "nothing is another thing");
    place.write("score.py", format!("{}\n# changed\n", super::SCRIPT));
    place.write("job.yaml", job_file(&place, &[("run_max_try", "5"), ("environment_variables", "{GO: x}")]));
    insta::assert_snapshot!(again(&place), @r"
    echo-<id> is Completed already: nothing was run
      output        <place>/job/output/parallel_run_step.txt
      note          `score.py` changed since: the result is that of the job's own copy of the script
      note          other settings than those it ran with: environment_variables; run_max_try was 3, is 5
      note          to run it as it is now, leave `--job-dir` out or name a new directory
    ");
    // It is about the script that was, and does not go into what the job is.
    assert!(!fs::read_to_string(place.job().join("job.yaml")).unwrap().contains("run_max_try: 5"));
    assert!(!place.run(&["resume", "job"]).stderr.contains("changed since"));
}

#[test]
fn of_a_bisected_mini_batch_only_the_bad_items_must_be_what_they_were() {
    let place = place();
    for name in ["a", "b", "c", "d"] {
        place.write(format!("data/{name}"), format!("content of {name}"));
    }
    place.write(
        "score.py",
        "import os\n\ndef run(mini_batch):\n    names = [os.path.basename(item) for item in mini_batch]\n    if 'c' in names and not \
         os.path.exists('PLACE/ok'):\n        raise ValueError('not yet')\n    return names\n"
            .replace("PLACE", place.path("").to_str().unwrap()),
    );
    let more = [("inputs", "[data]"), ("input_type", "files"), ("mini_batch_size", "4"), ("on_failure", "bisect")];
    place.write("job.yaml", job_file(&place, &more));
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_each_once(&place.rows(), &["a", "b", "d"].map(String::from));
    place.write("ok", "");
    place.write("data/d", "");
    let before = fs::read(place.path("data/c")).unwrap();
    let then = fs::metadata(place.path("data/c")).unwrap().modified().unwrap();
    place.write("data/c", "more of c than there was");
    let mut retry = place.fanfold();
    retry.args(["retry", "--failed", "job"]);
    let said = refused_with(&place, &mut retry, 2);
    assert!(said.contains("`data/c` changed") && !said.contains("more changed"), "{said}");
    fs::write(place.path("data/c"), before).unwrap();
    fs::File::options().write(true).open(place.path("data/c")).unwrap().set_modified(then).unwrap();
    place.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&place.rows(), &["a", "b", "d", "c"].map(String::from));
}
