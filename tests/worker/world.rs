//! A broker, a Redis, a shared directory with a job, and the test in the place of the job's coordinator.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fanfold_shared::backend::Backend;
use fanfold_shared::backend::fleet::Fleet;
use fanfold_shared::backend::rabbitmq::{
    Broker, BrokerConfig, ExchangeKind, Outgoing, Properties, Publisher, Queue, QueueKind, Topology, Unroutable,
};
use fanfold_shared::backend::redis::{Store, StoreConfig};
use fanfold_shared::fleet::config::{ServerUrl, TlsFiles};
use fanfold_shared::fleet::{self, Control, Ticket, names, wire};
use fanfold_shared::ids::{JobId, NodeId, ScriptNumber};
use fanfold_shared::items::ItemWriter;
use fanfold_shared::job::{self, JobRecord, RECORD_VERSION};
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::{FromNode, NodeEvent, NodeMessage, OutcomeEnd, Task};
use fanfold_shared::split::{Split, SplitInput};
use fanfold_test_servers::{RabbitMq, Redis};

/// Long enough for anything that a healthy worker does here.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Nobody else may know it.
pub const CANARY: &str = "canary-4711";

/// Runs what its items say: `wait` ends when the file `go` is there.
const SCRIPT: &str = r#"
import os
import time

SHARED = os.environ["SHARED"]

def init():
    with open("/proc/self/environ", "rb") as file:
        environment = file.read()
    with open(os.path.join(SHARED, "environ"), "wb") as file:
        file.write(environment)

def run(mini_batch):
    for item in mini_batch:
        open(os.path.join(SHARED, "began-" + item), "w").close()
        while item.startswith("wait") and not os.path.exists(os.path.join(SHARED, "go")):
            time.sleep(0.01)
    return list(mini_batch)
"#;

/// See the module documentation.
pub struct World {
    dir: tempfile::TempDir,
    pub url: String,
    pub redis: Redis,
    pub broker: Broker,
    pub store: Store,
    pub job: JobId,
    pub fleet: Fleet,
    publisher: Publisher,
}

impl World {
    /// A job with these lines as items, one in each mini-batch; `more` are lines of its job file.
    pub fn new(items: &[&str], more: &str) -> World {
        World::at(RabbitMq::shared().vhost(), items, more)
    }

    /// The same at the broker at `url`.
    pub fn at(url: String, items: &[&str], more: &str) -> World {
        let dir = tempfile::Builder::new().prefix("fanfold-worker-").tempdir().unwrap();
        let redis = Redis::start();
        let address = |what, text: &str, scheme| ServerUrl::parse(what, text, &[scheme]).unwrap();
        let name = format!("test/{}", std::process::id());
        let broker = Broker::start(BrokerConfig {
            url: address("the broker", &url, "amqp"),
            tls: TlsFiles::default(),
            name: name.clone(),
        })
        .unwrap();
        let store =
            Store::start(StoreConfig { url: address("Redis", &redis.url(), "redis"), tls: TlsFiles::default(), name })
                .unwrap();
        broker.wait(LIMIT).unwrap();
        store.ping(LIMIT).unwrap();
        let job = JobId::new("score");
        write_job(dir.path(), &job, items, more);
        let job_dir = JobDir::new(dir.path().join("shared/job"));
        let fleet = Fleet::coordinate(&broker, &store, &job, &job_dir, LIMIT).unwrap();
        let nodes = names::nodes_queue("default");
        let pool = Topology {
            exchanges: vec![(names::NODES.into(), ExchangeKind::Direct), (names::CONTROL.into(), ExchangeKind::Direct)],
            queues: vec![Queue { name: nodes.clone(), kind: QueueKind::Priority }],
            bindings: vec![(nodes, names::NODES.into(), "default".into())],
        };
        broker.declare(pool, LIMIT).unwrap();
        let publisher = broker.publisher(Unroutable::Drop, 1 << 20);
        World { dir, url, redis, broker, store, job, fleet, publisher }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn shared(&self) -> PathBuf {
        self.path("shared")
    }

    /// Where the workers of this world keep their directories.
    pub fn base(&self) -> PathBuf {
        self.path("workers")
    }

    /// Starts a worker with these options.
    pub fn worker(&self, options: &[&str]) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfold-worker"));
        command.args(["--shared", self.shared().to_str().unwrap(), "--work-dir", self.base().to_str().unwrap()]);
        if !options.contains(&"--processes") {
            command.args(["--processes", "1"]);
        }
        command.args(options);
        command.env("FANFOLD_BROKER", &self.url).env("FANFOLD_REDIS", self.redis.url()).env("FANFOLD_TOKEN", CANARY);
        command.env_remove("CUDA_VISIBLE_DEVICES").env("FANFOLD_DEVICE_LOCKS", self.path("devices"));
        let log = self.path(format!("log-{}", fanfold_shared::ids::suffix(6)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        Worker { child: command.spawn().expect("the worker starts"), log }
    }

    /// Publishes a message to `exchange`.
    pub fn publish(&self, exchange: &str, key: &str, body: Vec<u8>) {
        let message = Outgoing {
            exchange: exchange.into(),
            routing_key: key.into(),
            body,
            properties: Properties { expiration: Some(LIMIT), ..Properties::default() },
        };
        assert!(self.publisher.publish_and_wait(vec![message], LIMIT).unwrap(), "the message is confirmed");
    }

    /// The ticket of this world's job.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            fanfold: "test".into(),
            job: self.job.clone(),
            job_dir: "job".into(),
            shared: self.shared(),
            number: 1,
            script: ScriptNumber::FIRST,
        }
    }

    /// Publishes a ticket.
    pub fn issue(&self, ticket: &Ticket) {
        self.publish(names::NODES, "default", wire::encode(ticket));
    }

