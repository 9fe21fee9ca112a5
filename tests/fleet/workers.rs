//! Workers that are killed, stopped, told to end, or short of everything.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::disturbed::disturbed;
use crate::running::{GATED, begun, open_gate, wait_until_begun};
use crate::support::{LIMIT, wait_for};
use crate::world::{World, kill_9};
use crate::{LONG, SLOW};

/// Takes 20 ms for each mini-batch, but the last one waits for the file `go`.
const WAITS_AT_THE_END: &str = r#"
import os
import time

def run(mini_batch):
    time.sleep(0.02)
    while mini_batch == ["item-199"] and not os.path.exists(os.path.join(os.environ["PLACE"], "go")):
        time.sleep(0.01)
    return mini_batch
"#;

#[test]
fn a_worker_is_killed_while_its_processes_run() {
    let world = World::new();
    let items = world.job(40, GATED, "");
    let (first, second) = (world.worker(), world.worker());
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 4);
    kill_9(&first);
    drop(first);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    drop(second);
}

#[test]
fn a_worker_that_was_stopped_until_it_was_lost_doubles_nothing() {
    let world = World::new();
    let items = world.job(200, WAITS_AT_THE_END, "");
    let workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(20);
    workers[0].signal(Signal::SIGSTOP);
    wait_for("the worker to be lost", || coordinator.said().contains("is lost: nothing was heard of it").then_some(()));
    workers[0].signal(Signal::SIGCONT);
    world.wait_for_nodes(2);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

#[test]
fn a_worker_that_is_told_to_end_finishes_what_runs() {
    let world = World::new();
    let items = world.job(40, GATED, "");
    let (first, _second) = (world.worker(), world.worker());
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 4);
    first.signal(Signal::SIGTERM);
    wait_for("it to drain", || first.said().contains("told to end").then_some(()));
    open_gate(&world.place);
    first.ends(LIMIT, 0);
    coordinator.ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(begun(&world.place).len(), items.len(), "nothing ran twice");
}

#[test]
fn a_worker_that_is_told_twice_kills_what_runs() {
    let world = World::new();
    let items = world.job(40, GATED, "");
    let (first, _second) = (world.worker(), world.worker());
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 4);
    first.signal(Signal::SIGTERM);
    wait_for("it to drain", || first.said().contains("told to end").then_some(()));
    first.signal(Signal::SIGTERM);
    first.ends(Duration::from_secs(20), 143);
    open_gate(&world.place);
    coordinator.ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

#[test]
#[ignore = "minutes: each death is charged after 15 s of silence"]
fn a_mini_batch_that_kills_every_worker_kills_no_more_than_its_tries_and_two() {
    let world = World::new();
    let script = "import os\nimport signal\nimport time\n\ndef run(mini_batch):\n    if mini_batch == ['item-013']:\n        \
                  os.kill(os.getppid(), signal.SIGKILL)\n        time.sleep(60)\n    return mini_batch\n";
    let items = world.job(60, script, "run_max_try: 3\nerror_threshold: 10\n");
    let mut workers: Vec<_> = (0..8).map(|_| world.worker()).collect();
    world.coordinator().ends(LONG * 2, 0);
    let expected: Vec<String> = items.iter().filter(|item| *item != "item-013").cloned().collect();
    world.each_once_and_nothing_left(&expected);
    let errors = world.place.errors();
    assert!(errors.len() == 1 && errors[0]["kind"] == "node_lost", "{errors:?}");
    let dead = workers.iter_mut().map(|worker| !worker.is_alive()).filter(|dead| *dead).count();
    assert!((3..=5).contains(&dead), "{dead} workers died of three tries");
}

#[test]
fn workers_that_are_short_of_descriptors_spoil_nothing() {
    let world = World::new();
    let items = world.job(300, SLOW, "");
    // Too few to begin with, too few for a process, and just enough or not.
    let _short: Vec<_> = [16, 32, 48, 64]
        .into_iter()
        .map(|most| {
            world.worker_with(|command| {
                // SAFETY: a system call.
                unsafe {
                    std::os::unix::process::CommandExt::pre_exec(command, move || {
                        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)
                            .map_err(std::io::Error::from)
                    });
                }
            })
        })
        .collect();
    let _worker = world.worker();
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_worker_that_leaves_is_replaced_by_one_that_comes() {
    let world = World::new();
    disturbed(&world, |fleet| {
        let first = fleet.workers.remove(0);
        first.signal(Signal::SIGTERM);
        first.ends(LIMIT, 0);
        fleet.workers.push(world.worker());
    });
}
