//! Connections that are cut, silent in one direction or both, or slow. `?heartbeat=2` makes silence count after 4 s.

use std::time::Duration;

use fanfold_test_servers::{RabbitMq, Relay};

use crate::disturbed::{Fleet, disturbed};
use crate::running::{PACED, open_gate};
use crate::support::wait_for;
use crate::world::World;
use crate::{LASTING, LONG};

/// The URL of a world's broker by way of a relay.
fn through(world: &World, relay: &Relay) -> String {
    let (from, to) = (format!(":{}/", RabbitMq::shared().port()), format!(":{}/", relay.port()));
    assert!(world.url.contains(&from), "{}", world.url);
    format!("{}?heartbeat=2", world.url.replace(&from, &to))
}

fn relay() -> Relay {
    Relay::to(RabbitMq::shared().port())
}

/// A worker whose way to the broker breaks, beside one whose way does not.
fn a_worker_is_cut_off(breaks: impl FnOnce(&Relay, &Fleet<'_>)) {
    let (world, relay) = (World::new(), relay());
    let url = through(&world, &relay);
    disturbed(&world, |fleet| {
        fleet.workers.push(world.worker_with(|command| {
            command.env("FANFOLD_BROKER", url);
        }));
        world.wait_for_nodes(3);
        breaks(&relay, fleet);
    });
}

fn wait_until_away(fleet: &Fleet<'_>) {
    wait_for("the worker to notice", || fleet.workers[2].said().contains("no connection to the broker").then_some(()));
}

#[test]
fn a_worker_s_network_goes_silent_and_heals() {
    a_worker_is_cut_off(|relay, fleet| {
        relay.black_hole();
        wait_until_away(fleet);
        relay.pass();
    });
}

#[test]
fn a_worker_hears_nothing_for_a_while() {
    a_worker_is_cut_off(|relay, fleet| {
        relay.mute_server();
        wait_until_away(fleet);
        relay.pass();
    });
}

#[test]
fn a_worker_s_connections_are_reset_again_and_again() {
    a_worker_is_cut_off(|relay, fleet| {
        for _ in 0..4 {
            relay.cut();
            fleet.world.wait_for_more_committed(30);
        }
    });
}

/// The coordinator's way to the broker breaks, and not the workers'.
fn the_coordinator_is_cut_off(breaks: impl FnOnce(&Relay, &World)) {
    let (world, relay) = (World::new(), relay());
    let url = through(&world, &relay);
    let items = world.job(LASTING, PACED, "");
    let _workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator_with(|command| {
        command.env("FANFOLD_BROKER", url);
    });
    world.wait_for_nodes(2);
    world.wait_for_committed(60);
    breaks(&relay, &world);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

#[test]
fn the_coordinator_s_network_goes_silent_and_heals() {
    the_coordinator_is_cut_off(|relay, world| {
        relay.black_hole();
        world.wait_until_blocked("broker");
        relay.pass();
    });
}

#[test]
fn the_coordinator_hears_nothing_for_a_while() {
    the_coordinator_is_cut_off(|relay, world| {
        relay.mute_server();
        world.wait_until_blocked("broker");
        relay.pass();
    });
}

#[test]
fn the_coordinator_s_connections_are_refused_for_a_while() {
    the_coordinator_is_cut_off(|relay, world| {
        relay.refuse();
        world.wait_until_blocked("broker");
        relay.pass();
    });
}

#[test]
fn a_slow_network_makes_a_job_slow_and_no_more() {
    the_coordinator_is_cut_off(|relay, world| {
        relay.delay(Duration::from_millis(150));
        world.wait_for_more_committed(100);
    });
}
