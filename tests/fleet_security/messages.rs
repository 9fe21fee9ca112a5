//! Somebody who may write to the broker and to nothing else: forged tickets, commands, results and requests. A lying worker can make
//! results wrong; nobody may read, write or run anything outside the shared directory, or stop the programs.

#![expect(clippy::reversed_empty_ranges, reason = "what is forged makes no sense")]

use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{
    Broker, BrokerConfig, Consumer, Outgoing, Properties, Queue, QueueKind, Topology, Unroutable,
};
use fanfold_shared::fleet::config::{ServerUrl, TlsFiles};
use fanfold_shared::fleet::{Command, Control, Ticket, names, wire};
use fanfold_shared::ids::{JobId, NodeId, ProcessNumber, ScriptNumber};
use fanfold_shared::message::{FromNode, Identity, NodeEvent, NodeMessage, Outcome, OutcomeEnd, Results, Task};
use serde::Serialize;
use serde_json::json;

use super::world::Secured;
use crate::running::{GATED, job_of, open_gate, wait_until_begun};
use crate::support::{assert_each_once, wait_for};

const BROKER: Duration = Duration::from_secs(30);

struct Stranger {
    broker: Broker,
    answers: Consumer,
}

impl Stranger {
    fn new(url: &str) -> Stranger {
        let url = ServerUrl::parse("the broker", url, &["amqp"]).unwrap();
        let broker = Broker::start(BrokerConfig { url, tls: TlsFiles::default(), name: "stranger".into() }).unwrap();
        broker.wait(BROKER).unwrap();
        let queue = Queue { name: "stranger".into(), kind: QueueKind::Exclusive };
        broker.declare(Topology { queues: vec![queue], ..Topology::default() }, BROKER).unwrap();
        let answers = broker.consumer("stranger", 10);
        Stranger { broker, answers }
    }

    fn send(&self, exchange: &str, key: &str, body: Vec<u8>, reply_to: Option<&str>) {
        let properties = Properties { reply_to: reply_to.map(str::to_string), ..Properties::default() };
        let message = Outgoing { exchange: exchange.into(), routing_key: key.into(), body, properties };
        let publisher = self.broker.publisher(Unroutable::Drop, 16 << 20);
        assert!(publisher.publish_and_wait(vec![message], BROKER).unwrap(), "it is confirmed");
    }

    /// Asks for a job; returns the answer as JSON.
    #[track_caller]
    fn ask(&self, body: Vec<u8>) -> serde_json::Value {
        self.send("", names::JOBS, body, Some("stranger"));
        let message = self.answers.receive(1, BROKER).unwrap().pop().expect("an answer in time");
        let answer = serde_json::from_slice(&message.body).expect("JSON");
        message.ack();
        answer
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.broker.close();
    }
}

/// What travels on the results queue.
#[derive(Serialize)]
struct Parcel {
    message: FromNode,
    rows: Option<Rows>,
}

#[derive(Serialize)]
struct Rows {
    name: String,
    len: u64,
    crc32: u32,
}

fn result(
    mini_batch: u64,
    items: std::ops::Range<u64>,
    rows_len: u64,
    rows: &[u8],
    spooled: Option<&str>,
) -> NodeMessage {
    let end = OutcomeEnd::Returned { returned: 1, rows_len, spooled: spooled.map(Into::into), unreadable: vec![] };
    let outcome = Outcome {
        mini_batch,
        items,
        attempt: u32::MAX,
        started_us: u64::MAX,
        elapsed_us: u64::MAX,
        run_us: u64::MAX,
        cpu_us: u64::MAX,
        end,
    };
    NodeMessage::Results(Results {
        process: ProcessNumber(u32::MAX),
        outcomes: vec![outcome],
        rows: rows.to_vec(),
        header: None,
    })
}

