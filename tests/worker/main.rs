//! The `fanfold-worker` program against a true broker and Redis; the test is its coordinator.

#![expect(clippy::single_range_in_vec_init, reason = "one run of mini-batches is a list of one range")]

mod world;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command as Program;

use fanfold_shared::backend::Backend;
use fanfold_shared::fleet::{Command, Ticket, names};
use fanfold_shared::message::{NodeEvent, Task};
use fanfold_test_servers::{RabbitMq, wait_until};

use world::{CANARY, LIMIT, World, event, processes_with, returned, wait_for};

fn is_left(message: &fanfold_shared::message::FromNode) -> bool {
    matches!(event(message), Some(NodeEvent::Left))
}

#[test]
fn a_worker_joins_runs_leaves_and_leaves_nothing_behind() {
    let world = World::new(&["a", "b", "c", "d", "e", "f"], "");
    world.tasks(&[0..2, 2..6]);
    let mut worker = world.worker(&[]);
    world.issue(&world.ticket());
    let node = world.joined();
    let mut seen = Vec::new();
    world.hear("all results", |message| {
        seen.extend(returned(std::slice::from_ref(message)));
        seen.len() == 6
    });
    seen.sort();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    world.tell(&node, Command::Report);
    world.hear(
        "a beat without anything held",
        |message| matches!(event(message), Some(NodeEvent::Beat { held, .. }) if held.is_empty()),
    );
    world.tell(&node, Command::Drain);
    world.hear("Left", is_left);
    // The next ticket makes it another node.
    world.issue(&world.ticket());
    let again = world.joined();
    assert_eq!(again.worker, node.worker);
    assert_ne!(again.node, node.node);
    worker.terminate();
    world.hear("Left", is_left);
    assert_eq!(worker.ended().code(), Some(0), "{}", worker.log());
    assert_eq!(world.fleet.waiting_tasks().unwrap(), Some(0));
    let counters = world.redis.command(&format!("EXISTS {}", names::hand_overs_key(&world.job)));
    assert!(counters.starts_with(":0"), "{counters}");
    world.assert_nothing_left();
}

#[test]
fn sigterm_finishes_what_runs_and_gives_the_rest_back() {
    let world = World::new(&["wait-0", "b", "c"], "");
    world.tasks(&[0..1, 1..2, 2..3]);
    let mut worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.joined();
    world.began("wait-0");
    worker.terminate();
    wait_for("the worker to drain", || worker.log().contains("told to end"));
    world.go();
    let heard = world.hear("Left", is_left);
    assert_eq!(returned(&heard), [0]);
    assert_eq!(worker.ended().code(), Some(0));
    world.waiting(2);
    assert!(!world.has_begun("b"));
    world.assert_nothing_left();
}

#[test]
fn a_second_sigterm_kills_what_runs() {
    let world = World::new(&["wait-0"], "");
    world.tasks(&[0..1]);
    let mut worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.joined();
    world.began("wait-0");
    worker.terminate();
    wait_for("the worker to drain", || worker.log().contains("told to end"));
    worker.terminate();
    let heard = world.hear("Left", is_left);
    assert!(returned(&heard).is_empty());
    assert_eq!(worker.ended().code(), Some(143));
    world.waiting(1);
    world.assert_nothing_left();
}

#[test]
fn a_killed_node_gives_back_what_ran_and_its_worker_goes_on() {
    let world = World::new(&["wait-0"], "");
    world.tasks(&[0..1]);
    let worker = world.worker(&[]);
    world.issue(&world.ticket());
    let node = world.joined();
    world.began("wait-0");
    world.tell(&node, Command::Kill);
    let heard = world.hear("Left", is_left);
    assert!(returned(&heard).is_empty());
    world.waiting(1);
    world.go();
    world.issue(&world.ticket());
    world.joined();
    world.hear("the result", |message| returned(std::slice::from_ref(message)) == [0]);
    drop(worker);
}

#[test]
fn what_a_worker_can_t_be_a_node_of_it_refuses_and_goes_on() {
    let world = World::new(&["a"], "");
    let _worker = world.worker(&[]);
    world.publish(names::NODES, "default", b"\x01nonsense".to_vec());
    for (dir, why) in [("nowhere", "there is no job"), ("../job", "leads out of"), ("/etc", "leads out of")] {
        world.issue(&Ticket { job_dir: dir.into(), number: 7, ..world.ticket() });
        let heard = world.hear("Refused", |message| matches!(event(message), Some(NodeEvent::Refused { .. })));
        let Some(NodeEvent::Refused { why: said, ticket: 7, .. }) = event(heard.last().unwrap()) else { panic!() };
        assert!(said.contains(why), "{said}");
    }
    // Its tickets are left to others for a while, and then taken.
    world.issue(&world.ticket());
    world.joined();
}

