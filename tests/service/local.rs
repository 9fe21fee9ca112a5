//! The same verbs on the directories of jobs that no service runs.

use std::time::{Duration, Instant};

use super::{ECHO, job_of};
use crate::running::{GATED, Running, open_gate, wait_until_begun};
use crate::support::{LIMIT, Place, assert_each_once, wait_for};

#[test]
fn a_job_of_another_terminal_is_paused_resumed_and_canceled() {
    let place = Place::new();
    job_of(&place, GATED, "");
    let items = place.write_items(6);
    let job = Running::job(&place);
    wait_until_begun(&place, 2);
    // The status that it goes by is up to a second old: processes may still be in init() there.
    wait_for("the word that it works", || {
        let explained = place.run(&["explain", "./job"]).expect(0).stdout;
        explained.contains(" Running\n  it works: 0 of 6 mini-batches").then_some(())
    });
    open_gate(&place);
    place.run(&["pause", "./job"]).expect(0);
    job.ends(LIMIT, 0);
    let state = place.status()["state"].clone();
    if state == "Paused" {
        assert!(place.run(&["results", "./job"]).expect(2).stderr.contains("its result is not whole"));
        assert!(place.run(&["pause", "./job"]).expect(2).stderr.contains("nobody works on job"));
        place.run(&["resume", "./job"]).expect(0);
    }
    let printed = place.run(&["results", "./job"]).expect(0).stdout;
    let rows: Vec<String> = printed.lines().map(str::to_string).collect();
    assert_each_once(&rows, &items);
    place.run(&["results", "./job", "-o", "copy.txt"]).expect(0);
    assert_eq!(std::fs::read_to_string(place.path("copy.txt")).unwrap(), printed);
    place.run(&["results", "./job", "-o", "copy.txt"]).expect(1);
    place.run(&["watch", "./job"]).expect(0);
    assert!(place.run(&["cancel", "./job"]).expect(2).stderr.contains("is Completed: there is nothing to cancel"));
}

#[test]
fn a_job_of_another_terminal_is_canceled_within_seconds() {
    let place = Place::new();
    job_of(&place, GATED, "");
    place.write_items(6);
    let job = Running::job(&place);
    wait_until_begun(&place, 2);
    let began = Instant::now();
    let said = place.run(&["cancel", "./job"]).expect(0).stdout;
    assert!(
        began.elapsed() < Duration::from_secs(5) && said.ends_with(" Canceled\n"),
        "{said} after {:?}",
        began.elapsed()
    );
    let told = job.ends(LIMIT, 3);
    assert!(told.contains("\nTold to cancel: what runs is killed, what is committed stays\n"), "{told}");
    place.run(&["watch", "./job"]).expect(3);
    place.nothing_left().unwrap();
}

#[test]
fn verbs_that_need_a_service_say_so_and_one_that_is_away_is_told() {
    let place = Place::new();
    job_of(&place, ECHO, "");
    for verb in [vec!["nodes"], vec!["drain", "x"], vec!["submit", "job.yaml"]] {
        let ran = place.run(&verb).expect(2);
        assert!(
            ran.stderr.contains(&format!("`fanfold {}` asks a service, and none is named", verb[0])),
            "{}",
            ran.stderr
        );
    }
    let ran = place.run(&["ls", "--service", "http://127.0.0.1:9"]).expect(4);
    assert!(ran.stderr.starts_with("error: cannot reach the service at http://127.0.0.1:9"), "{}", ran.stderr);
}
