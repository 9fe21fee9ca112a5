//! Messages that come twice, late, torn, from another version, or from somebody who means harm; many of them, and large ones.

use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, Outgoing, Unroutable};
use fanfold_shared::fleet::{Ticket, names, wire};
use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::message::{FromNode, Task};

use serde::{Deserialize, Serialize};

use crate::disturbed::disturbed_and_charged;
use crate::running::{GATED, PACED, open_gate, wait_until_begun};
use crate::support::{LIMIT, wait_for};
use crate::world::World;
use crate::{LASTING, LONG, PLAIN};

const ANSWER: Duration = Duration::from_secs(10);

fn outgoing(exchange: &str, key: &str, body: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing { exchange: exchange.into(), routing_key: key.into(), body: body.into(), ..Outgoing::default() }
}

/// Publishes by hand, and waits until the broker has it.
fn publish(link: &Broker, messages: Vec<Outgoing>) {
    let publisher = link.publisher(Unroutable::Drop, 8 << 20);
    assert!(publisher.publish_and_wait(messages, ANSWER).expect("it is open"), "the broker confirms");
    publisher.close();
}

/// What travels on the results queue.
#[derive(Serialize, Deserialize)]
struct Parcel {
    message: FromNode,
    rows: Option<RowsFile>,
}

/// Rows that travel as a file of the job's spool.
#[derive(Serialize, Deserialize)]
struct RowsFile {
    name: String,
    len: u64,
    crc32: u32,
}

/// Takes results that pass through a queue, beside their true consumer, and gives them back.
fn copies(link: &Broker, queue: &str, count: usize) -> Vec<Vec<u8>> {
    let consumer = link.consumer(queue, 1);
    let mut copies = Vec::new();
    wait_for("messages to pass", || {
        for received in consumer.receive(1, Duration::from_millis(50)).unwrap_or_default() {
            if wire::decode::<Parcel>(&received.body).is_ok() {
                copies.push(received.body.clone());
            }
            received.requeue();
        }
        (copies.len() >= count).then_some(())
    });
    consumer.close();
    copies
}

#[test]
fn messages_that_come_twice_and_in_another_order_change_nothing() {
    let world = World::new();
    disturbed_and_charged(&world, |_| {
        let (link, id) = (world.link(), world.job_id());
        let results = copies(&link, &names::results_queue(&id), 3);
        let results = results.into_iter().rev().flat_map(|body| vec![outgoing(names::RESULTS, &id.0, body); 3]);
        publish(&link, results.collect());
        // Done already, perhaps out at this moment, not published yet; alone and in other pieces.
        let ranges = [0..1, 3..9, 70..71, 60..120, 300..310, 590..600, 300..310];
        let task = |mini_batches: std::ops::Range<u64>, alone| {
            outgoing(names::TASKS, &id.0, wire::encode(&Task { mini_batches, attempt: 1, alone, part: None }))
        };
        let tasks = ranges.into_iter().flat_map(|range| [task(range.clone(), false), task(range, true)]);
        publish(&link, tasks.collect());
    });
}

/// What is no message of ours, whatever the queue.
fn garbage() -> Vec<Vec<u8>> {
    let mut deep = vec![1];
    deep.extend(std::iter::repeat_n(0x91, 100_000));
    let mut long = vec![1, 0xdd, 0xff, 0xff, 0xff, 0xff];
    long.extend(b"a list that says it has four milliards of elements");
    vec![
        Vec::new(),
        vec![0],
        vec![1],
        b"\x01nonsense".to_vec(),
        b"{\"node\": \"json\"}".to_vec(),
        vec![0xff; 1000],
        vec![0; 100_000],
        deep,
        long,
    ]
}

