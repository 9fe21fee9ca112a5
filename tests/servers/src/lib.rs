//! Servers of their own for the tests: RabbitMQ, Redis, a relay that breaks connections, a certificate authority.
//!
//! Each listens on free ports of the loopback interface, keeps its files in a directory of its own and dies with the test program.

mod certificates;
mod process;
mod rabbitmq;
mod redis;
mod relay;

pub use certificates::{Identity, TestCa};
pub use process::wait_until;
pub use rabbitmq::{RabbitMq, RabbitMqOptions, VHOSTS};
pub use redis::{Redis, RedisOptions};
pub use relay::Relay;