#[test]
fn forged_messages_reach_nothing() {
    let secured = Secured::plain();
    let mut worker = secured.worker(|_| ());
    worker.wait_until_said("connected to RabbitMQ");
    let said = worker.said();
    let id = said.split("worker ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
    let stranger = Stranger::new(&secured.broker);
    job_of(&secured.place, GATED, "");
    let items = secured.place.write_items(12);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("job.yaml"), "name: attack\n").unwrap();
    std::os::unix::fs::symlink(outside.path(), secured.place.path("link")).unwrap();

    // Tickets. The worker looks, refuses, and goes on.
    wait_for("the queue of tickets", || stranger.broker.depth(&names::nodes_queue("default"), BROKER).unwrap());
    let ticket = |job: &str, dir: &str| {
        let shared = secured.place.path("");
        wire::encode(&Ticket {
            fanfold: "9".into(),
            job: JobId(job.into()),
            job_dir: dir.into(),
            shared,
            number: u64::MAX,
            script: ScriptNumber::FIRST,
        })
    };
    let forged = [
        b"\xc1garbage".to_vec(),
        Vec::new(),
        ticket("attack-1\n2026-01-01T00:00:00Z all is well\u{1b}[31m", "../../etc"),
        ticket("attack-2", "/etc"),
        ticket("../../attack-3", "link"),
        ticket("attack-4", "a\0b"),
        ticket(&format!("attack-5-{}", "x".repeat(300)), "/etc"),
    ];
    for body in forged {
        stranger.send(names::NODES, "default", body, None);
    }
    for job in ["attack-2", "attack-3", "attack-4", "attack-5"] {
        worker.wait_until_said(job);
    }
    let said = worker.said();
    assert!(said.contains("leads out of the shared directory"), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("2026-01-01")) && !said.contains('\u{1b}'), "{said}");

    // Commands: another node's, another job's, nobody's.
    for body in [
        b"\xc1".to_vec(),
        wire::encode(&Control { job: JobId("attack-9".into()), node: NodeId("x".into()), command: Command::Kill }),
        wire::encode(&Control::to_worker(Command::Kill)),
    ] {
        stranger.send(names::CONTROL, &id, body, None);
    }

    // Requests.
    for (body, why) in [
        (json!({"job_file": "../job.yaml"}), "not under the shared directory"),
        (json!({"job_file": "/etc/passwd"}), "not under the shared directory"),
        (json!({"job_file": "link/job.yaml"}), "leads out of the shared directory"),
        (json!({"job": {"name": "a/../../b", "entry_script": "score.py", "inputs": ["items.txt"]}}), "`name` must be"),
        (json!({"job": {"name": "attack", "entry_script": "../score.py", "inputs": ["items.txt"]}}), "../score.py"),
        (json!({"job": {"name": "attack", "entry_script": "score.py", "inputs": ["/etc"]}}), "/etc"),
        (
            json!({"job": {"name": "attack", "entry_script": "score.py", "inputs": ["items.txt"], "output": "/tmp/out"}}),
            "/tmp/out",
        ),
        (json!({"job": {"name": "x".repeat(3 << 20)}}), "`name` must be"),
        (json!({"job": {"name": "x".repeat(5 << 20)}}), "more than any of ours"),
        (json!({"job_file": "a\r\nb\u{1b}[31m\0"}), ""),
    ] {
        let answer = stranger.ask(body.to_string().into_bytes());
        let text = answer["error"].as_str().unwrap_or_default().to_string();
        assert_eq!(answer["answer"], "refused", "{why}: {:.300}", answer.to_string());
        assert!(text.contains(why), "{why}: {text:.300}");
    }
    let said = secured.service.as_ref().unwrap().said();
    assert!(!said.contains('\u{1b}') && said.lines().all(|line| line.starts_with("20")), "{said:.3000}");

    // A true job, and answers that are none of its nodes'.
    let job = secured.run(&["submit", "job.yaml"]).expect(0).stdout.trim().to_string();
    wait_until_begun(&secured.place, 2);
    let absurd = Task { mini_batches: 5..2, attempt: 0, alone: true, part: None };
    let beyond = Task { mini_batches: 0..u64::MAX, attempt: u32::MAX, alone: true, part: None };
    let event = |event| NodeMessage::Event(event);
    let (endless, host) = ("x".repeat(300), "x".to_string());
    let forged = Identity { worker: endless.clone(), host: host.clone(), processes: u32::MAX };
    let messages = [
        event(NodeEvent::Joining { worker: endless, host, ticket: 1, version: "9".into() }),
        event(NodeEvent::Beat { by: Some(forged), held: vec![0..u64::MAX, 7..3], doing: vec![] }),
        event(NodeEvent::HandedBack { task: absurd.clone(), hand_overs: 0 }),
        event(NodeEvent::HandedBack { task: beyond.clone(), hand_overs: 9 }),
        event(NodeEvent::RunsAlone { task: absurd.clone() }),
        event(NodeEvent::RunsAlone { task: beyond.clone() }),
        event(NodeEvent::Leased { tasks: vec![absurd, beyond] }),
        event(NodeEvent::ProcessEnded { process: ProcessNumber(7), how: "\r\nNode x joined\u{1b}[31m".into() }),
        event(NodeEvent::HeldUp { slot: 1, why: None }),
        result(u64::MAX, 0..1, 0, b"", None),
        result(11, 0..u64::MAX, 0, b"", None),
        result(11, 11..12, u64::MAX, b"x\n", None),
        result(11, 11..12, 7, b"", Some("../../job.json")),
        result(11, 11..12, 7, b"", Some("/etc/passwd")),
        result(11, 11..12, 7, b"", Some("nothing")),
    ];
    for node in ["stranger-000001", "../../x\n\u{1b}[31m"] {
        for body in &messages {
            let message = FromNode { node: NodeId(node.into()), body: body.clone() };
            stranger.send(names::RESULTS, &job, wire::encode(&Parcel { message, rows: None }), None);
        }
    }
    let NodeMessage::Results(mut results) = result(11, 11..12, 7, b"", None) else { unreachable!() };
    results.outcomes[0].attempt = 1;
    let message = FromNode { node: NodeId("x".into()), body: NodeMessage::Results(results) };
    let rows = Some(Rows { name: "../job.json".into(), len: 7, crc32: 0 });
    stranger.send(names::RESULTS, &job, wire::encode(&Parcel { message, rows }), None);
    stranger.send(names::RESULTS, &job, b"\xc1".to_vec(), None);
    open_gate(&secured.place);
    wait_for("the job to end", || {
        let status = secured.run(&["status", "--json", &job]).expect(0).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        (status["state"] == "Completed").then_some(())
    });
    assert_each_once(&secured.rows(&job), &items);
    let log = secured.run(&["logs", &job]);
    assert!(!log.stdout.contains('\u{1b}'), "{}", log.stdout);
    assert!(std::fs::read_dir(outside.path()).unwrap().count() == 1, "nothing was written outside");
    assert!(std::path::Path::new("/etc/passwd").exists());
    drop(worker);
}