#[test]
fn a_task_that_was_handed_over_before_is_handed_back_and_not_run() {
    let world = World::new(&["a", "b"], "");
    assert_eq!(
        world.store.count(&world.job, &[Task { mini_batches: 0..1, attempt: 1, alone: false, part: None }]),
        Some(vec![1])
    );
    world.tasks(&[0..1, 1..2]);
    let _worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.joined();
    let task = Task { mini_batches: 0..1, attempt: 1, alone: false, part: None };
    let (mut back, mut run) = (false, false);
    world.hear("HandedBack and the other result", |message| {
        back |= matches!(event(message), Some(NodeEvent::HandedBack { task: found, hand_overs: 2 }) if *found == task);
        run |= returned(std::slice::from_ref(message)) == [1];
        back && run
    });
    assert!(!world.has_begun("a"));
    assert_eq!(world.fleet.waiting_tasks().unwrap(), Some(0));
}

#[test]
fn a_task_runs_alone_after_evidence_of_it_is_safe() {
    let world = World::new(&["wait-0", "b", "c"], "");
    world.tasks(&[0..1]);
    let _worker = world.worker(&["--processes", "2"]);
    world.issue(&world.ticket());
    world.joined();
    world.began("wait-0");
    world.fleet.publish_tasks(vec![Task { mini_batches: 1..2, attempt: 1, alone: true, part: None }]).unwrap();
    world.tasks(&[2..3]);
    world.go();
    let mut order = Vec::new();
    world.hear("the last result", |message| {
        if let Some(NodeEvent::RunsAlone { task }) = event(message) {
            assert!(task.alone && task.mini_batches == (1..2));
            order.push("alone".to_string());
        }
        order.extend(returned(std::slice::from_ref(message)).iter().map(u64::to_string));
        order.len() == 4
    });
    let at = |what: &str| order.iter().position(|said| said == what).unwrap();
    assert!(at("0") < at("alone") && at("alone") < at("1"), "{order:?}");
}

#[test]
fn a_task_that_takes_long_is_leased_and_what_waits_goes_to_others() {
    let world = World::new(&["wait-0", "b"], "");
    world.tasks(&[0..1, 1..2]);
    let _worker = world.worker(&["--lease-after", "1"]);
    world.issue(&world.ticket());
    let node = world.joined();
    world.began("wait-0");
    let leased = |message: &fanfold_shared::message::FromNode| matches!(event(message), Some(NodeEvent::Leased { tasks }) if tasks[0].mini_batches == (0..1));
    world.hear("Leased", leased);
    world.hear(
        "a beat with what is leased",
        |message| matches!(event(message), Some(NodeEvent::Beat { held, .. }) if held.iter().any(|run| run.contains(&0))),
    );
    world.go();
    let mut seen = Vec::new();
    world.hear("both results", |message| {
        seen.extend(returned(std::slice::from_ref(message)));
        seen.len() == 2
    });
    seen.sort();
    assert_eq!(seen, [0, 1]);
    world.tell(&node, Command::Drain);
    world.hear("Left", is_left);
}

#[test]
fn a_leased_task_goes_unanswered_when_the_node_is_killed() {
    let world = World::new(&["wait-0"], "");
    world.tasks(&[0..1]);
    let _worker = world.worker(&["--lease-after", "1"]);
    world.issue(&world.ticket());
    let node = world.joined();
    world.hear("Leased", |message| matches!(event(message), Some(NodeEvent::Leased { .. })));
    world.tell(&node, Command::Kill);
    let heard = world.hear("Left", is_left);
    assert!(returned(&heard).is_empty());
    assert_eq!(world.fleet.waiting_tasks().unwrap(), Some(0), "the coordinator publishes it again, not the broker");
}

#[test]
fn a_worker_may_start_before_its_broker() {
    let rabbit = RabbitMq::start();
    let world = World::at(rabbit.url(), &["a"], "");
    rabbit.stop();
    let worker = world.worker(&[]);
    wait_for("it to say so", || worker.log().contains("no connection to the broker"));
    rabbit.start_again();
    world.broker.wait(LIMIT).unwrap();
    world.issue(&world.ticket());
    world.tasks(&[0..1]);
    world.joined();
    world.hear("the result", |message| returned(std::slice::from_ref(message)) == [0]);
    assert_eq!(worker.log().matches("no connection to the broker").count(), 1, "{}", worker.log());
}

#[test]
fn a_task_that_comes_back_to_its_own_holder_is_nobody_s_death() {
    let rabbit = RabbitMq::start();
    let world = World::at(rabbit.url(), &["wait-0"], "");
    world.tasks(&[0..1]);
    let _worker = world.worker(&[]);
    world.issue(&world.ticket());
    let node = world.joined();
    world.began("wait-0");
    rabbit.close_all_connections();
    world.broker.wait(LIMIT).unwrap();
    // Redelivered, and counted a second time: its holder keeps both.
    let back =
        |message: &fanfold_shared::message::FromNode| matches!(event(message), Some(NodeEvent::HandedBack { .. }));
    let counted = format!("HVALS {}", names::hand_overs_key(&world.job));
    wait_for("the redelivery to be counted", || world.redis.command(&counted).contains("\r\n2\r\n"));
    world.go();
    let heard = world.hear("the result", |message| {
        assert!(!back(message), "{message:?}");
        returned(std::slice::from_ref(message)) == [0]
    });
    assert!(!heard.is_empty());
    world.tell(&node, Command::Drain);
    let heard = world.hear("Left", is_left);
    assert!(!heard.iter().any(back), "{heard:#?}");
    world.waiting(0);
}