    /// Publishes a task of each range of mini-batches.
    pub fn tasks(&self, ranges: &[std::ops::Range<u64>]) {
        let task =
            |range: &std::ops::Range<u64>| Task { mini_batches: range.clone(), attempt: 1, alone: false, part: None };
        self.fleet.publish_tasks(ranges.iter().map(task).collect()).unwrap();
    }

    /// Commands a node.
    pub fn tell(&self, node: &Joined, command: fleet::Command) {
        let control = Control { job: self.job.clone(), node: node.node.clone(), command };
        self.publish(names::CONTROL, &node.worker, wire::encode(&control));
    }

    /// What was said, up to and including the first message for which `until` holds. Everything is acknowledged.
    pub fn hear(&self, what: &str, mut until: impl FnMut(&FromNode) -> bool) -> Vec<FromNode> {
        let (deadline, mut heard) = (Instant::now() + LIMIT, Vec::new());
        loop {
            for delivery in self.fleet.receive_results(1, Duration::from_millis(100)).unwrap() {
                let message = (*delivery).clone();
                delivery.ack();
                let found = until(&message);
                heard.push(message);
                if found {
                    return heard;
                }
            }
            assert!(Instant::now() < deadline, "waited for {what}, heard {heard:#?}");
        }
    }

    /// Waits until a worker has become a node.
    pub fn joined(&self) -> Joined {
        let heard = self.hear("Joined", |message| matches!(event(message), Some(NodeEvent::Joined { .. })));
        let worker = heard.iter().find_map(|message| match event(message) {
            Some(NodeEvent::Joining { worker, .. }) => Some(worker.clone()),
            _ => None,
        });
        Joined { worker: worker.expect("Joining comes first"), node: heard[0].node.clone() }
    }

    /// Waits until the script has begun an item.
    pub fn began(&self, item: &str) {
        let path = self.shared().join(format!("began-{item}"));
        wait_for(&format!("`{item}` to begin"), || path.exists());
    }

    pub fn has_begun(&self, item: &str) -> bool {
        self.shared().join(format!("began-{item}")).exists()
    }

    /// Waits until so many tasks wait in the queue.
    pub fn waiting(&self, tasks: u32) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.fleet.waiting_tasks().unwrap();
            if found == Some(tasks) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{found:?} tasks wait, not {tasks}; dead: {:?}",
                self.broker.depth(names::DEAD, LIMIT)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets items called `wait…` end.
    pub fn go(&self) {
        fs::write(self.shared().join("go"), "").unwrap();
    }

    /// Asserts that nothing of a worker is left: on disk, in Redis, of its processes.
    pub fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.base()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [".lock"]);
        assert_eq!(self.store.workers().expect("Redis answers"), []);
        let mark = format!("SHARED={}", self.shared().display());
        wait_for("its processes to be gone", || processes_with(&mark).is_empty());
    }
}

/// A node, as its coordinator knows it.
pub struct Joined {
    pub worker: String,
    pub node: NodeId,
}

/// A worker's process; dropped, it is killed.
pub struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn terminate(&self) {
        // SAFETY: takes integers; the child is not waited for yet, so the number is its.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) }, 0);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker said:\n{}", self.log());
        }
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The event that a message carries.
pub fn event(message: &FromNode) -> Option<&NodeEvent> {
    match &message.body {
        NodeMessage::Event(event) => Some(event),
        NodeMessage::Results(_) => None,
    }
}

/// The mini-batches that returned in these messages, in order.
pub fn returned(messages: &[FromNode]) -> Vec<u64> {
    let results = messages.iter().filter_map(|message| match &message.body {
        NodeMessage::Results(results) => Some(results),
        NodeMessage::Event(_) => None,
    });
    let outcomes = results.flat_map(|results| &results.outcomes);
    outcomes
        .filter(|outcome| matches!(outcome.end, OutcomeEnd::Returned { .. }))
        .map(|outcome| outcome.mini_batch)
        .collect()
}

/// Waits for a state.
pub fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes with this text in their environment.
pub fn processes_with(text: &str) -> Vec<String> {
    let has = |pid: &String| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(has).collect()
}

/// A job directory as the coordinator makes it.
fn write_job(dir: &Path, id: &JobId, items: &[&str], more: &str) {
    let shared = dir.join("shared");
    let job = JobDir::new(shared.join("job"));
    fs::create_dir_all(job.snapshot(ScriptNumber::FIRST)).unwrap();
    fs::write(shared.join("score.py"), SCRIPT).unwrap();
    fs::write(job.snapshot(ScriptNumber::FIRST).join("score.py"), SCRIPT).unwrap();
    fs::write(shared.join("requirements.txt"), "./nowhere\n").unwrap();
    fs::write(shared.join("items.txt"), items.join("\n") + "\n").unwrap();
    let file = shared.join("job.yaml");
    let yaml = format!(
        "name: score\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         environment_variables: {{SHARED: {}}}\n{more}",
        shared.display()
    );
    fs::write(&file, yaml).unwrap();
    let spec = job::load(&file, &[], &job::NoDatasets).unwrap();
    let record = JobRecord { version: RECORD_VERSION, id: id.clone(), created_us: 1, spec, job_file: None };
    fs::write(job.job_json(), serde_json::to_vec(&record).unwrap()).unwrap();
    let mut writer = ItemWriter::create(&job.items(), b'\n').unwrap();
    items.iter().for_each(|item| writer.push(item.as_bytes()).unwrap());
    let input = SplitInput::of_items("input0", "", 0..items.len() as u64);
    writer.finish(Split { inputs: vec![input], ..Split::even(1) }).unwrap();
}
