//! The life of one node: it takes tasks, keeps Python processes that run the entry script, and sends back results.
//!
//! It stands between the tasks and the results of the flow, and knows neither the coordinator nor which backend carries
//! them. Always true: a task is acknowledged only after its results are safe; only a mini-batch that was running is charged
//! with a death; no process outlives its node. Start reading at [`node`], then [`slot`].

pub mod cli;
pub mod cloud;
pub mod descriptors;
pub mod devices;
pub mod environment;
pub mod equip;
pub mod fleet;
pub mod guard;
pub mod host;
pub mod logs;
pub mod monitor;
pub mod node;
pub mod slot;
pub mod work;
pub mod workdir;
