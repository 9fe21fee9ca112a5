//! Servers of their own for the tests: RabbitMQ, Redis, object stores, files over HTTP(S), relays that break connections and requests, a
//! certificate authority.
//!
//! Each listens on free ports of the loopback interface, keeps its files in a directory of its own and dies with the test program.

mod certificates;
mod cloud;
mod faults;
mod files;
mod http;
mod process;
mod rabbitmq;
mod redis;
mod relay;
mod tls;

pub use certificates::{Identity, TestCa};
pub use cloud::{Azurite, AzuriteOptions, Bucket, Gcs, S3, S3Key, ServicePrincipal, Tokens, has_cloud_servers};
pub use faults::{Fault, Faults, Rule, Seen};
pub use files::Files;
pub use process::wait_until;
pub use rabbitmq::{RabbitMq, RabbitMqOptions, VHOSTS};
pub use redis::{Redis, RedisOptions};
pub use relay::Relay;
