//! Whole jobs on a fleet: true workers, a true broker, a true Redis, and what is done to them.
//!
//! What takes minutes, or is left to chance, is run by `cargo test -p fanfold --all-features --test fleet -- --ignored`.

mod bisect;
mod brokers;
mod cloud;
mod coordinators;
mod disturbed;
mod explains;
mod messages;
mod networks;
mod new_script;
#[cfg(feature = "failpoints")]
mod points;
mod redises;
#[path = "../support/running.rs"]
mod running;
mod scale;
mod soak;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod workers;
mod world;

use std::time::Duration;

use nix::sys::signal::Signal;
use running::{GATED, begun, open_gate, wait_until_begun};
use support::{LIMIT, assert_each_once, wait_for};
use world::{World, kill_9};

/// A node is lost after 30 s of silence; more than one may have to be.
const LONG: Duration = Duration::from_secs(120);

const PLAIN: &str = "def run(mini_batch):\n    return mini_batch\n";

/// Takes 20 ms for each mini-batch.
const SLOW: &str = "import time\n\ndef run(mini_batch):\n    time.sleep(0.02)\n    return mini_batch\n";

/// Mini-batches of a paced job: minutes of work for a few processes, so that it outlasts whatever is done to it, however busy the machine.
const LASTING: usize = 40_000;

#[test]
fn a_job_on_two_workers_gives_each_row_once_and_leaves_nothing() {
    let world = World::new();
    let items = world.job(2000, PLAIN, "");
    let workers = [world.worker(), world.worker()];
    let said = world.coordinator().ends(LIMIT, 0);
    assert!(said.contains("Completed"), "{said}");
    world.each_once_and_nothing_left(&items);
    for worker in workers {
        worker.signal(Signal::SIGTERM);
        worker.ends(LIMIT, 0);
    }
}

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    let world = World::new();
    let items = world.job(600, SLOW, "");
    let (first, _second) = (world.worker(), world.worker());
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    kill_9(&first);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

#[test]
fn a_coordinator_that_is_killed_goes_on_when_it_is_started_again() {
    let world = World::new();
    let items = world.job(600, SLOW, "");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    kill_9(&coordinator);
    drop(coordinator);
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn node_count_is_how_many_nodes_there_are() {
    let world = World::new();
    let items = world.job(8, GATED, "node_count: 1");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    wait_for("the status to say that no node is wanted", || (world.place.status()["nodes_wanted"] == 0).then_some(()));
    assert_eq!(begun(&world.place).len(), 2, "the other worker has no part in it");
    open_gate(&world.place);
    coordinator.ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_mini_batch_that_kills_its_worker_is_charged_alone() {
    let world = World::new();
    // The whole worker dies: the process's parent, and with it everything it started.
    let script = "import os\nimport signal\nimport time\n\ndef run(mini_batch):\n    if mini_batch == ['item-007']:\n        \
                  os.kill(os.getppid(), signal.SIGKILL)\n        time.sleep(60)\n    return mini_batch\n";
    let items = world.job(40, script, "run_max_try: 1\nerror_threshold: 10\n");
    // One for the packed task, one for it alone, one more if it travelled with others.
    let _workers: Vec<_> = (0..4).map(|_| world.worker()).collect();
    world.coordinator().ends(LONG, 0);
    let expected: Vec<String> = items.iter().filter(|item| *item != "item-007").cloned().collect();
    world.each_once_and_nothing_left(&expected);
    let errors = world.place.errors();
    assert_eq!((errors.len(), &errors[0]["kind"]), (1, &serde_json::json!("node_lost")), "{errors:?}");
}

#[test]
fn ctrl_c_pauses_and_the_same_command_goes_on() {
    let world = World::new();
    let items = world.job(12, GATED, "");
    let _worker = world.worker();
    let mut coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    coordinator.signal(Signal::SIGINT);
    coordinator.wait_until_said("interrupted: finishing what runs");
    open_gate(&world.place);
    let said = coordinator.ends(LIMIT, 130);
    assert!(said.contains("Paused"), "{said}");
    world.nothing_left();
    let before = begun(&world.place).len();
    assert!(before < items.len());
    world.coordinator().ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
    assert_each_once(&begun(&world.place), &items);
}

#[test]
fn a_broker_that_is_restarted_holds_the_job_up_and_no_more() {
    let world = World::with_broker();
    let items = world.job(600, SLOW, "");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.broker().stop();
    wait_for("the job to say that the broker is away", || {
        let blocked = world.place.status()["blocked"].as_str()?.to_string();
        blocked.contains("broker").then_some(())
    });
    world.broker().start_again();
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_redis_that_is_emptied_and_stopped_changes_nothing() {
    let world = World::new();
    let items = world.job(600, SLOW, "");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.redis.flush();
    world.redis.stop();
    coordinator.ends(LIMIT, 0);
    assert_each_once(&world.place.rows(), &items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0);
}
