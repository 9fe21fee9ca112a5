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
