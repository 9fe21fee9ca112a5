//! The contract of [`Backend`](super::Backend) as a suite that every implementation passes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Backend, Closed, Delivery};
use crate::ids::{NodeId, ProcessNumber};
use crate::message::{FromNode, NodeEvent, NodeMessage, Results, Task};

/// Long enough for any healthy implementation; a test that needs all of it has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const NOTHING: Duration = Duration::from_millis(50);

/// Runs every check, each on a fresh backend.
pub fn check<B: Backend + 'static>(open: impl Fn() -> B) {
    tasks_come_once_and_in_order(&open());
    an_unsettled_task_comes_back(&open());
    a_rejected_task_does_not(&open());
    results_come_in_order_and_whole(&open());
    an_unsettled_result_comes_back(&open());
    hand_overs_are_counted_until_the_task_is_done(&open());
    what_was_published_is_said_to_be_safe(&open());
    receiving_waits_no_longer_than_asked(&open());
    receivers_take_about_as_many_bytes_as_asked(&open());
    waiting_results_are_bounded(open());
    closing_drains_and_then_says_so(&open());
    a_waiting_publisher_hears_of_the_close(open());
}

fn task(first: u64) -> Task {
    Task { mini_batches: first..first + 3, attempt: 1, alone: false, part: None }
}

fn left() -> FromNode {
    FromNode { node: NodeId("0".into()), body: NodeMessage::Event(NodeEvent::Left) }
}

fn rows(bytes: usize) -> FromNode {
    let results = Results { process: ProcessNumber(0), outcomes: Vec::new(), rows: vec![b'x'; bytes], header: None };
    FromNode { node: NodeId("0".into()), body: NodeMessage::Results(results) }
}

fn nothing() -> super::OnSafe {
    Box::new(|| ())
}

