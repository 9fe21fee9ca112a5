use std::sync::OnceLock;

use fanfold_test_servers::{RabbitMq, Redis};

use super::*;
use crate::backend::contract;
use crate::backend::rabbitmq::BrokerConfig;
use crate::backend::redis::StoreConfig;
use crate::fleet::config::{ServerUrl, TlsFiles};

const LIMIT: Duration = Duration::from_secs(20);

fn redis() -> &'static Redis {
    static REDIS: OnceLock<Redis> = OnceLock::new();
    REDIS.get_or_init(Redis::start)
}

fn broker(url: &str) -> Broker {
    let url = ServerUrl::parse("the broker", url, &["amqp", "amqps"]).unwrap();
    let broker = Broker::start(BrokerConfig { url, tls: TlsFiles::default(), name: "test".into() }).unwrap();
    broker.wait(LIMIT).unwrap();
    broker
}

fn store(url: &str) -> Store {
    let url = ServerUrl::parse("Redis", url, &["redis", "rediss"]).unwrap();
    let store = Store::start(StoreConfig { url, tls: TlsFiles::default(), name: "test".into() }).unwrap();
    store.ping(LIMIT).unwrap();
    store
}

#[test]
fn the_fleet_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&RabbitMq::shared().vhost());
    let store = store(&redis().url());
    contract::check(|| {
        let job = JobId::new("test");
        let dir = JobDir::new(dir.path().join(&job.0));
        std::fs::create_dir_all(dir.spool()).unwrap();
        Fleet::coordinate(&broker, &store, &job, &dir, LIMIT).unwrap()
    });
}
