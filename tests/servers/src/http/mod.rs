//! As much HTTP/1.1 as servers of the tests need: heads, bodies, TLS, and connections that end as badly as a test wants.

mod connection;
mod exchange;
mod head;
mod listener;

pub(crate) use connection::{Body, Connection, reset};
pub(crate) use exchange::exchange;
pub(crate) use head::Head;
pub(crate) use listener::{Listening, listen};
