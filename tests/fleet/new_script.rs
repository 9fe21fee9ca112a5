//! `retry --failed --new-script` on a fleet: no node goes on with the old script.

use std::process::Command;

use crate::running::{GATED, Running, wait_until_begun};
use crate::support::{LIMIT, wait_for};
use crate::world::{World, kill_9};

const OLD: &str = "def run(mini_batch):\n    if int(mini_batch[0][-3:]) % 7 == 3:\n        raise ValueError('bad pixel')\n    \
                   return ['old ' + item for item in mini_batch]\n";
const MENDED: &str = "def run(mini_batch):\n    return ['new ' + item for item in mini_batch]\n";

fn retry(world: &World, change: impl FnOnce(&mut Command)) -> Running {
    let mut command = world.place.fanfold();
    world.knows(&mut command);
    command.args(["retry", "--failed", "--new-script", "job"]);
    change(&mut command);
    Running::start(&world.place, command)
}

#[test]
fn a_mended_script_finishes_the_job_on_the_same_workers() {
    let world = World::new();
    let items = world.job(20, OLD, "run_max_try: 2\n");
    let _workers = [world.worker(), world.worker()];
    world.coordinator().ends(LIMIT, 5);
    assert_eq!(world.place.rows().len(), 17);
    world.place.write("score.py", MENDED);
    retry(&world, |_| ()).ends(LIMIT, 0);
    let by = |(number, item): (usize, &String)| format!("{} {item}", if number % 7 == 3 { "new" } else { "old" });
    world.each_once_and_nothing_left(&items.iter().enumerate().map(by).collect::<Vec<_>>());
    assert_eq!(world.place.status()["script"]["number"], 2);
}

/// The coordinator died, and its node did not: it sits in a `run()` of the old script that never ends, with tasks and a queue of its own.
fn orphaned(world: &World) -> Vec<String> {
    let items = world.job(12, GATED, "");
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    wait_for("the next coordinator to be told of the node", || {
        world.place.job().join(".fanfold/nodes.json").exists().then_some(())
    });
    kill_9(&coordinator);
    drop(coordinator);
    world.place.write("score.py", MENDED);
    items
}

#[track_caller]
fn all_new(world: &World, items: &[String]) {
    world.each_once_and_nothing_left(&items.iter().map(|item| format!("new {item}")).collect::<Vec<_>>());
}

#[test]
fn a_node_of_the_old_script_that_outlived_its_coordinator_is_dismissed() {
    let world = World::new();
    let worker = world.worker();
    let items = orphaned(&world);
    // The gate stays shut: had the old node gone on, or its worker not been freed, this would not end.
    retry(&world, |_| ()).ends(LIMIT, 0);
    all_new(&world, &items);
    let said = worker.said();
    assert_eq!(said.matches("joined job ").count(), 2, "{said}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_coordinator_that_dies_once_the_new_script_is_recorded_is_gone_on_with() {
    let world = World::new();
    let _worker = world.worker();
    let items = orphaned(&world);
    retry(&world, |command| {
        command.env("FANFOLD_FAILPOINT", "script_recorded:1");
    })
    .dies(LIMIT);
    world.coordinator().ends(LIMIT, 0);
    all_new(&world, &items);
}
