//! `fanfold explain` on a fleet: what is its fault is said so, with a figure.

use serde_json::Value;

use crate::running::{GATED, Running, open_gate, wait_until_begun};
use crate::support::{LIMIT, wait_for};
use crate::world::World;

/// What `explain` says for `code`, as soon as `right` has nothing against it.
#[track_caller]
fn explained(world: &World, code: &str, right: impl Fn(&str) -> bool) -> String {
    wait_for(&format!("the right word of `{code}`"), || {
        let ran = world.place.run(&["explain", "job", "--json"]);
        let told: Value = serde_json::from_str(&ran.stdout).ok()?;
        let found = told["reasons"].as_array()?.iter().find(|reason| reason["code"] == code)?;
        found["text"].as_str().filter(|text| right(text)).map(str::to_string)
    })
}

fn ends(world: &World, coordinator: Running) {
    open_gate(&world.place);
    coordinator.ends(LIMIT, 0);
}

#[test]
fn nodes_that_do_not_come_and_nodes_that_are_too_few() {
    let world = World::new();
    world.job(20, GATED, "node_count: 3\n");
    let coordinator = world.coordinator();
    let pool = &world.pool;
    let none = explained(&world, "blocked", |text| text.contains("waits for nodes"));
    assert_eq!(none, format!("waits for nodes: 3 wanted in pool `{pool}`, none has come"));
    let _worker = world.worker();
    wait_until_begun(&world.place, 2);
    assert_eq!(explained(&world, "nodes", |_| true), "it has 1 of 3 nodes");
    let works = explained(&world, "working", |_| true);
    assert!(works.starts_with("it works: 0 of 20 mini-batches, ") && works.contains(" on 1 node"), "{works}");
    ends(&world, coordinator);
}

#[test]
fn a_straggler_on_a_worker() {
    let world = World::new();
    let script = GATED.replace("while not", "while mini_batch[0] == 'item-000' and not");
    world.job(40, &script, "node_count: 1\n");
    let _worker = world.worker();
    let coordinator = world.coordinator();
    // The node says every five seconds what its processes do.
    let text = explained(&world, "straggler", |text| text.contains(" left: "));
    assert!(text.starts_with("1 mini-batch left: mini-batch 0 has taken "), "{text}");
    assert!(text.ends_with("; 1 of 2 processes has nothing to do"), "{text}");
    ends(&world, coordinator);
}

#[test]
fn a_broker_that_is_away() {
    let world = World::with_broker();
    world.job(20, GATED, "");
    let _worker = world.worker();
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    world.broker().stop();
    let text = explained(&world, "blocked", |text| text.contains("broker"));
    assert!(text.starts_with("the broker is away (") && text.ends_with("); the job goes on by itself"), "{text}");
    world.broker().start_again();
    world.wait_until_free();
    ends(&world, coordinator);
}
