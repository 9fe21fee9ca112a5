use std::sync::OnceLock;

use fanfold_test_servers::{RabbitMq, Redis};

use super::*;
use crate::backend::contract;
use crate::backend::rabbitmq::BrokerConfig;
use crate::backend::redis::StoreConfig;
use crate::fleet::config::{ServerUrl, TlsFiles};
use crate::report::Report;

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

fn task(mini_batches: std::ops::Range<u64>, attempt: u32) -> Task {
    Task { mini_batches, attempt, alone: false, part: None }
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

#[test]
fn garbage_goes_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker(&RabbitMq::shared().vhost());
    let job = JobId::new("test");
    let fleet = Fleet::coordinate(&broker, &store(&redis().url()), &job, &JobDir::new(dir.path()), LIMIT).unwrap();
    let huge = Task { mini_batches: 0..MOST_MINI_BATCHES + 1, attempt: 1, alone: false, part: None };
    let fine = Task { mini_batches: 0..1, attempt: 1, alone: false, part: None };
    let whole = wire::encode(&fine);
    let mut bodies: Vec<Vec<u8>> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    bodies.extend([wire::encode(&huge), [vec![1], vec![0x91; 10_000]].concat(), whole]);
    let bad = bodies.len() as u64 - 1;
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let messages = bodies.into_iter().map(|body| fleet.outgoing(names::TASKS, body)).collect();
    assert!(publisher.publish_and_wait(messages, LIMIT).unwrap());
    let mut tasks = Vec::new();
    while tasks.is_empty() || fleet.rejected() < bad {
        tasks.extend(fleet.receive_tasks(100, LIMIT).unwrap());
    }
    assert_eq!(*tasks.remove(0), fine);
    assert_eq!(fleet.rejected(), bad);
    fanfold_test_servers::wait_until(
        LIMIT,
        || "they are not dead letters".into(),
        || broker.depth(names::DEAD, LIMIT).unwrap().is_some_and(|depth| u64::from(depth.ready) == bad),
    );
}

#[test]
fn a_redis_that_hangs_stops_or_forgets_costs_a_moment() {
    let redis = Redis::start();
    let store = store(&redis.url());
    let (job, task) = (JobId::new("test"), [task(0..3, 1)]);
    assert_eq!(store.count(&job, &task), Some(vec![1]));
    redis.flush();
    assert_eq!(store.count(&job, &task), Some(vec![1]));
    redis.hang();
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(store.count(&job, &task), None);
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(store.away().is_some());
    redis.go_on();
    store.ping(LIMIT).unwrap();
    redis.stop();
    assert_eq!(store.count(&job, &task), None);
    redis.start_again();
    store.ping(LIMIT).unwrap();
    assert_eq!(store.count(&job, &task), Some(vec![1]));
    // A restart that nobody asked anything during costs nothing: the job's counters are removed all the same.
    redis.stop();
    redis.start_again();
    assert_eq!(store.count(&job, &task), Some(vec![1]));
    redis.stop();
    redis.start_again();
    store.forget_job(&job);
    assert_eq!(store.count(&job, &task), Some(vec![1]));
}

#[test]
fn redis_needs_no_more_than_the_rights_that_are_written_down() {
    let rights = "resetchannels resetkeys ~fanfold:* nocommands +hincrby +hdel +del +expire +set +get +mget +zadd +zrangebyscore \
                  +zrem +zremrangebyscore +ping +hello +auth +select +client|setname";
    let acl = vec![format!("user fanfold on >secret {rights}"), "user default off".to_string()];
    let redis = Redis::start_with(fanfold_test_servers::RedisOptions { acl, ..Default::default() });
    let store = store(&redis.url_of("fanfold", "secret"));
    let job = JobId::new("test");
    let tasks = [task(0..3, 1), task(3..6, 1)];
    assert_eq!(store.count(&job, &tasks), Some(vec![1, 1]));
    store.uncount_then(&job, &tasks[0], || ());
    store.forget(&job, &tasks[1]);
    assert_eq!(store.count(&job, &tasks), Some(vec![1, 1]));
    assert_eq!(store.workers(), Some(Vec::new()));
    store.forget_job(&job);
    assert!(store.away().is_none(), "{:?}", store.away());
    let url = ServerUrl::parse("Redis", &redis.url_of("fanfold", "wrong-secret"), &["redis"]).unwrap();
    let wrong = Store::start(StoreConfig { url, tls: TlsFiles::default(), name: "test".into() }).unwrap();
    let error = wrong.ping(LIMIT).unwrap_err().to_string();
    assert!(error.contains("user `fanfold` or its password is wrong") && !error.contains("wrong-secret"), "{error}");
}

