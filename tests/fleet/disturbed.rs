//! A job on two workers to which something happens when some of it is done; afterwards nothing may be lost, doubled or left.

use crate::running::Running;
use crate::world::World;
use crate::{LONG, SLOW};

/// Who takes part in the job.
pub struct Fleet<'a> {
    /// Servers and the job.
    pub world: &'a World,
    /// The workers; the test may add some, and take some away.
    pub workers: Vec<Running>,
    /// The coordinator; the test may start another in its place.
    pub coordinator: Running,
}

/// Runs a job of 600 mini-batches, 20 ms each, on two workers of two processes. When 60 are committed, `happens` does something to it; it
/// must complete all the same, and nobody may be charged.
#[track_caller]
pub fn disturbed(world: &World, happens: impl FnOnce(&mut Fleet<'_>)) {
    disturbed_job(world, world.job(600, SLOW, ""), happens);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

/// The same with a job of the test's own, which may charge whom it likes.
#[track_caller]
pub fn disturbed_job(world: &World, items: Vec<String>, happens: impl FnOnce(&mut Fleet<'_>)) {
    let workers = vec![world.worker(), world.worker()];
    let mut fleet = Fleet { world, workers, coordinator: world.coordinator() };
    world.wait_for_nodes(2);
    world.wait_for_committed(items.len() as u64 / 10);
    happens(&mut fleet);
    let Fleet { workers, coordinator, .. } = fleet;
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    drop(workers);
}
