//! Workers that come and go while a job runs.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::running::{PACED, Running, open_gate};
use crate::support::{LIMIT, Place, wait_for};
use crate::world::{World, kill_9};
use crate::{LASTING, LONG};

/// How soon work must flow; two seconds on an idle machine, more where tests run beside each other.
const SOON: Duration = Duration::from_secs(8);

/// Notes who begins what, and when; 0.2 s for each.
const NOTES: &str = r#"
import os
import time

def run(mini_batch):
    with open(os.path.join(os.environ["PLACE"], "notes.txt"), "a") as file:
        file.write(f"{os.getppid()} {time.time()} {mini_batch[0]}\n")
    time.sleep(0.2)
    return mini_batch
"#;

/// The worker's process id, the time since the epoch and the item of every mini-batch that was begun.
fn notes(place: &Place) -> Vec<(i32, f64, String)> {
    let text = fs::read_to_string(place.path("notes.txt")).unwrap_or_default();
    let note = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_string()))
    };
    text.lines().filter_map(note).collect()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

#[test]
fn from_one_worker_to_eight_to_two() {
    let world = World::new();
    let items = world.job(LASTING, PACED, "");
    let mut workers: Vec<Running> = vec![world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(1);
    workers.extend((0..7).map(|_| world.worker()));
    world.wait_for_nodes(8);
    for leaving in workers.drain(..6) {
        leaving.signal(Signal::SIGTERM);
        leaving.ends(LIMIT, 0);
    }
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

#[test]
fn a_worker_that_is_added_works_at_once() {
    let world = World::new();
    let items = world.job(300, NOTES, "");
    let first = world.worker();
    let coordinator = world.coordinator();
    world.wait_for_committed(10);
    let added = world.worker();
    wait_for("it to be ready", || added.said().contains("joined job").then_some(()));
    let ready = Instant::now();
    wait_for("it to work", || notes(&world.place).iter().any(|(pid, ..)| *pid == added.pid()).then_some(()));
    let took = ready.elapsed();
    println!("an added worker works {took:?} after it joined");
    assert!(took < SOON, "{took:?}");
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    drop(first);
}

#[test]
fn what_a_killed_worker_had_runs_elsewhere_at_once() {
    let world = World::new();
    let items = world.job(300, NOTES, "");
    let workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(40);
    let victim = workers[0].pid();
    let just_began = |(pid, at, _): &(i32, f64, String)| *pid == victim && *at > now() - 0.05;
    wait_for("it to begin something", || notes(&world.place).iter().any(just_began).then_some(()));
    kill_9(&workers[0]);
    let killed = now();
    // The last that each of its two processes began: they can't have ended.
    let began = notes(&world.place);
    let had: Vec<&String> =
        began.iter().filter(|(pid, at, _)| *pid == victim && *at > killed - 0.15).map(|(.., item)| item).collect();
    let again = |item: &str| {
        let other = |(pid, _, what): &&(i32, f64, String)| *pid != victim && what == item;
        notes(&world.place).iter().find(other).map(|(_, at, _)| at - killed)
    };
    assert!(!had.is_empty(), "it had begun something when it was killed");
    for item in had {
        let took = wait_for(&format!("{item} to run elsewhere"), || again(item));
        println!("{item} runs elsewhere {took:.2} s after its worker was killed");
        assert!(took < SOON.as_secs_f64(), "{item}: {took} s");
    }
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}
