//! Faults of one machine: processes and programs that stand still, disks that are full or fail, inputs that change under a job,
//! resources that run out, sizes at both ends. The result is always that of an undisturbed job, or a refusal that says why.

#[path = "support/running.rs"]
mod running;
mod support;

#[path = "faults/clocks.rs"]
mod clocks;
#[path = "faults/disks.rs"]
mod disks;
#[path = "faults/inputs.rs"]
mod inputs;
#[path = "faults/places.rs"]
mod places;
#[path = "faults/resources.rs"]
mod resources;
#[path = "faults/sizes.rs"]
mod sizes;
