//! `fanfold serve` and the verbs against it: real servers, real workers, real HTTP.

mod datasets;
mod examples;
#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "../fleet/world.rs"]
mod fleet;
mod jobs;
mod local;
mod requests;
#[path = "../support/running.rs"]
mod running;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/told.rs"]
mod told;
mod uploads;
mod world;

use running::job_of;
use world::Served;

/// Returns its items at once.
const ECHO: &str = "def run(mini_batch):\n    return mini_batch\n";

/// A service and, in its shared directory, the job `job.yaml` over so many lines.
fn served(script: &str, more: &str, items: usize) -> (Served, Vec<String>) {
    let served = Served::new();
    job_of(served.place(), script, more);
    let items = served.place().write_items(items);
    (served, items)
}
