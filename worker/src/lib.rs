//! The life of one node.

pub mod logs;
