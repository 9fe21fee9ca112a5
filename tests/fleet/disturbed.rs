//! A job on two workers to which something happens when some of it is done; afterwards nothing may be lost, doubled or left.

use crate::running::{PACED, Running, open_gate};
use crate::world::World;
use crate::{LASTING, LONG};

/// Who takes part in the job.
pub struct Fleet<'a> {
    /// Servers and the job.
    pub world: &'a World,
    /// The workers; the test may add some, and take some away.
    pub workers: Vec<Running>,
    /// The coordinator; the test may start another in its place.
    pub coordinator: Running,
}

/// Runs a job of 20 ms mini-batches on two workers of two processes. When 60 are committed, `happens` does something to it; then the
/// mini-batches take no more time. It must complete, and nobody may be charged.
#[track_caller]
pub fn disturbed(world: &World, happens: impl FnOnce(&mut Fleet<'_>)) {
    disturbed_and_charged(world, happens);
    assert_eq!(world.place.status()["counts"]["attempts_failed"], 0, "nobody is charged");
}

/// The same, but the job may charge whom it likes.
#[track_caller]
pub fn disturbed_and_charged(world: &World, happens: impl FnOnce(&mut Fleet<'_>)) {
    let items = world.job(LASTING, PACED, "");
    let workers = vec![world.worker(), world.worker()];
    let mut fleet = Fleet { world, workers, coordinator: world.coordinator() };
    world.wait_for_nodes(2);
    world.wait_for_committed(60);
    happens(&mut fleet);
    open_gate(&world.place);
    let Fleet { workers, coordinator, .. } = fleet;
    coordinator.ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    drop(workers);
}
