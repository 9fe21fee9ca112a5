//! Outputs in the cloud: each is there whole, once, and nobody else's is touched, whatever breaks in between. On object stores of the tests' own,
//! with real signatures, and a relay before them that breaks requests.

#[path = "../crash/points.rs"]
mod points;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/mod.rs"]
mod support;

mod broken;
mod canary;
mod killed;
mod refused;
mod whole;
mod world;
