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
fn what_is_not_needed_any_more_was_not_killed_and_the_books_say_how_it_went() {
    let place = Place::new();
    let items = place.write_items(4);
    place.write(
        "score.py",
        "import os, time\n\ndef init():\n    try:\n        os.close(os.open(os.environ['PLACE'] + '/first', os.O_CREAT | os.O_EXCL))\n    \
         except FileExistsError:\n        time.sleep(100)\n\ndef run(mini_batch):\n    time.sleep(0.1)\n    return mini_batch\n",
    );
    let yaml = format!(
        "name: unready\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         process_count_per_node: 2\nlogging_level: WARNING\nenvironment_variables: {{PLACE: '{}'}}\n",
        place.path("").display()
    );
    place.write("job.yaml", yaml);
    place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    assert_each_once(&place.rows(), &items);
    let read = |path: &str| std::fs::read_to_string(place.job().join(path)).unwrap();
    let summary = read("logs/sys/job_report/process_summary.csv");
    assert!(summary.contains("stopped before it was ready; no longer needed"), "{summary}");
    assert!(!summary.contains("SIGKILL"), "{summary}");
    let master = read("logs/sys/master_role.txt");
    for milestone in ["takes up job", " joined: 2 processes", "The job is Completed", "Node 0 left"] {
        assert!(master.contains(milestone), "`{milestone}`, whatever the level:\n{master}");
    }
    let status = place.status();
    assert!(status["items_per_second"].as_f64().unwrap() > 0.0, "{status:#}");
    assert_eq!(status["job_file"], place.path("job.yaml").display().to_string());
}

/// A process stuck for longer than the job may stand still: nothing is out of tries, so nothing is in errors.jsonl.
#[test]
fn a_job_that_fails_while_everything_is_tried_again_shows_what_was() {
    let place = Place::new();
    place.write_items(1);
    place.write(
        "score.py",
        "import os, time\nfrom pathlib import Path\n\ndef run(mini_batch):\n    once = Path(os.environ['PLACE'], 'once')\n    \
         if once.exists():\n        time.sleep(100)\n    once.touch()\n    raise ValueError('bad pixel')\n",
    );
    let yaml = format!(
        "name: again\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nprogress_update_timeout: 1\n\
         process_count_per_node: 1\nenvironment_variables: {{PLACE: '{}'}}\n",
        place.path("").display()
    );
    place.write("job.yaml", yaml);
    let ended = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(1);
    assert!(ended.stderr.contains("what was tried again"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("errors.jsonl"), "{}", ended.stderr);
    let shown = place.run(&["errors", "job", "--full"]).expect(0).stdout;
    assert!(shown.starts_with("No failure counts; 1 failed attempt, tried again, 1 distinct error\n"), "{shown}");
    assert!(shown.contains("ValueError: bad pixel") && shown.contains("mini-batch 0 ("), "{shown}");
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

/// Says which mini-batch it is, and refuses to be given anything.
const RANKS: &str = "def run(mini_batch, context):\n    assert mini_batch == [] and list(context.dataset) == [], mini_batch\n    \
                     rank = int(context.minibatch_index)\n    return [rank] * (rank + 1) if rank != 5 else []\n";

#[test]
fn mini_batches_without_input_are_ranks() {
    let place = Place::new();
    place.write("score.py", RANKS);
    place.write(
        "job.yaml",
        "name: ranks\nentry_script: score.py\nrank_mini_batch_count: 5\nprocess_count_per_node: 2\n",
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(0);
    let expected: Vec<String> = (0..5).flat_map(|rank| vec![rank.to_string(); rank + 1]).collect();
    assert_each_once(&place.rows(), &expected);
    assert!(ran.stderr.contains("5 of 5 mini-batches"), "{}", ran.stderr);
    assert_eq!(place.status()["counts"]["items"], 5, "each is an item");
    place.run(&["doctor", "--verify", "job"]).expect(0);
    let another = place.run(&["run", "job.yaml", "--job-dir", "job", "--set", "rank_mini_batch_count=6"]).expect(2);
    assert!(another.stderr.contains("rank_mini_batch_count: 5"), "{}", another.stderr);
}

/// Given as an option of the original's driver, beside inputs that only the script reads.
#[test]
fn a_rank_that_returns_nothing_failed_and_inputs_are_the_scripts() {
    let place = Place::new();
    place.write("in/a.txt", "a");
    let script = format!("import os, sys\nassert os.path.isdir(sys.argv[-1])\n{RANKS}");
    place.write("score.py", script);
    place.write(
        "job.yaml",
        "name: ranks\nentry_script: score.py\ninputs: {data: in}\n\
         arguments: [--rank_mini_batch_count, '7', --data, '${inputs.data}']\n",
    );
    let planned = place.run(&["plan", "job.yaml"]).expect(0);
    let note = "`inputs` is not split: with `rank_mini_batch_count` mini-batches have no input";
    assert!(
        planned.stdout.starts_with("ranks: 7 ranks in 7 mini-batches\n") && planned.stdout.contains(note),
        "{}",
        planned.stdout
    );
    let ran = place.run(&["run", "job.yaml", "--job-dir", "job"]).expect(5);
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert_eq!(place.rows().len(), (0..7).map(|rank| rank + 1).sum::<usize>() - 6);
    let errors = place.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().contains("\"rank 5\""), "{errors:?}");
}
