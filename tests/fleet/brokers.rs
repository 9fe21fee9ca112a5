//! Brokers that stop, die, close connections, lose queues, take no messages, or are not there.

use std::time::Duration;

use fanfold_shared::fleet::names;
use nix::sys::signal::Signal;

use crate::disturbed::disturbed;
use crate::running::{PACED, open_gate};
use crate::support::{LIMIT, wait_for};
use crate::world::World;
use crate::{LASTING, LONG, SLOW};

const ANSWER: Duration = Duration::from_secs(10);

/// One broker and one job after the other: a broker takes seconds to start.
#[test]
fn a_broker_that_is_stopped_killed_and_cut_loses_nothing() {
    let world = World::with_broker();
    disturbed(&world, |_| {
        world.broker().stop();
        world.wait_until_blocked("broker");
        world.broker().start_again();
        world.wait_until_free();
        world.wait_for_more_committed(50);
        world.broker().kill();
        world.wait_until_blocked("broker");
        world.broker().start_again();
        world.wait_until_free();
        world.wait_for_more_committed(50);
        world.broker().close_all_connections();
        world.wait_for_more_committed(50);
    });
}

#[test]
fn an_alarm_of_the_broker_holds_the_job_up_and_a_signal_still_ends_it() {
    let world = World::with_broker();
    let items = world.job(LASTING, PACED, "");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.broker().set_alarm(true);
    world.wait_until_blocked("low on memory");
    world.broker().set_alarm(false);
    world.wait_until_free();
    world.wait_for_more_committed(50);
    world.broker().set_alarm(true);
    world.wait_until_blocked("low on memory");
    coordinator.signal(Signal::SIGTERM);
    // Two at once count as one.
    wait_for("it to have heard", || coordinator.said().contains("interrupted").then_some(()));
    coordinator.signal(Signal::SIGTERM);
    coordinator.ends(Duration::from_secs(30), 143);
    world.broker().set_alarm(false);
    open_gate(&world.place);
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
}

#[test]
fn a_tasks_queue_that_is_deleted_comes_back() {
    deleted(names::tasks_queue);
}

#[test]
fn a_results_queue_that_is_deleted_comes_back() {
    deleted(names::results_queue);
}

fn deleted(queue: fn(&fanfold_shared::ids::JobId) -> String) {
    let world = World::new();
    disturbed(&world, |_| {
        let link = world.link();
        link.delete_queues(&[queue(&world.job_id())], ANSWER).expect("the broker answers");
    });
}

#[test]
fn a_broker_that_is_not_there_is_named_at_the_start() {
    let world = World::new();
    world.job(1, SLOW, "");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_BROKER", format!("amqp://fanfold:secret@localhost:{nobody}/%2f"));
    });
    let said = coordinator.ends(LIMIT, 4);
    assert!(said.contains(&format!("localhost:{nobody}")) && said.contains("hint:"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_broker_that_is_killed_as_a_job_begins_loses_nothing() {
    let world = World::with_broker();
    let items = world.job(LASTING, PACED, "");
    let _workers = [world.worker(), world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(1);
    // Its queues may be without their logs afterwards, and without anybody who says so.
    world.broker().kill();
    world.broker().start_again();
    open_gate(&world.place);
    coordinator.ends(2 * LONG, 0);
    world.each_once_and_nothing_left(&items);
}
