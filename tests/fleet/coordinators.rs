//! Coordinators that are killed, stopped, told to end, doubled or short of room.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::LONG;
use crate::disturbed::{disturbed, disturbed_and_charged};
use crate::running::{GATED, Running, begun, open_gate, wait_until_begun};
use crate::support::{LIMIT, finish, wait_for};
use crate::world::{World, kill_9};

#[test]
fn a_coordinator_is_killed_again_and_again() {
    let world = World::new();
    disturbed(&world, |fleet| {
        for committed in [120, 240, 360] {
            kill_9(&fleet.coordinator);
            fleet.coordinator = world.coordinator();
            world.wait_for_committed(committed);
        }
    });
}

#[test]
fn a_coordinator_that_was_stopped_for_a_while_goes_on() {
    let world = World::new();
    disturbed(&world, |fleet| {
        fleet.coordinator.signal(Signal::SIGSTOP);
        // Time is what is tested here: longer than the broker bears a silent connection.
        std::thread::sleep(Duration::from_secs(25));
        fleet.coordinator.signal(Signal::SIGCONT);
    });
}

#[test]
fn a_second_coordinator_of_the_same_job_is_refused_by_name() {
    let world = World::new();
    let items = world.job(12, GATED, "");
    let _worker = world.worker();
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    let second = world.coordinator();
    let pid = coordinator.pid().to_string();
    let said = second.ends(LIMIT, 2);
    assert!(said.contains(&pid), "it names who holds the job ({pid}): {said}");
    open_gate(&world.place);
    coordinator.ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_coordinator_that_is_told_to_end_twice_leaves_nothing_and_goes_on() {
    let world = World::new();
    let items = world.job(12, GATED, "");
    let _worker = world.worker();
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    coordinator.signal(Signal::SIGTERM);
    wait_for("it to say so", || coordinator.said().contains("interrupted").then_some(()));
    coordinator.signal(Signal::SIGTERM);
    coordinator.ends(Duration::from_secs(20), 143);
    world.nothing_left();
    open_gate(&world.place);
    world.coordinator().ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn mini_batches_without_input_run_on_a_fleet() {
    let world = World::new();
    let script = "def run(mini_batch, context):\n    assert mini_batch == []\n    return [context.minibatch_index]\n";
    world.job(3, script, "rank_mini_batch_count: 20\n");
    let _worker = world.worker();
    world.coordinator().ends(LIMIT, 0);
    let ranks: Vec<String> = (0..20).map(|rank| rank.to_string()).collect();
    world.each_once_and_nothing_left(&ranks);
}

/// The answer needs no server.
#[test]
fn a_job_that_is_completed_stands_in_for_the_same_one() {
    let world = World::new();
    let items = world.job(12, "def run(mini_batch):\n    return mini_batch\n", "");
    let worker = world.worker();
    world.coordinator().ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
    drop(worker);
    let again = |pool: &str| {
        let mut command = world.place.fanfold();
        world.knows(&mut command);
        command.env("FANFOLD_BROKER", "amqp://localhost:1/").env("FANFOLD_REDIS", "redis://localhost:1/");
        command.args(["run", "job.yaml", "--set", &format!("compute_target={pool}")]);
        finish(command.spawn().expect("the program starts"), LIMIT)
    };
    let said = again(&world.pool).expect(0).stderr;
    assert!(said.contains("was the same job and is Completed: its result is used"), "{said}");
    // Elsewhere other Pythons may be meant.
    again("elsewhere").expect(4);
    let here = world.place.run(&["run", "job.yaml"]).expect(0).stderr;
    assert!(!here.contains("was the same job"), "{here}");
}

/// Resident memory of a program, KiB.
pub fn resident(running: &Running) -> u64 {
    resident_of(running.pid() as u32)
}

/// The same by its process id; 0 when it is gone.
pub fn resident_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or_default()
}

/// Each mini-batch begun is noted, and returns 40 KiB.
const LARGE: &str = r#"
import os

def run(mini_batch):
    with open(os.path.join(os.environ["PLACE"], "begun.txt"), "a") as file:
        file.write("".join(item + "\n" for item in mini_batch))
    return [item + "." + "x" * 40_000 for item in mini_batch]
"#;

#[cfg(feature = "failpoints")]
#[test]
fn workers_wait_for_a_coordinator_that_has_no_room() {
    let world = World::new();
    let items: Vec<String> =
        world.job(4000, LARGE, "").iter().map(|item| format!("{item}.{}", "x".repeat(40_000))).collect();
    let worker = world.worker();
    // ENOSPC, twice: until it is tried again, workers have seconds to work ahead.
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_FAILPOINT", "output_write:10:28:2");
    });
    world.wait_until_blocked("disk full");
    let before = resident(&worker);
    let (mut most, mut ahead) = (before, 0);
    wait_for("the coordinator to go on", || {
        most = most.max(resident(&worker));
        let status = world.status()?;
        ahead = ahead.max(begun(&world.place).len() as u64 - status["counts"]["items_succeeded"].as_u64()?);
        status["blocked"].is_null().then_some(())
    });
    println!("{ahead} mini-batches ahead of the coordinator; the worker grew by {} KiB", most - before);
    assert!(ahead < items.len() as u64 / 2, "the window is bounded: {ahead} mini-batches ahead");
    assert!(most - before < 100 << 10, "the worker grew by {} KiB while it waited", most - before);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_coordinator_and_a_worker_are_killed_together() {
    let world = World::new();
    disturbed_and_charged(&world, |fleet| {
        kill_9(&fleet.workers[0]);
        kill_9(&fleet.coordinator);
        fleet.workers[0] = world.worker();
        fleet.coordinator = world.coordinator();
    });
}
