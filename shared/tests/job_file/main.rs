//! The job file: what it refuses and how it says so, what it means, what the script sees of it.

mod argv;
mod datasets;
mod folder;
mod identity;
mod keys;
mod meaning;
mod messages;
mod properties;
mod resolved;
