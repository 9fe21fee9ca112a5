//! The link to the broker under faults, on servers of their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfold_test_servers::{RabbitMq, RabbitMqOptions, Relay, TestCa, wait_until};

use super::*;
use crate::fleet::names;
use crate::report::{ExitCode, Report};

const LIMIT: Duration = Duration::from_secs(40);

fn config(url: &str) -> BrokerConfig {
    let url = ServerUrl::parse("the broker", url, &["amqp", "amqps"]).unwrap();
    BrokerConfig { url, tls: TlsFiles::default(), name: "fanfold/test".into() }
}

fn connected(url: &str) -> Broker {
    let broker = Broker::start(config(url)).unwrap();
    broker.wait(LIMIT).unwrap();
    broker
}

fn quorum(name: &str, max_bytes: Option<u64>) -> Topology {
    let kind = QueueKind::Quorum { expires: None, max_bytes, max_length: None, message_ttl: None };
    let direct = "fanfold.test".to_string();
    Topology {
        exchanges: vec![(direct.clone(), ExchangeKind::Direct), (names::DEAD.to_string(), ExchangeKind::Fanout)],
        queues: vec![Queue { name: name.to_string(), kind }],
        bindings: vec![(name.to_string(), direct, name.to_string())],
    }
}

fn message(queue: &str, body: Vec<u8>) -> Outgoing {
    Outgoing { exchange: "fanfold.test".into(), routing_key: queue.into(), body, ..Outgoing::default() }
}

fn number(received: &Received) -> u64 {
    u64::from_be_bytes(received.body[..8].try_into().unwrap())
}

/// Publishes numbers until told to stop; counts those that are safe.
struct Load {
    stop: Arc<AtomicBool>,
    safe: Arc<Mutex<Vec<u64>>>,
    thread: thread::JoinHandle<Publisher>,
}

impl Load {
    fn start(broker: &Broker, queue: &'static str, size: usize) -> Load {
        let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
        let (stop, safe) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, noted) = (stop.clone(), safe.clone());
        let thread = thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let mut body = u64::to_be_bytes(number).to_vec();
                body.resize(size, b'x');
                let noted = noted.clone();
                let safe = Box::new(move || noted.lock().unwrap().push(number));
                publisher.publish(vec![message(queue, body)], safe).unwrap();
            }
            publisher
        });
        Load { stop, safe, thread }
    }

    fn safe(&self) -> usize {
        self.safe.lock().unwrap().len()
    }

    /// Waits for `more` safe messages.
    fn advance(&self, more: usize) {
        let goal = self.safe() + more;
        wait_until(LIMIT, || format!("{} of {goal} messages are safe", self.safe()), || self.safe() >= goal);
    }

    /// Stops; the numbers that are safe.
    fn end(self) -> (Publisher, Arc<Mutex<Vec<u64>>>) {
        self.stop.store(true, Ordering::SeqCst);
        (self.thread.join().unwrap(), self.safe)
    }
}

