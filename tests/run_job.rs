//! Whole jobs, from the command line to the output file.

mod support;

use support::{Place, assert_each_once};

const ECHO: &str = "def run(mini_batch):\n    return mini_batch\n";

fn echo(place: &Place, more: &str) {
    place.write("score.py", ECHO);
    let yaml = format!(
        "name: echo\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 3\n{more}"
    );
    place.write("job.yaml", yaml);
}

#[test]
fn every_item_is_in_the_output_once() {
    let place = Place::new();
    let items = place.write_items(100);
    echo(&place, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
    assert_eq!(place.status()["state"], "Completed");
}

#[test]
fn a_completed_job_is_not_run_again() {
    let place = Place::new();
    place.write_items(5);
    echo(&place, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let before = place.rows();
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert!(again.stderr.contains("Completed already"), "{}", again.stderr);
    assert_eq!(place.rows(), before);
}

/// A script that raises on one item until somebody mends the world.
const RAISES: &str = "import os\ndef run(mini_batch):\n    if 'item-004' in mini_batch and not os.path.exists(os.environ['MENDED']):\n        \
                      raise ValueError('not yet')\n    return mini_batch\n";

fn raises(place: &Place, more: &str) {
    place.write("score.py", RAISES);
    let yaml = format!(
        "name: raises\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 3\n\
         environment_variables: {{MENDED: {}}}\n{more}",
        place.path("mended").display()
    );
    place.write("job.yaml", yaml);
}

#[test]
fn what_failed_is_retried_into_the_same_output() {
    let place = Place::new();
    let items = place.write_items(10);
    raises(&place, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert_eq!((place.rows().len(), place.errors().len()), (7, 1));
    place.run(&["retry", "--failed", "job"]).expect(5);
    assert_eq!(place.rows().len(), 7, "it failed again, nothing else was touched");
    place.write("mended", "");
    let ran = place.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
    assert!(place.errors().is_empty(), "nothing stands any more: {}", ran.stderr);
    place.run(&["doctor", "--verify", "job"]).expect(0);
    place.run(&["retry", "--failed", "job"]).expect(2);
}

#[test]
fn a_failed_job_goes_on_after_a_retry() {
    let place = Place::new();
    let items = place.write_items(10);
    raises(&place, "error_threshold: 0\nprocess_count_per_node: 1\n");
    let failed = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(failed.stderr.contains("fanfold retry --failed"), "{}", failed.stderr);
    let again = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(again.stderr.contains("fanfold retry --failed"), "{}", again.stderr);
    place.run(&["retry", "--failed", "job", "--set", "mini_batch_size=5"]).expect(2);
    place.write("mended", "");
    place.run(&["retry", "--failed", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn attempts_that_fail_slowly_are_no_lack_of_progress() {
    let place = Place::new();
    place.write_items(1);
    place.write("score.py", "import time\ndef run(mini_batch):\n    time.sleep(0.6)\n    raise ValueError('slowly')\n");
    place.write(
        "job.yaml",
        "name: slow\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nrun_max_try: 5\n\
         progress_update_timeout: 2\nprocess_count_per_node: 1\n",
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(!ran.stderr.contains("no progress"), "{}", ran.stderr);
    assert_eq!(place.errors()[0]["attempt"], 5);
    assert!(place.job().join("logs/sys/job_report/processed_mini-batches.csv").exists(), "also of a Failed job");
}

/// The job file lies in the source directory; it may change on continuing, and files may come; what the job has a copy of may not.
#[test]
fn what_may_change_on_continuing_may_lie_beside_the_script() {
    let place = Place::new();
    let items = place.write_items(10);
    raises(&place, "source_directory: .\nerror_threshold: 0\nprocess_count_per_node: 1\n");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    let text = std::fs::read_to_string(place.path("job.yaml")).unwrap();
    place.write("job.yaml", text.replace("error_threshold: 0", "error_threshold: 9"));
    place.write("new.log", "came since");
    let ended = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ended.stderr.contains("is Failed"), "not another job: {}", ended.stderr);
    place.write("mended", "");
    place.run(&["retry", "--failed", "job", "--set", "error_threshold=9"]).expect(0);
    assert_each_once(&place.rows(), &items);
}

#[test]
fn asking_again_changes_nothing_of_a_completed_job() {
    let place = Place::new();
    place.write_items(10);
    raises(&place, "");
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    let before = std::fs::read_to_string(place.job().join("job.yaml")).unwrap();
    place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "error_threshold=5"]).expect(5);
    assert_eq!(std::fs::read_to_string(place.job().join("job.yaml")).unwrap(), before);
}