#[test]
fn a_task_that_is_published_anew_is_counted_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, store) = (broker(&RabbitMq::shared().vhost()), store(&redis().url()));
    let (job, dir) = (JobId::new("test"), JobDir::new(dir.path()));
    let coordinator = Fleet::coordinate(&broker, &store, &job, &dir, LIMIT).unwrap();
    let (node, other) = (Fleet::take_part(&broker, &store, &job, &dir), Fleet::take_part(&broker, &store, &job, &dir));
    let receive = |from: &Fleet| from.receive_tasks(1, LIMIT).unwrap().remove(0);
    let plain = task(0..3, 1);
    let alone = Task { alone: true, ..plain.clone() };
    // Somebody died with it.
    assert_eq!(store.count(&job, std::slice::from_ref(&plain)), Some(vec![1]));
    coordinator.publish_tasks(vec![plain.clone()]).unwrap();
    let handed_back = receive(&node);
    assert_eq!(node.count_hand_overs(std::slice::from_ref(&handed_back)), Ok(vec![2]));
    // The coordinator heard of it already.
    assert_eq!(store.count(&job, std::slice::from_ref(&alone)), Some(vec![1]));
    store.forget(&job, &alone);
    // And even of the very same task.
    node.forget_hand_overs(&handed_back);
    node.hold(0);
    coordinator.publish_tasks(vec![plain.clone()]).unwrap();
    let anew = receive(&other);
    assert_eq!(other.count_hand_overs(std::slice::from_ref(&anew)), Ok(vec![1]));
    handed_back.ack();
    // Its acknowledgement took nothing of the new one's count.
    store.ping(LIMIT).unwrap();
    assert_eq!(store.count(&job, std::slice::from_ref(&plain)), Some(vec![2]));
    anew.ack();
    store.ping(LIMIT).unwrap();
    assert_eq!(store.count(&job, &[plain]), Some(vec![1]));
    coordinator.clean_up().unwrap();
}

#[test]
fn a_file_of_rows_stays_until_its_message_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, store) = (broker(&RabbitMq::shared().vhost()), store(&redis().url()));
    let (job, dir) = (JobId::new("test"), JobDir::new(dir.path()));
    std::fs::create_dir_all(dir.spool()).unwrap();
    let coordinator = Fleet::coordinate(&broker, &store, &job, &dir, LIMIT).unwrap();
    let node = Fleet::take_part(&broker, &store, &job, &dir);
    let rows = vec![b'x'; 300 << 10];
    let end = crate::message::OutcomeEnd::Returned {
        returned: 1,
        rows_len: rows.len() as u64,
        spooled: None,
        unreadable: Vec::new(),
    };
    let (mini_batch, items, attempt) = (0, 0..1, 1);
    let (started_us, elapsed_us, run_us, cpu_us) = (1, 2, 3, 4);
    let outcome = crate::message::Outcome { mini_batch, items, attempt, started_us, elapsed_us, run_us, cpu_us, end };
    let process = crate::ids::ProcessNumber(1);
    let results = crate::message::Results { process, outcomes: vec![outcome], rows, header: None };
    let body = crate::message::NodeMessage::Results(results);
    let sent = FromNode { node: crate::ids::NodeId("node".into()), body };
    let files = || std::fs::read_dir(dir.spool()).unwrap().count();
    let (safe, is_safe) = mpsc::channel();
    node.publish_results(vec![sent.clone()], Box::new(move || safe.send(()).unwrap())).unwrap();
    is_safe.recv_timeout(LIMIT).unwrap();
    let receive = || coordinator.receive_results(1 << 20, LIMIT).unwrap().remove(0);
    let first = receive();
    assert_eq!((&*first, files()), (&sent, 1));
    first.requeue();
    let again = receive();
    assert_eq!((&*again, files()), (&sent, 1));
    again.ack();
    assert_eq!(files(), 0);
    // What nobody will ever collect goes with the job.
    std::fs::write(dir.spool().join("left.rows"), b"x").unwrap();
    std::fs::write(dir.spool().join("left.rows.tmp"), b"x").unwrap();
    coordinator.clean_up().unwrap();
    assert_eq!(files(), 0);
}

#[test]
fn redis_is_used_over_tls_and_knows_who_works() {
    let (ca, other) = (fanfold_test_servers::TestCa::new(), fanfold_test_servers::TestCa::new());
    let options = fanfold_test_servers::RedisOptions {
        tls: Some(ca.sign("localhost")),
        client_ca: Some(ca.file()),
        ..Default::default()
    };
    let redis = Redis::start_with(options);
    let client = ca.sign("client");
    let with = |ca: std::path::PathBuf| {
        let url = ServerUrl::parse("Redis", &redis.url(), &["rediss"]).unwrap();
        let tls = TlsFiles { ca: Some(ca), identity: Some((client.certificate.clone(), client.key.clone())) };
        Store::start(StoreConfig { url, tls, name: "test".into() })
    };
    let error = with(other.file()).unwrap().ping(Duration::from_secs(2)).unwrap_err();
    assert!(error.hint().unwrap().contains("FANFOLD_CA"), "{error}");
    assert!(with("/nowhere/ca.pem".into()).is_err());
    let store = with(ca.file()).unwrap();
    store.ping(LIMIT).unwrap();
    let status = |name: &str| crate::fleet::WorkerStatus {
        worker: crate::fleet::WorkerId(name.into()),
        host: "host".into(),
        pool: "default".into(),
        version: "0.1.0".into(),
        state: crate::fleet::WorkerState::Idle,
        processes: 2,
        gpus: vec!["0".into()],
        started_us: 1,
        beat_us: 2,
    };
    let (a, b) = (status("a"), status("b"));
    store.beat(&a);
    store.beat(&b);
    let sorted = || {
        let mut all = store.workers().unwrap();
        all.sort_by(|one, two| one.worker.cmp(&two.worker));
        all
    };
    assert_eq!(sorted(), [a, b.clone()]);
    store.worker_left(&crate::fleet::WorkerId("a".into()));
    assert_eq!(sorted(), [b]);
}