#[test]
fn nothing_is_lost_while_the_broker_restarts_and_connections_die() {
    let server = RabbitMq::start();
    let broker = connected(&server.url());
    broker.declare(quorum("load", None), LIMIT).unwrap();
    let consumer = broker.consumer("load", 50);
    let load = Load::start(&broker, "load", 100);
    let seen = Arc::new(Mutex::new(HashMap::<u64, u32>::new()));
    let (counted, done) = (seen.clone(), Arc::new(AtomicBool::new(false)));
    let finished = done.clone();
    let most = Arc::new(AtomicU64::new(0));
    let highest = most.clone();
    let receiver = thread::spawn(move || {
        while !finished.load(Ordering::SeqCst) {
            let received = consumer.receive(100, Duration::from_millis(100)).unwrap();
            highest.fetch_max(received.len() as u64, Ordering::SeqCst);
            for received in received {
                *counted.lock().unwrap().entry(number(&received)).or_insert(0) += 1;
                received.ack();
            }
        }
        consumer
    });
    load.advance(500);
    server.stop();
    wait_until(LIMIT, || "it is not away".into(), || matches!(broker.condition(), Condition::Away { .. }));
    server.start_again();
    load.advance(500);
    server.close_all_connections();
    load.advance(500);
    server.kill();
    server.start_again();
    load.advance(500);
    let (publisher, safe) = load.end();
    assert!(publisher.publish_and_wait(vec![message("load", u64::MAX.to_be_bytes().to_vec())], LIMIT).unwrap());
    let all_seen = || {
        let seen = seen.lock().unwrap();
        seen.contains_key(&u64::MAX) && safe.lock().unwrap().iter().all(|number| seen.contains_key(number))
    };
    wait_until(LIMIT, || format!("{} were received", seen.lock().unwrap().len()), all_seen);
    assert!(most.load(Ordering::SeqCst) <= 50, "the prefetch is in force");
    let depth = broker.depth("load", LIMIT).unwrap().unwrap();
    assert_eq!(depth, Depth { ready: 0, consumers: 1 });
    done.store(true, Ordering::SeqCst);
    drop(receiver.join().unwrap());
}

#[test]
fn a_queue_that_was_deleted_is_declared_and_used_again() {
    let server = RabbitMq::shared();
    let url = server.vhost();
    let broker = connected(&url);
    broker.declare(quorum("gone", None), LIMIT).unwrap();
    let consumer = broker.consumer("gone", 10);
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    assert!(publisher.publish_and_wait(vec![message("gone", vec![1])], LIMIT).unwrap());
    consumer.receive(1, LIMIT).unwrap().into_iter().for_each(Received::ack);
    // Somebody else deletes it.
    connected(&url).delete_queues(&["gone".into()], LIMIT).unwrap();
    assert!(publisher.publish_and_wait(vec![message("gone", vec![2])], LIMIT).unwrap());
    let received = consumer.receive(1, LIMIT).unwrap();
    let seen = received.first().map(|received| received.body.clone());
    assert_eq!(seen, Some(vec![2]), "{:?} {:?}", broker.depth("gone", LIMIT), consumer.missing_since());
    assert_eq!(publisher.unroutable_since(), None);
    assert_eq!(consumer.missing_since(), None);
}

#[test]
fn a_queue_that_is_not_there_is_waited_for() {
    let url = RabbitMq::shared().vhost();
    let (broker, other) = (connected(&url), connected(&url));
    let consumer = broker.consumer("later", 10);
    wait_until(LIMIT, || "it is not said to be missing".into(), || consumer.missing_since().is_some());
    assert_eq!(broker.depth("later", LIMIT).unwrap(), None);
    other.declare(quorum("later", None), LIMIT).unwrap();
    let publisher = other.publisher(Unroutable::TryAgain, 1 << 20);
    assert!(publisher.publish_and_wait(vec![message("later", vec![1])], LIMIT).unwrap());
    assert_eq!(consumer.receive(1, LIMIT).unwrap().len(), 1);
    // What nobody is bound for is dropped where that was asked for.
    let dropping = other.publisher(Unroutable::Drop, 1 << 20);
    assert!(dropping.publish_and_wait(vec![message("nobody", vec![1])], LIMIT).unwrap());
}