#[test]
fn an_idle_worker_ends_when_it_is_told_to() {
    let world = World::new(&["a"], "");
    let mut worker = world.worker(&["--max-idle", "1"]);
    assert_eq!(worker.ended().code(), Some(0));
    world.assert_nothing_left();
}

#[test]
fn a_failed_environment_fails_the_job_anywhere_and_a_missing_interpreter_only_here() {
    let world = World::new(&["a"], "environment: {requirements: requirements.txt, python: python3}\n");
    let _worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.hear("CannotJoin", |message| matches!(event(message), Some(NodeEvent::CannotJoin { anywhere: true, .. })));
    let world = World::new(&["a"], "");
    // It was there on the host where the job was submitted.
    let record = world.shared().join("job/.fanfold/job.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"python3\""), "{text}");
    fs::write(&record, text.replace("\"python3\"", "\"/nowhere/python3\"")).unwrap();
    let _worker = world.worker(&[]);
    world.issue(&world.ticket());
    let heard = world
        .hear("CannotJoin", |message| matches!(event(message), Some(NodeEvent::CannotJoin { anywhere: false, .. })));
    let Some(NodeEvent::CannotJoin { why, .. }) = event(heard.last().unwrap()) else { panic!() };
    assert!(why.contains("/nowhere/python3") && why.contains("hint:"), "{why}");
}

#[test]
fn no_secret_reaches_what_a_worker_starts() {
    let world = World::new(&["wait-0"], "");
    world.tasks(&[0..1]);
    let worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.joined();
    world.began("wait-0");
    let environment = String::from_utf8_lossy(&fs::read(world.shared().join("environ")).unwrap()).into_owned();
    assert!(environment.contains("SHARED="));
    let redis = world.redis.url();
    for secret in [CANARY, "FANFOLD_BROKER", "FANFOLD_REDIS", "amqp://", redis.as_str()] {
        assert!(!environment.contains(secret), "{secret} in {environment:?}");
    }
    // Guardian included: nobody but the worker itself has it, and only root can look there.
    // SAFETY: takes and changes nothing.
    let knows = if unsafe { libc::geteuid() } == 0 { vec![worker.pid().to_string()] } else { Vec::new() };
    wait_for("the guardian to execute", || processes_with(CANARY) == knows);
    assert!(!worker.log().contains(&world.url), "{}", worker.log());
}

#[test]
fn a_worker_tells_its_metrics_and_its_health() {
    let world = World::new(&["a", "b"], "");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let health = || {
        let base = world.base();
        let mut program = Program::new(env!("CARGO_BIN_EXE_fanfold-worker"));
        program.args(["--health", "--work-dir", base.to_str().unwrap()]).output().unwrap().status.code()
    };
    assert_eq!(health(), Some(4));
    world.tasks(&[0..2]);
    let mut worker = world.worker(&["--metrics", &port.to_string(), "--pool", "default"]);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    wait_for("the worker to be well", || get("/healthz").is_some_and(|text| text.starts_with("HTTP/1.1 200")));
    wait_until(LIMIT, || "the worker is not well".into(), || health() == Some(0));
    world.issue(&world.ticket());
    world.joined();
    world.hear("both results", |message| returned(std::slice::from_ref(message)).contains(&1));
    let metrics = get("/metrics").unwrap();
    for line in [
        "fanfold_worker_state{state=\"working\"} 1",
        "fanfold_worker_state{state=\"idle\"} 0",
        "fanfold_worker_processes 1",
        "fanfold_worker_mini_batches_total{outcome=\"succeeded\"} 2",
        "fanfold_worker_process_starts_total 1",
        "fanfold_worker_broker_connected 1",
        "fanfold_worker_broker_blocked 0",
        "fanfold_worker_redis_connected 1",
        "fanfold_worker_info{version=",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(get("/other").unwrap().starts_with("HTTP/1.1 404"));
    worker.terminate();
    assert_eq!(worker.ended().code(), Some(0));
    assert_eq!(health(), Some(4));
}

#[test]
fn a_message_that_nobody_could_have_sent_is_ignored() {
    let world = World::new(&["a"], "");
    world.publish(names::TASKS, &world.job.0, b"\x01nonsense".to_vec());
    // Beyond the items of the job.
    world.tasks(&[5..6, 0..1]);
    let _worker = world.worker(&[]);
    world.issue(&world.ticket());
    world.joined();
    world.hear("the result", |message| returned(std::slice::from_ref(message)) == [0]);
    assert_eq!(world.fleet.waiting_tasks().unwrap(), Some(0));
}
