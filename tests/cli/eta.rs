//! The time to go that a real job tells, compared with when it was over.

use std::fs;
use std::time::{Duration, Instant};

use crate::program::{Running, job_of};
use crate::support::{LIMIT, Place};

/// A mini-batch takes so many seconds, by a fixed pattern a tenth more or less; those of a fifth of the items fail at first.
const SCRIPT: &str = r#"
import os
import time

SECONDS, FAILS = float(os.environ["SECONDS"]), os.environ["FAILS"]
PLACE = os.environ["PLACE"]

def run(mini_batch):
    number = int(mini_batch[0][5:])
    time.sleep(SECONDS * (0.9, 1.1, 1.0, 0.95, 1.05)[number % 5])
    if number % 5 == 3 and FAILS != "never":
        tried = os.path.join(PLACE, "tried", mini_batch[0])
        if FAILS == "always" or not os.path.exists(tried):
            open(tried, "w").close()
            raise ValueError("bad pixel")
    return mini_batch
"#;

/// What the status said at one moment.
#[derive(Debug)]
struct Said {
    /// The part of the mini-batches that was settled.
    part: f64,
    /// Seconds to go, by it.
    eta: f64,
    /// Seconds to go, in truth: filled in when that is known.
    truly: f64,
    /// The moment, microseconds since the epoch.
    at_us: u64,
}

/// Runs a job of `items` mini-batches and returns all that its status said of the time to go after the first tenth, and how many seconds
/// it ran from the first mini-batch on.
fn said(items: usize, seconds: &str, fails: &str, processes: u32) -> (Vec<Said>, f64) {
    let place = Place::new();
    place.write_items(items);
    fs::create_dir(place.path("tried")).unwrap();
    job_of(&place, SCRIPT, "run_max_try: 2\nallowed_failed_count: 1000\n");
    let mut command = place.fanfold();
    let set = [
        format!("process_count_per_node={processes}"),
        format!(
            "environment_variables={{PLACE: '{}', SECONDS: '{seconds}', FAILS: {fails}}}",
            place.path("").display()
        ),
    ];
    command.args(["run", "job.yaml", "--job-dir", "job"]).args(set.iter().flat_map(|set| ["--set", set]));
    let mut running = Running::start(&place, command);
    let (mut said, deadline) = (Vec::<Said>::new(), Instant::now() + 2 * LIMIT);
    while running.is_alive() {
        assert!(Instant::now() < deadline, "{}", running.said());
        if let Some(status) = status(&place) {
            let counts = &status["counts"];
            let count = |name: &str| counts[name].as_u64().unwrap() as f64;
            let part = (count("mini_batches_succeeded") + count("mini_batches_failed")) / items as f64;
            let at_us = fanfold_shared::clock::parse_rfc3339(status["updated"].as_str().unwrap()).unwrap();
            let new = said.last().is_none_or(|last| last.at_us != at_us);
            if new && part >= 0.1 && status["state"] == "Running" {
                let eta = status["eta_seconds"].as_f64().expect("a tenth is done");
                said.push(Said { part, eta, truly: 0.0, at_us });
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    running.ends(LIMIT, 0);
    let timing = &place.status()["timing"];
    let time = |name: &str| timing[name].as_u64().unwrap();
    let (began, ended) = (time("first_handover_us"), time("last_commit_us"));
    for said in &mut said {
        said.truly = ended.saturating_sub(said.at_us) as f64 / 1e6;
    }
    (said, (ended - began) as f64 / 1e6)
}

fn status(place: &Place) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(place.job().join("status.json")).ok()?).ok()
}

/// Within a fifth of what was true, and when little is left of what it ran in all, within a twentieth of that.
#[track_caller]
fn is_right(said: &[Said], ran: f64) {
    assert!(said.len() >= 5, "it was looked at {} times", said.len());
    assert!(said[0].part < 0.35, "the first look is an early one: {said:#?}");
    for one in said {
        let wrong = (one.eta - one.truly).abs();
        assert!(wrong <= (0.2 * one.truly).max(0.05 * ran), "ran {ran:.1} s; {one:?} of {said:#?}");
    }
}

#[test]
fn of_a_uniform_job_the_time_to_go_is_known_after_the_first_tenth() {
    // Two processes, 400 times 50 ms.
    let (said, ran) = said(400, "0.05", "never", 2);
    is_right(&said, ran);
    // Which is what was said first, within a fifth: the promise.
    assert!((said[0].eta - said[0].truly).abs() <= 0.2 * said[0].truly, "{said:#?}");
}

#[test]
fn of_long_mini_batches_as_well() {
    // They end in bursts: three processes, 36 times 0.8 s.
    let (said, ran) = said(36, "0.8", "never", 3);
    is_right(&said, ran);
}

#[test]
fn of_mini_batches_that_are_tried_again_as_well() {
    let (said, ran) = said(320, "0.05", "once", 2);
    is_right(&said, ran);
}

#[test]
fn of_mini_batches_that_fail_for_good_as_well() {
    let (said, ran) = said(320, "0.05", "always", 2);
    is_right(&said, ran);
}