#[test]
fn messages_are_settled_in_any_order_and_the_prefetch_changes() {
    let broker = connected(&RabbitMq::shared().vhost());
    broker.declare(quorum("settle", None), LIMIT).unwrap();
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let all = (0..100u64).map(|number| message("settle", number.to_be_bytes().to_vec())).collect();
    assert!(publisher.publish_and_wait(all, LIMIT).unwrap());
    let consumer = broker.consumer("settle", 3);
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(consumer.receive(10, LIMIT).unwrap());
    }
    assert!(consumer.receive(10, Duration::from_millis(300)).unwrap().is_empty(), "three are allowed");
    consumer.set_prefetch(40);
    while held.len() < 43 {
        held.extend(consumer.receive(100, LIMIT).unwrap());
    }
    // Backwards, one requeued, one rejected.
    let mut numbers: Vec<u64> = held.iter().map(number).collect();
    for (at, received) in held.into_iter().rev().enumerate() {
        match at {
            5 => received.requeue(),
            7 => received.reject(),
            _ => received.ack(),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..43).collect::<Vec<_>>());
    let mut left = 0;
    while left < 58 {
        let received = consumer.receive(100, LIMIT).unwrap();
        assert!(!received.is_empty(), "{left} came");
        left += received.len();
        received.into_iter().for_each(Received::ack);
    }
    consumer.cancel();
    assert_eq!(consumer.receive(1, LIMIT).err(), Some(Closed));
    wait_until(
        LIMIT,
        || "something is left".into(),
        || broker.depth("settle", LIMIT).unwrap() == Some(Depth { ready: 0, consumers: 0 }),
    );
}

#[test]
fn a_full_queue_takes_the_rest_when_there_is_room() {
    let broker = connected(&RabbitMq::shared().vhost());
    broker.declare(quorum("full", Some(10_000)), LIMIT).unwrap();
    let load = Load::start(&broker, "full", 1000);
    load.advance(5);
    // The queue is full, and the publisher waits for its bound on what is not confirmed.
    let consumer = broker.consumer("full", 10);
    let mut seen = HashMap::<u64, u32>::new();
    while seen.len() < 200 {
        for received in consumer.receive(10, LIMIT).unwrap() {
            *seen.entry(number(&received)).or_insert(0) += 1;
            received.ack();
        }
    }
    load.stop.store(true, Ordering::SeqCst);
    broker.close();
}

#[test]
fn an_alarm_stops_publishers_and_nobody_else() {
    let server = RabbitMq::start();
    let broker = connected(&server.url());
    broker.declare(quorum("alarm", None), LIMIT).unwrap();
    let load = Load::start(&broker, "alarm", 1000);
    load.advance(300);
    let consumer = broker.consumer("alarm", 10);
    server.set_alarm(true);
    wait_until(
        LIMIT,
        || format!("{:?}", broker.condition()),
        || matches!(broker.condition(), Condition::Blocked { .. }),
    );
    // What is there still flows, and is acknowledged.
    let mut received = 0;
    while received < 100 {
        let came = consumer.receive(10, LIMIT).unwrap();
        received += came.len();
        came.into_iter().for_each(Received::ack);
    }
    let before = load.safe();
    server.set_alarm(false);
    load.advance(300);
    assert!(load.safe() > before);
    let (publisher, _) = load.end();
    drop(publisher);
}

#[test]
fn a_vanished_broker_is_noticed() {
    let server = RabbitMq::shared();
    let relay = Relay::to(server.port());
    let url = server.vhost().replace(&format!(":{}/", server.port()), &format!(":{}/", relay.port()));
    let broker = connected(&format!("{url}?heartbeat=1"));
    broker.declare(quorum("hole", None), LIMIT).unwrap();
    let load = Load::start(&broker, "hole", 100);
    load.advance(100);
    relay.black_hole();
    wait_until(LIMIT, || "it is not away".into(), || matches!(broker.condition(), Condition::Away { .. }));
    relay.pass();
    relay.cut();
    load.advance(100);
    relay.refuse();
    wait_until(LIMIT, || "it is not away".into(), || matches!(broker.condition(), Condition::Away { .. }));
    relay.pass();
    load.advance(100);
    load.stop.store(true, Ordering::SeqCst);
    broker.close();
}

