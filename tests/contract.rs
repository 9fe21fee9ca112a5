//! The contract of the entry script (spec section 2, and what of sections 3, 7 and 8 a script sees), through whole jobs.

#[path = "support/running.rs"]
mod running;
mod support;

#[path = "contract/logs.rs"]
mod logs;
#[path = "contract/probe.rs"]
mod probe;
#[path = "contract/returns.rs"]
mod returns;
#[path = "contract/script.rs"]
mod script;
#[path = "contract/tables.rs"]
mod tables;
#[path = "contract/world.rs"]
mod world;
