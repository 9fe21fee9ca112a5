//! A Redis that is emptied, restarted, away, full or read-only: nothing depends on it but how much is suspected.

use fanfold_test_servers::RabbitMq;

use crate::disturbed::disturbed;
use crate::running::{PACED, Running, open_gate};
use crate::support::LIMIT;
use crate::world::{World, kill_9};
use crate::{LASTING, LONG, SLOW};

fn ok(answer: &str) {
    assert!(answer.starts_with("+OK"), "{answer}");
}

#[test]
fn a_redis_may_be_restarted_empty() {
    let world = World::new();
    disturbed(&world, |_| {
        world.redis.stop();
        world.redis.start_again();
    });
}

#[test]
fn a_redis_may_be_emptied() {
    let world = World::new();
    disturbed(&world, |_| world.redis.flush());
}

#[test]
fn a_redis_may_be_full() {
    let world = World::new();
    disturbed(&world, |_| {
        ok(&world.redis.command("CONFIG SET maxmemory-policy noeviction"));
        ok(&world.redis.command("CONFIG SET maxmemory 1mb"));
    });
}

#[test]
fn a_redis_may_become_a_replica_that_takes_no_writes() {
    let world = World::new();
    disturbed(&world, |fleet| {
        ok(&world.redis.command("REPLICAOF 127.0.0.1 1"));
        world.wait_for_committed(300);
        // Deaths are seen without it as well.
        kill_9(&fleet.workers[0]);
        fleet.workers[0] = world.worker();
        world.wait_for_committed(400);
        ok(&world.redis.command("REPLICAOF NO ONE"));
    });
}

#[test]
fn a_redis_may_hang() {
    let world = World::new();
    disturbed(&world, |_| {
        world.redis.hang();
        world.wait_for_committed(400);
        world.redis.go_on();
    });
}

#[test]
fn a_redis_that_is_away_is_told_of_once_and_deaths_are_borne() {
    let world = World::new();
    let items = world.job(LASTING, PACED, "");
    let workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(60);
    world.redis.stop();
    world.wait_for_committed(200);
    kill_9(&workers[0]);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    // The coordinator asks Redis for nothing while a job runs: workers do, and say so.
    let said = workers[1].said();
    assert_eq!(said.matches("Redis does not answer").count(), 1, "{said}");
    world.redis.start_again();
    world.each_once_and_nothing_left(&items);
}

#[test]
fn doctor_looks_at_the_fleet() {
    let world = World::new();
    let mut worker = world.worker();
    worker.wait_until_said("waiting for tickets");
    let doctor = |limit: &str, code| {
        let mut command = world.place.fanfold();
        world.knows(&mut command);
        command.arg("doctor");
        let said = Running::start(&world.place, command).ends(LIMIT, code);
        assert!(said.contains(limit), "{said}");
        said
    };
    let said = doctor("ok       broker  RabbitMQ ", 0);
    assert!(said.contains("ok       redis   answers in ") && said.contains("1 worker, 1 idle"), "{said}");
    assert!(!said.contains(RabbitMq::shared().credentials().1), "{said}");
    world.redis.stop();
    let said = doctor("problem  redis   cannot connect to Redis at redis://", 1);
    assert!(said.contains("is Redis running"), "{said}");
}

#[test]
fn a_redis_that_is_not_there_is_named_at_the_start() {
    let world = World::new();
    world.job(1, SLOW, "");
    world.redis.stop();
    let said = world.coordinator().ends(LIMIT, 4);
    assert!(said.contains(&world.redis.port().to_string()) && said.contains("hint:"), "{said}");
}