#[test]
fn an_absent_broker_is_told_and_waited_for() {
    let server = RabbitMq::shared();
    let relay = Relay::to(server.port());
    relay.refuse();
    let url = server.vhost().replace(&format!(":{}/", server.port()), &format!(":{}/", relay.port()));
    let broker = Broker::start(config(&url)).unwrap();
    let error = broker.wait(Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot connect to the broker at amqp://localhost:"), "{error}");
    assert!(!error.to_string().contains(server.credentials().1));
    relay.pass();
    broker.wait(LIMIT).unwrap();
    assert!(matches!(broker.condition(), Condition::Connected { version } if version.contains('.')));
}

#[test]
fn a_wrong_password_or_virtual_host_is_told_at_once() {
    let server = RabbitMq::shared();
    let wrong = server.url().replace(server.credentials().1, "wrong-secret");
    let error = Broker::start(config(&wrong)).unwrap().wait(LIMIT).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BrokerError::Refused { .. }), "{text}");
    assert!(text.contains("user `fanfold` or its password is wrong") && !text.contains("wrong-secret"), "{text}");
    assert_eq!(error.exit_code(), ExitCode::Unreachable);
    let error = Broker::start(config(&server.url_of("nowhere"))).unwrap().wait(LIMIT).unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error}");
}

#[test]
fn tls_needs_the_right_authority() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let options =
        RabbitMqOptions { tls: Some(ca.sign("localhost")), client_ca: Some(ca.file()), ..RabbitMqOptions::default() };
    let server = RabbitMq::start_with(options);
    let client = ca.sign("client");
    let with = |ca: std::path::PathBuf| {
        let identity = Some((client.certificate.clone(), client.key.clone()));
        Broker::start(BrokerConfig { tls: TlsFiles { ca: Some(ca), identity }, ..config(&server.amqps_url()) })
    };
    with(ca.file()).unwrap().wait(LIMIT).unwrap();
    let error = with(other.file()).unwrap().wait(Duration::from_secs(3)).unwrap_err();
    assert!(matches!(error, BrokerError::Unreachable { .. }), "{error}");
    assert!(error.hint().unwrap().contains("FANFOLD_CA"), "{error}: {:?}", error.hint());
    // A file of authorities is instead of the system's, and without one the system's don't know this server.
    let identity = Some((client.certificate.clone(), client.key.clone()));
    let system = BrokerConfig { tls: TlsFiles { ca: None, identity }, ..config(&server.amqps_url()) };
    let error = Broker::start(system).map(|broker| broker.wait(Duration::from_secs(3)).unwrap_err());
    assert!(matches!(error, Ok(BrokerError::Unreachable { .. }) | Err(BrokerError::Tls { .. })), "{:?}", error.err());
    let error = with(client.key.clone()).err().unwrap();
    assert!(error.to_string().contains("no certificate is in it"), "{error}");
    let error = with("/nowhere/ca.pem".into()).err().unwrap();
    assert!(matches!(error, BrokerError::Tls { .. }));
    assert_eq!(error.exit_code(), ExitCode::Usage);
}

#[test]
fn a_queue_that_comes_back_at_once_has_no_consumer_of_the_one_before() {
    let url = RabbitMq::shared().vhost();
    let (broker, other) = (connected(&url), connected(&url));
    broker.declare(quorum("ghost", None), LIMIT).unwrap();
    let consumer = broker.consumer("ghost", 10);
    let publisher = other.publisher(Unroutable::TryAgain, 1 << 20);
    assert!(publisher.publish_and_wait(vec![message("ghost", vec![0; 8])], LIMIT).unwrap());
    consumer.receive(1, LIMIT).unwrap().into_iter().for_each(Received::ack);
    for _ in 0..3 {
        other.delete_queues(&["ghost".into()], LIMIT).unwrap();
        // Looking for it is what finds that it is gone.
        assert_eq!(broker.depth("ghost", LIMIT).unwrap(), None);
        let all: Vec<_> = (0..10u64).map(|number| message("ghost", number.to_be_bytes().to_vec())).collect();
        assert!(publisher.publish_and_wait(all, LIMIT).unwrap());
        let mut seen = HashSet::new();
        let deadline = Instant::now() + LIMIT;
        while seen.len() < 10 {
            assert!(Instant::now() < deadline, "only {seen:?} came");
            for received in consumer.receive(10, Duration::from_millis(100)).unwrap() {
                seen.insert(number(&received));
                received.ack();
            }
        }
    }
}