#[test]
fn garbage_goes_to_the_dead_letters_and_the_job_goes_on() {
    let world = World::apart();
    let items = world.job(LASTING, PACED, "");
    let workers = [world.worker(), world.worker()];
    let coordinator = world.coordinator();
    world.wait_for_nodes(2);
    world.wait_for_committed(60);
    let (link, id) = (world.link(), world.job_id());
    let nodes: Vec<String> = world.status().unwrap()["node_list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|node| Some(node["worker"].as_str()?.to_string()))
        .collect();
    let mut sent = Vec::new();
    for body in garbage() {
        sent.push(outgoing(names::TASKS, &id.0, body.clone()));
        sent.push(outgoing(names::RESULTS, &id.0, body.clone()));
        // Behind the worker's back, nobody reads tickets: those it takes when the job is over.
        sent.push(outgoing(names::NODES, &world.pool, body.clone()));
        sent.extend(nodes.iter().map(|worker| outgoing(names::CONTROL, worker, body.clone())));
    }
    // Well formed, of another version; tasks that can't be.
    let impossible = [
        Task { mini_batches: 5..5, attempt: 1, alone: false, part: None },
        Task { mini_batches: 0..u64::MAX, attempt: 1, alone: false, part: None },
        Task { mini_batches: 1_000_000..1_000_001, attempt: 1, alone: true, part: None },
        Task { mini_batches: 1..2, attempt: 0, alone: false, part: None },
    ];
    sent.extend(impossible.iter().map(|task| outgoing(names::TASKS, &id.0, wire::encode(task))));
    let mut newer = wire::encode(&Task { mini_batches: 1..2, attempt: 1, alone: false, part: None });
    newer[0] += 1;
    sent.push(outgoing(names::TASKS, &id.0, newer.clone()));
    sent.push(outgoing(names::RESULTS, &id.0, newer));
    publish(&link, sent);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once(&items);
    world.nothing_left();
    let dead = link.depth(names::DEAD, ANSWER).expect("the broker answers").expect("it is declared");
    let least = 2 * garbage().len() as u32 + 5;
    assert!(dead.ready >= least, "{} of {least} unreadable tasks and results are among the dead letters", dead.ready);
    // The workers are well: the next job runs.
    drop((coordinator_of_another(&world), workers));
}

/// Runs another job with the same workers.
fn coordinator_of_another(world: &World) {
    std::fs::remove_dir_all(world.place.job()).expect("it is ours");
    let items = world.job(40, PLAIN, "");
    world.coordinator().ends(LIMIT, 0);
    world.each_once(&items);
}

#[test]
fn tickets_that_lead_elsewhere_are_refused_and_the_job_s_own_is_taken() {
    let world = World::apart();
    world.place.write("../outside.txt".trim_start_matches("../"), "");
    let worker = world.worker();
    wait_for("the worker to wait", || worker.said().contains("waiting for tickets").then_some(()));
    let link = world.link();
    let ticket = |dir: &str| Ticket {
        fanfold: "0.1.0".into(),
        job: fanfold_shared::ids::JobId("evil-1".into()),
        job_dir: dir.into(),
        shared: "/".into(),
        number: 1,
        script: ScriptNumber::FIRST,
    };
    let dirs = ["../..", "/etc", "job/../../..", "", ".", "no\0where"];
    let mut tickets: Vec<Outgoing> =
        dirs.iter().map(|dir| outgoing(names::NODES, &world.pool, wire::encode(&ticket(dir)))).collect();
    // Of a job whose name is a path: nobody looks there, and nothing is made there.
    let named = Ticket { job: fanfold_shared::ids::JobId("../../evil".into()), ..ticket("job") };
    tickets.push(outgoing(names::NODES, &world.pool, wire::encode(&named)));
    publish(&link, tickets);
    let items = world.job(40, PLAIN, "");
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    wait_for("the tickets to be refused", || worker.said().contains("leads out of the shared directory").then_some(()));
    assert!(!worker.said().contains("panicked"), "{}", worker.said());
}

#[test]
fn a_ticket_of_another_version_is_left_to_others_without_a_loop() {
    let world = World::apart();
    let worker = world.worker();
    wait_for("the worker to wait", || worker.said().contains("waiting for tickets").then_some(()));
    let link = world.link();
    let job = fanfold_shared::ids::JobId("newer-1".into());
    let ticket = Ticket {
        fanfold: "9.0.0".into(),
        job,
        job_dir: "job".into(),
        shared: world.place.path(""),
        number: 1,
        script: ScriptNumber::FIRST,
    };
    let mut body = wire::encode(&ticket);
    body[0] += 1;
    // As a coordinator publishes it, before ours: it expires, and is of the same priority.
    let mut newer = outgoing(names::NODES, &world.pool, body);
    newer.properties.priority = Some(4);
    newer.properties.expiration = Some(Duration::from_secs(60));
    publish(&link, vec![newer]);
    wait_for("the worker to say so", || worker.said().contains("a ticket is left to others").then_some(()));
    // Its own versions' tickets are still taken.
    let items = world.job(40, PLAIN, "");
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&items);
    let said = worker.said();
    let ours = fanfold_shared::message::VERSION;
    assert!(said.contains(&format!("has version {}; this fanfold speaks version {ours}", ours + 1)), "{said}");
    assert_eq!(said.matches("a ticket is left to others").count(), 1, "{said}");
}

