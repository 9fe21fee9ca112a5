//! Every named point at which a worker or a coordinator may be killed, and is. The others go on, or the same command does.

#[path = "../crash/points.rs"]
mod in_the_sources;

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use crate::running::{GATED, Running, open_gate, wait_until_begun};
use crate::support::LIMIT;
use crate::world::{World, kill_9};
use crate::{LONG, SLOW};

/// Points at which a worker dies while it is a node like any other.
const WORKER: &[&str] = &[
    "fleet_ticket_in_hand:1",
    "fleet_joining_said:1",
    "fleet_task_delivered:3",
    "fleet_task_counted:3",
    "fleet_before_result:5",
    "fleet_result_published:5",
    "fleet_result_confirmed:5",
    "fleet_task_acknowledged:5",
];
/// With its ticket gone it is replaced after a minute at the most, or by whoever takes the next one.
const TICKET_LOST: &str = "fleet_ticket_acknowledged:1";
/// The job is over for it.
const LEAVING: &str = "fleet_before_left:1";
/// Points that are reached with what another one, who died, had in hand.
const HEIR: &[&str] = &["fleet_handed_back:1", "fleet_alone_said:1"];
/// A point that is reached with a task that takes long.
const LEASED: &str = "fleet_leased:1";

/// Points at which the coordinator dies; those of a job on one machine as well, where the fleet makes a difference.
const COORDINATOR: &[&str] = &[
    "items_before_manifest:1",
    "items_after_manifest:1",
    "submit_after_record:1",
    "fleet_queues_declared:1",
    "before_publish:1",
    "before_publish:4",
    "fleet_tasks_published:1",
    "fleet_tasks_published:4",
    "fleet_node_heard:1",
    "fleet_node_heard:3",
    "commit_begin:4",
    "commit_after_write:4",
    "commit_after_sync:4",
    "commit_after_transaction:4",
    "before_acknowledge:4",
    "fleet_nodes_left:1",
    "finalizing:1",
    "finish_before_rename:1",
    "finish_after_rename:1",
    "finish_done:1",
    "fleet_before_clean_up:1",
    "fleet_after_clean_up:1",
];

fn name(point: &str) -> &str {
    point.split(':').next().expect("split gives one")
}

fn armed(point: &'static str) -> impl FnOnce(&mut Command) {
    move |command: &mut Command| {
        command.env("FANFOLD_FAILPOINT", point);
    }
}

#[test]
fn every_named_point_of_the_fleet_is_in_a_list() {
    let here = [TICKET_LOST, LEAVING, LEASED].into_iter();
    let here: BTreeSet<&str> =
        here.chain([WORKER, HEIR, COORDINATOR].into_iter().flatten().copied()).map(name).collect();
    let points = in_the_sources::of_the_fleet();
    assert!(points.len() > 10, "the sources are where this test looks for them: {points:?}");
    for point in points {
        assert!(here.contains(point.name.as_str()), "nobody dies at `{}` in {}", point.name, point.file.display());
    }
}

/// Does something for each point, some at a time: mostly they wait for a node to be lost.
fn for_each(points: &[&'static str], at_once: usize, work: impl Fn(&World, &'static str) + Sync) {
    let lanes = points.len().div_ceil(at_once);
    thread::scope(|scope| {
        for lane in points.chunks(lanes) {
            let work = &work;
            scope.spawn(move || {
                for point in lane {
                    let world = World::new();
                    eprintln!("killed at {point}");
                    work(&world, point);
                }
            });
        }
    });
}

#[test]
fn a_worker_may_be_killed_at_every_named_point() {
    for_each(WORKER, 8, |world, point| {
        let items = world.job(200, SLOW, "");
        let victim = world.worker_with(armed(point));
        let coordinator = world.coordinator();
        victim.dies(LIMIT);
        let _other = world.worker();
        coordinator.ends(LONG, 0);
        world.each_once_and_nothing_left(&items);
        assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
    });
}

#[test]
fn a_worker_that_dies_with_its_ticket_is_replaced() {
    let world = World::new();
    let items = world.job(12, SLOW, "");
    let victim = world.worker_with(armed(TICKET_LOST));
    let coordinator = world.coordinator();
    victim.dies(LIMIT);
    let _other = world.worker();
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_worker_may_be_killed_when_the_job_is_done() {
    let world = World::new();
    let items = world.job(100, SLOW, "");
    let (victim, _other) = (world.worker_with(armed(LEAVING)), world.worker());
    let coordinator = world.coordinator();
    victim.dies(LIMIT);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn an_heir_may_be_killed_with_what_it_inherited() {
    for_each(HEIR, 2, |world, point| {
        let items = world.job(40, GATED, "");
        let first = world.worker();
        let coordinator = world.coordinator();
        wait_until_begun(&world.place, 2);
        kill_9(&first);
        drop(first);
        open_gate(&world.place);
        let heir = world.worker_with(armed(point));
        heir.dies(LIMIT);
        let _third = world.worker();
        coordinator.ends(LONG, 0);
        world.each_once_and_nothing_left(&items);
    });
}

#[test]
fn a_worker_may_be_killed_when_it_leases() {
    let world = World::new();
    let items = world.job(6, GATED, "");
    let victim = world.worker_with(|command| {
        command.args(["--lease-after", "1"]);
        armed(LEASED)(command);
    });
    let coordinator = world.coordinator();
    victim.dies(LIMIT);
    open_gate(&world.place);
    let _other = world.worker();
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_coordinator_may_be_killed_at_every_named_point() {
    for_each(COORDINATOR, 3, |world, point| {
        let items = world.job(200, SLOW, "");
        let _workers: [Running; 2] = [world.worker(), world.worker()];
        world.coordinator_with(armed(point)).dies(LIMIT);
        world.coordinator().ends(LONG, 0);
        world.each_once_and_nothing_left(&items);
    });
}
