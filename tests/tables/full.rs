//! Disks without room for what is split while mini-batches run, and for what a job begins with.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::growing::{growing, run, table};
use crate::jobs::{ROWS, job};
use crate::running::{Running, SmallDisk};
use crate::support::{LIMIT, Place, assert_each_once, wait_for};

/// A table of so many mini-batches of one row each; what the job says of them.
fn rows(place: &Place, count: usize) -> Vec<String> {
    job(place, ROWS, "[t.csv]", "input_type: csv\nmini_batch_size: 1rows\n");
    table(place, "t.csv", 0..count)
}

/// `status.json`, once it says why the job waits; and why.
fn blocked(place: &Place) -> (Value, String) {
    wait_for("the reason in status.json", || {
        let status: Value = serde_json::from_slice(&fs::read(place.job().join("status.json")).ok()?).ok()?;
        let why = status["blocked"].as_str()?.to_string();
        Some((status, why))
    })
}

fn succeeded(status: &Value) -> u64 {
    status["counts"]["items_succeeded"].as_u64().unwrap()
}

/// The job of [`rows`], whose list has room for some hundred slices of 48 bytes only; once it waits for more.
fn blocked_by_its_list(place: &Place, failpoint: Option<&str>) -> Option<(Running, SmallDisk)> {
    let (mut command, disk) = SmallDisk::filled(place, "job/.fanfold/items", 48)?;
    growing(&mut command, failpoint);
    let mut running = Running::start(place, command);
    running.wait_until_said("Blocked: disk full");
    Some((running, disk))
}

#[test]
fn a_list_that_grows_on_a_full_disk_waits_for_room_while_what_is_split_runs() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    let expected = rows(&place, 1500);
    let Some((mut running, disk)) = blocked_by_its_list(&place, None) else { return };
    let (status, why) = blocked(&place);
    assert!(why.contains("/items/slices") && why.contains("goes on by itself"), "{why}");
    assert_eq!(status["state"], "Running");
    let split = status["counts"]["mini_batches"].as_u64().unwrap();
    assert!((1..1500).contains(&split), "{status}");
    wait_for("what is split to be run", || (succeeded(&place.status()) == split).then_some(()));
    assert!(running.is_alive());
    disk.make_room(&running);
    let said = running.ends(LIMIT, 0);
    assert_eq!(said.matches("Blocked: ").count(), 1, "{said}");
    assert_each_once(&place.rows(), &expected);
    let status = place.status();
    assert_eq!((&status["blocked"], &status["splitting"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_write_of_the_list_that_fails_for_want_of_room_is_made_good() {
    if !crate::has_pandas() {
        return;
    }
    const ENOSPC: i32 = 28;
    for point in ["items_stretch_sync", "items_stretch_log"] {
        let place = Place::new();
        let expected = rows(&place, 60);
        let said = run(&place, Some(&format!("{point}:20:{ENOSPC}:2"))).expect(0).stderr;
        assert_eq!(said.matches("Blocked: disk full").count(), 1, "{said}");
        assert!(said.contains("No longer blocked"), "{said}");
        assert_each_once(&place.rows(), &expected);
        place.run(&["doctor", "--verify", "job"]).expect(0);
    }
}

#[test]
fn who_waits_for_room_can_be_told_to_stop() {
    if !crate::has_pandas() {
        return;
    }
    let full = Some("items_stretch_sync:20:28");
    let start = |place: &Place| {
        let mut command = place.fanfold();
        growing(&mut command, full);
        let mut running = Running::start(place, command);
        running.wait_until_said("Blocked: disk full");
        running
    };
    let place = Place::new();
    let expected = rows(&place, 60);
    let running = start(&place);
    running.signal(Signal::SIGINT);
    running.ends(LIMIT, 130);
    assert_eq!(place.status()["state"], "Paused");
    // There is still no room: what was split before is told at once, and waited again.
    let running = start(&place);
    place.run(&["pause", "job"]).expect(0);
    running.ends(LIMIT, 0);
    assert_eq!((&place.status()["state"], succeeded(&place.status()) < 60), (&"Paused".into(), true));
    run(&place, None).expect(0);
    assert_each_once(&place.rows(), &expected);

    let place = Place::new();
    rows(&place, 60);
    let running = start(&place);
    place.run(&["cancel", "job"]).expect(0);
    running.ends(LIMIT, 3);
    assert_eq!(place.status()["state"], "Canceled");
}

#[test]
fn a_node_that_can_not_read_the_list_on_ends_the_job_and_a_moment_s_trouble_does_not() {
    if !crate::has_pandas() {
        return;
    }
    let place = Place::new();
    rows(&place, 1500);
    let Some((running, disk)) = blocked_by_its_list(&place, Some("node_list_read:1:5")) else { return };
    // What follows is not known to the node yet.
    disk.make_room(&running);
    let said = running.ends(LIMIT, 1);
    for part in ["the list of mini-batches can't be read on", "os error 5", "retry --failed"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let status = place.status();
    assert_eq!((&status["state"], status["counts"]["attempts_failed"].as_u64()), (&"Failed".into(), Some(0)));

    let place = Place::new();
    let expected = rows(&place, 1500);
    let Some((running, disk)) = blocked_by_its_list(&place, Some("node_list_read:1:5:5")) else { return };
    disk.make_room(&running);
    running.ends(LIMIT, 0);
    assert_each_once(&place.rows(), &expected);
    assert_eq!(place.status()["counts"]["attempts_failed"], 0);
}

#[test]
fn a_job_that_finds_no_room_to_begin_says_what_to_do() {
    if !crate::has_pandas() {
        return;
    }
    let mut without_ledger = 0;
    // With more and more room it comes further and further, until it runs.
    for free in (4..).step_by(12) {
        let place = Place::new();
        rows(&place, 60);
        let Some((mut command, disk)) = SmallDisk::filled(&place, "disk", free) else { return };
        command.args(["run", "job.yaml", "--job-dir", "disk/job"]);
        let mut running = Running::start(&place, command);
        let runs = wait_for("it to wait or to end", || match running.said().contains("Blocked: ") {
            true => Some(true),
            false => (!running.is_alive()).then_some(false),
        });
        if runs {
            disk.make_room(&running);
            running.ends(LIMIT, 0);
            break;
        }
        let said = running.ends(LIMIT, 1);
        assert!(said.contains("then run the same command again: nothing is lost"), "{free} KiB: {said}");
        assert!(!said.contains("goes on by itself") && !said.contains("Failed"), "{free} KiB: {said}");
        without_ledger += u32::from(said.contains("ledger.sqlite`"));
        assert!(free < 512, "it never runs:\n{said}");
    }
    assert!(without_ledger > 0);
}