#[test]
fn results_that_name_files_elsewhere_touch_nothing() {
    use fanfold_shared::ids::{NodeId, ProcessNumber};
    use fanfold_shared::message::{NodeMessage, Outcome, OutcomeEnd, Results};
    let world = World::apart();
    let items = world.job(40, GATED, "");
    let secret = world.place.write("secret.txt", "not yours\n");
    let _worker = world.worker();
    let coordinator = world.coordinator();
    wait_until_begun(&world.place, 2);
    let (link, id) = (world.link(), world.job_id());
    let result = |mini_batch: u64, spooled: Option<&str>, rows: Option<&str>| {
        let spooled = spooled.map(std::path::PathBuf::from);
        let end = OutcomeEnd::Returned { returned: 1, rows_len: 10, spooled, unreadable: Vec::new() };
        let items = mini_batch..mini_batch + 1;
        let outcome =
            Outcome { mini_batch, items, attempt: 1, started_us: 1, elapsed_us: 1, run_us: 1, cpu_us: 1, end };
        let results = Results { process: ProcessNumber(0), outcomes: vec![outcome], rows: Vec::new(), header: None };
        let message = FromNode { node: NodeId("evil".into()), body: NodeMessage::Results(results) };
        let rows = rows.map(|name| RowsFile { name: name.into(), len: 10, crc32: crc32fast::hash(b"not yours\n") });
        outgoing(names::RESULTS, &id.0, wire::encode(&Parcel { message, rows }))
    };
    let paths =
        [secret.to_str().expect("a path of ours"), "../../secret.txt", "../../../secret.txt", "a/../b", "..", ""];
    let spooled = paths.iter().map(|path| result(7, Some(path), None));
    let filed = paths.iter().map(|path| result(8, None, Some(path)));
    publish(&link, spooled.chain(filed).collect());
    // A file that might have been there: what it would have held is run.
    publish(&link, vec![result(9, None, Some("nothing.rows")), result(10, Some("nothing.rows"), None)]);
    let dead = || link.depth(names::DEAD, ANSWER).ok()??.ready.checked_sub(2 * paths.len() as u32);
    wait_for("what names files elsewhere to be among the dead letters", dead);
    open_gate(&world.place);
    coordinator.ends(LONG, 0);
    world.each_once(&items);
    world.nothing_left();
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "not yours\n", "nobody deleted it");
}

/// Each returns 17 MB.
const HUGE: &str = "def run(mini_batch):\n    return [item + 'x' * 17_000_000 for item in mini_batch]\n";

#[test]
fn results_larger_than_a_message_arrive() {
    let world = World::new();
    let items = world.job(6, HUGE, "");
    let expected: Vec<String> = items.iter().map(|item| item.clone() + &"x".repeat(17_000_000)).collect();
    let _workers = [world.worker(), world.worker()];
    world.coordinator().ends(LONG, 0);
    world.each_once_and_nothing_left(&expected);
}

#[test]
fn a_hundred_thousand_tiny_mini_batches_arrive() {
    let world = World::new();
    let items = world.job(100_000, PLAIN, "");
    let _workers = [world.worker(), world.worker()];
    world.coordinator().ends(LIMIT, 0);
    world.each_once_and_nothing_left(&items);
}