fn one<T>(mut deliveries: Vec<Delivery<T>>) -> Delivery<T> {
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

fn tasks_come_once_and_in_order(backend: &dyn Backend) {
    backend.publish_tasks(vec![task(0), task(3)]).unwrap();
    backend.publish_tasks(vec![task(6)]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        for delivery in backend.receive_tasks(2, LIMIT).unwrap() {
            assert!(!delivery.redelivered);
            seen.push(delivery.mini_batches.start);
            delivery.ack();
        }
    }
    assert_eq!(seen, [0, 3, 6]);
    assert!(backend.receive_tasks(10, NOTHING).unwrap().is_empty());
}

fn an_unsettled_task_comes_back(backend: &dyn Backend) {
    backend.publish_tasks(vec![task(0)]).unwrap();
    drop(one(backend.receive_tasks(1, LIMIT).unwrap()));
    let again = one(backend.receive_tasks(1, LIMIT).unwrap());
    assert!(again.redelivered);
    assert_eq!(*again, task(0));
    again.requeue();
    one(backend.receive_tasks(1, LIMIT).unwrap()).ack();
    assert!(backend.receive_tasks(1, NOTHING).unwrap().is_empty());
}

fn a_rejected_task_does_not(backend: &dyn Backend) {
    backend.publish_tasks(vec![task(0)]).unwrap();
    one(backend.receive_tasks(1, LIMIT).unwrap()).reject();
    assert!(backend.receive_tasks(1, NOTHING).unwrap().is_empty());
}

fn results_come_in_order_and_whole(backend: &dyn Backend) {
    backend.publish_results(vec![rows(10), left()], nothing()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for delivery in backend.receive_results(1 << 20, LIMIT).unwrap() {
            seen.push(delivery.clone());
            delivery.ack();
        }
    }
    assert_eq!(seen, [rows(10), left()]);
}

fn an_unsettled_result_comes_back(backend: &dyn Backend) {
    backend.publish_results(vec![rows(10)], nothing()).unwrap();
    drop(one(backend.receive_results(1 << 20, LIMIT).unwrap()));
    let again = one(backend.receive_results(1 << 20, LIMIT).unwrap());
    assert!(again.redelivered);
    again.ack();
    assert!(backend.receive_results(1 << 20, NOTHING).unwrap().is_empty());
}

fn hand_overs_are_counted_until_the_task_is_done(backend: &dyn Backend) {
    let count = |tasks: &[Delivery<Task>]| backend.count_hand_overs(tasks).unwrap();
    backend.publish_tasks(vec![task(0), task(3)]).unwrap();
    let mut tasks = backend.receive_tasks(2, LIMIT).unwrap();
    while tasks.len() < 2 {
        tasks.extend(backend.receive_tasks(1, LIMIT).unwrap());
    }
    assert_eq!(count(&tasks), [1, 1], "each has its own count");
    tasks.pop().unwrap().ack();
    // Handed over again without having been given back, as after a death.
    assert_eq!(count(&tasks), [2]);
    tasks.pop().unwrap().requeue();
    let again = vec![one(backend.receive_tasks(1, LIMIT).unwrap())];
    assert_eq!(count(&again), [2], "what was given back was not lost with its holder");
    again.into_iter().for_each(Delivery::ack);
    backend.publish_tasks(vec![task(0)]).unwrap();
    let fresh = vec![one(backend.receive_tasks(1, LIMIT).unwrap())];
    assert_eq!(count(&fresh), [1]);
    fresh.into_iter().for_each(Delivery::ack);
}

fn what_was_published_is_said_to_be_safe(backend: &dyn Backend) {
    let (sent, safe) = mpsc::channel();
    backend.publish_results(vec![rows(10), left()], Box::new(move || sent.send(()).unwrap())).unwrap();
    safe.recv_timeout(LIMIT).expect("it is safe soon");
    assert!(safe.recv().is_err(), "said once");
}

fn receiving_waits_no_longer_than_asked(backend: &dyn Backend) {
    assert!(backend.receive_tasks(1, Duration::ZERO).unwrap().is_empty());
    assert!(backend.receive_results(1, Duration::ZERO).unwrap().is_empty());
}

fn receivers_take_about_as_many_bytes_as_asked(backend: &dyn Backend) {
    backend.publish_results(vec![rows(1000), rows(1000), rows(1000)], nothing()).unwrap();
    let first = backend.receive_results(1, LIMIT).unwrap();
    assert_eq!(first.len(), 1, "at least one, however large");
    first.into_iter().for_each(Delivery::ack);
}

fn waiting_results_are_bounded<B: Backend + 'static>(backend: B) {
    let backend = std::sync::Arc::new(backend);
    let publisher = backend.clone();
    let (sent, published) = mpsc::channel();
    let thread = thread::spawn(move || {
        for _ in 0..100 {
            publisher.publish_results(vec![rows(1 << 20)], nothing()).unwrap();
            sent.send(()).unwrap();
        }
    });
    // It must stop by itself somewhere before 100 MiB, and go on as soon as results are acknowledged.
    let mut before = 0;
    while published.recv_timeout(Duration::from_millis(500)).is_ok() {
        before += 1;
    }
    assert!((1..100).contains(&before), "{before} MiB were accepted without an acknowledgement");
    let mut received = 0;
    while received < 100 {
        for delivery in backend.receive_results(16 << 20, LIMIT).unwrap() {
            received += 1;
            delivery.ack();
        }
    }
    thread.join().unwrap();
}

fn closing_drains_and_then_says_so(backend: &dyn Backend) {
    backend.publish_tasks(vec![task(0)]).unwrap();
    backend.publish_results(vec![left()], nothing()).unwrap();
    backend.close();
    one(backend.receive_tasks(1, LIMIT).unwrap()).ack();
    one(backend.receive_results(1, LIMIT).unwrap()).ack();
    assert_eq!(backend.receive_tasks(1, LIMIT).err(), Some(Closed));
    assert_eq!(backend.receive_results(1, LIMIT).err(), Some(Closed));
    assert_eq!(backend.publish_tasks(vec![task(0)]), Err(Closed));
    assert_eq!(backend.publish_results(vec![left()], nothing()), Err(Closed));
    backend.close();
}

fn a_waiting_publisher_hears_of_the_close<B: Backend + 'static>(backend: B) {
    let backend = std::sync::Arc::new(backend);
    let publisher = backend.clone();
    let thread = thread::spawn(move || while publisher.publish_results(vec![rows(8 << 20)], nothing()).is_ok() {});
    let delivery = backend.receive_results(1, LIMIT).unwrap();
    backend.close();
    thread.join().unwrap();
    delivery.into_iter().for_each(Delivery::ack);
}
