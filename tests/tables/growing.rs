//! Tables whose mini-batches run while the rest is still being split.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::jobs::{ROWS, job};
use crate::support::{LIMIT, Place, Ran, assert_each_once, finish};

/// Writes a table; returns what [`ROWS`] says of it.
pub fn table(place: &Place, name: &str, ids: std::ops::Range<usize>) -> Vec<String> {
    let text: String = ids.clone().map(|id| format!("{id},name {id}\n")).collect();
    place.write(name, format!("id,name\n{text}"));
    ids.map(|id| format!("{id}:name {id}")).collect()
}

/// Has `command` run the job so that every mini-batch is told by itself, from the first one on.
pub fn growing(command: &mut Command, failpoint: Option<&str>) {
    command.args(["run", "job.yaml", "--job-dir", "job"]);
    command.env("FANFOLD_SPLIT_GRACE_MS", "0").env("FANFOLD_SPLIT_STRETCH_MS", "0");
    command.envs(failpoint.map(|point| ("FANFOLD_FAILPOINT", point)));
}

/// Runs the job like that.
pub fn run(place: &Place, failpoint: Option<&str>) -> Ran {
    let mut command = place.fanfold();
    growing(&mut command, failpoint);
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"), LIMIT)
}

#[test]
fn a_bad_file_behind_good_ones_stops_the_job_and_mended_it_goes_on() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let mut expected = table(&place, "data/a.csv", 0..100);
    place.write("data/b.csv", "id,name\n100,\"never closed\n");
    job(&place, ROWS, "[data]", "input_type: csv\nmini_batch_size: 10rows\n");
    let stopped = run(&place, None).expect(2);
    for part in ["data/b.csv", "never closed", "Paused"] {
        assert!(stopped.stderr.contains(part), "{part} in\n{}", stopped.stderr);
    }
    let status = place.status();
    assert_eq!(status["state"], "Paused");
    assert_eq!(status["counts"]["items_succeeded"], 100, "what was split is run: {status}");
    assert!(status["cause"].as_str().unwrap().contains("data/b.csv"), "{status}");
    assert!(status["splitting"].is_number(), "{status}");
    place.run(&["doctor", "--verify", "job"]).expect(0);
    // Whoever only looks sees the same.
    assert!(place.run(&["status", "job"]).expect(0).stdout.contains("never closed"));

    // Still so: nothing is lost, and the same is said again.
    assert!(run(&place, None).expect(2).stderr.contains("never closed"));
    place.write("data/b.csv", "id,name\n100,closed\n");
    expected.push("100:closed".into());
    run(&place, None).expect(0);
    assert_each_once(&place.rows(), &expected);
    let status = place.status();
    assert_eq!((status["counts"]["items"].as_u64(), &status["splitting"]), (Some(101), &serde_json::Value::Null));
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn a_file_that_changed_when_a_part_of_it_was_split_is_refused() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = table(&place, "t.csv", 0..500);
    job(&place, ROWS, "[t.csv]", "input_type: csv\nmini_batch_size: 10rows\n");
    let killed = run(&place, Some("items_stretch_logged:20"));
    assert_eq!(killed.code, None, "it was not killed:\n{}", killed.stderr);

    let path = place.path("t.csv");
    let (was, then) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    fs::write(&path, "id,name\n1,other\n").unwrap();
    let refused = run(&place, None).expect(2);
    for part in ["t.csv", "mini-batches were made of a part of it", "bring the file back"] {
        assert!(refused.stderr.contains(part), "{part} in\n{}", refused.stderr);
    }
    fs::write(&path, was).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    run(&place, None).expect(0);
    assert_each_once(&place.rows(), &expected);
}

#[test]
fn a_bad_row_in_the_middle_of_a_file_says_that_it_can_not_be_gone_on_with() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    table(&place, "t.csv", 0..500);
    let text = fs::read_to_string(place.path("t.csv")).unwrap();
    place.write("t.csv", text + "500,\"never closed\n");
    job(&place, ROWS, "[t.csv]", "input_type: csv\nmini_batch_size: 10rows\n");
    let stopped = run(&place, None).expect(2);
    for part in ["never closed", "in a new directory"] {
        assert!(stopped.stderr.contains(part), "{part} in\n{}", stopped.stderr);
    }
    // What comes before it is there.
    assert_eq!(place.status()["counts"]["items_succeeded"], 500);
    place.run(&["doctor", "--verify", "job"]).expect(0);
}

#[test]
fn a_percentage_of_failures_is_judged_when_all_is_split() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    table(&place, "t.csv", 0..400);
    let script = "def run(mini_batch):\n    if mini_batch.id.iloc[0] == 0:\n        raise ValueError('the first')\n    return list(mini_batch.id)\n";
    job(
        &place,
        script,
        "[t.csv]",
        "input_type: csv\nmini_batch_size: 4rows\nrun_max_try: 1\nallowed_failed_percent: 2\n",
    );
    // The first of a hundred; of the first twenty it would have been five per cent.
    run(&place, None).expect(0);
    assert_eq!(place.status()["counts"]["mini_batches_failed"], 1);
    assert_eq!(place.rows().len(), 396);
}