#[test]
fn a_consumer_starts_again_when_its_queue_was_declared_anew() {
    let broker = connected(&RabbitMq::shared().vhost());
    broker.declare(quorum("anew", None), LIMIT).unwrap();
    let consumer = broker.consumer("anew", 10);
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    assert!(publisher.publish_and_wait(vec![message("anew", vec![0; 8])], LIMIT).unwrap());
    let held = consumer.receive(1, LIMIT).unwrap();
    broker.shared().anew.send_modify(|anew| *anew.entry("anew".into()).or_default() += 1);
    // What it held is delivered to the one that comes after it.
    let again = consumer.receive(1, LIMIT).unwrap();
    assert!(again[0].redelivered);
    held.into_iter().chain(again).for_each(Received::ack);
    wait_until(
        LIMIT,
        || "it was not acknowledged".into(),
        || broker.depth("anew", LIMIT).unwrap() == Some(Depth { ready: 0, consumers: 1 }),
    );
}

#[test]
fn a_closed_publisher_waits_for_nobody_who_refuses() {
    let broker = connected(&RabbitMq::shared().vhost());
    broker.declare(quorum("small", Some(1000)), LIMIT).unwrap();
    let never = |publisher: &Publisher, message| {
        let (sent, safe) = mpsc::channel();
        publisher.publish(vec![message], Box::new(move || sent.send(()).unwrap())).unwrap();
        safe
    };
    let ends = |publisher: Publisher, safe: mpsc::Receiver<()>| {
        publisher.close();
        // Not told to be safe, and forgotten.
        assert_eq!(safe.recv_timeout(Duration::from_secs(5)), Err(mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(publisher.publish(vec![message("small", vec![1])], Box::new(|| ())), Err(Closed));
    };
    // Nobody is bound for it.
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let safe = never(&publisher, message("nobody", vec![1]));
    wait_until(LIMIT, || "it does not come back".into(), || publisher.unroutable_since().is_some());
    ends(publisher, safe);
    // There is no such exchange.
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let safe = never(&publisher, Outgoing { exchange: "nowhere".into(), ..Outgoing::default() });
    wait_until(LIMIT, || "it does not come back".into(), || publisher.unroutable_since().is_some());
    ends(publisher, safe);
    // The queue is full.
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    while publisher.publish_and_wait(vec![message("small", vec![1; 600])], Duration::from_secs(1)).unwrap() {}
    let safe = never(&publisher, message("small", vec![1; 600]));
    ends(publisher, safe);
    // What it can take is still taken.
    broker.purge("small", LIMIT).unwrap();
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let (sent, safe) = mpsc::channel();
    publisher.publish(vec![message("small", vec![1])], Box::new(move || sent.send(()).unwrap())).unwrap();
    drop(publisher);
    safe.recv_timeout(LIMIT).unwrap();
}

#[test]
fn a_queue_whose_log_the_broker_lost_is_made_anew() {
    let server = RabbitMq::start();
    let broker = connected(&server.url());
    let mut topology = quorum("lost", None);
    let expires = Some(Duration::from_secs(3600));
    topology.queues[0].kind = QueueKind::Quorum { expires, max_bytes: None, max_length: None, message_ttl: None };
    broker.declare(topology, LIMIT).unwrap();
    let consumer = broker.consumer("lost", 10);
    // So soon after the declaration, RabbitMQ 3.10 has not written down whose log it is.
    server.kill();
    server.start_again();
    let began = Instant::now();
    let publisher = broker.publisher(Unroutable::TryAgain, 1 << 20);
    let sent = vec![message("lost", 7u64.to_be_bytes().to_vec())];
    assert!(publisher.publish_and_wait(sent, 3 * LIMIT).unwrap(), "{}", server.report());
    let received = consumer.receive(1, 3 * LIMIT).unwrap().pop().expect("it comes");
    assert_eq!(number(&received), 7);
    received.ack();
    println!("it was used again after {:?}", began.elapsed());
}
