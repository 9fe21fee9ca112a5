//! x

pub mod workdir;
