//! `on_failure: bisect` on a fleet, while workers and coordinators die.

use crate::LONG;
use crate::support::wait_for;
use crate::world::{World, kill_9};

/// Some items are bad, each in its own way.
const SCRIPT: &str = r#"
import os
import signal
import time

def run(mini_batch):
    time.sleep(0.002 * len(mini_batch))
    if "item-013" in mini_batch:
        raise ValueError("bad item")
    if "item-257" in mini_batch:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "item-399" in mini_batch:
        time.sleep(600)
    return mini_batch
"#;

#[test]
fn bad_items_stand_alone_whoever_dies() {
    let world = World::new();
    let more = "on_failure: bisect\nrun_max_try: 2\nrun_invocation_timeout: 2\nordered: true\nappend_row_key: true\n";
    let items = world.job(400, SCRIPT, more);
    let start = || {
        world.coordinator_with(|command| {
            command.args(["--set", "mini_batch_size=40"]);
        })
    };
    let (first, _second) = (world.worker(), world.worker());
    let coordinator = start();
    // Parts are out: the third attempt of a mini-batch is one.
    wait_for("a mini-batch to be bisected", || {
        let status = std::fs::read(world.place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
        (status["counts"]["attempts_failed"].as_u64()? >= 5).then_some(())
    });
    kill_9(&first);
    drop(first);
    let _third = world.worker();
    kill_9(&coordinator);
    drop(coordinator);
    start().ends(LONG, 5);
    let bad = ["item-013", "item-257", "item-399"];
    let good = items.iter().filter(|item| !bad.contains(&item.as_str()));
    let rows: Vec<String> = good.map(|item| format!("{item}\t{item}")).collect();
    world.each_once_and_nothing_left(&rows);
    assert_eq!(world.place.rows(), rows, "in the order of the input");
    let mut told: Vec<String> = world
        .place
        .errors()
        .iter()
        .map(|error| format!("{} {}", error["item"].as_str().unwrap_or("several"), error["kind"].as_str().unwrap()))
        .collect();
    told.sort();
    assert_eq!(told, ["item-013 exception", "item-257 signal", "item-399 timeout"]);
}
