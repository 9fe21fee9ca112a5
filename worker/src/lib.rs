//! The life of one node.

pub mod devices;
pub mod environment;
pub mod guard;
