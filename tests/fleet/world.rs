//! A fleet for one test: servers of its own, workers that can be killed, and a job whose rows are known.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker as Link, BrokerConfig};
use fanfold_shared::fleet::config::{ServerUrl, TlsFiles};
use fanfold_shared::fleet::names;
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_test_servers::{RabbitMq, Redis};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::{Running, job_of};
use crate::support::{FANFOLD, Place, assert_each_once, text, wait_for};

/// For each question to a server.
const ANSWER: Duration = Duration::from_secs(10);
/// So much of what a program said is shown when a test fails, bytes.
const TAIL: usize = 3000;

/// The worker's program lies beside the coordinator's. It belongs to another package, so this one's tests see to it themselves that it is
/// built from what is there now.
pub fn worker_program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = PathBuf::from(FANFOLD).with_file_name("fanfold-worker");
        // With the features of the whole workspace, as the tests are mostly built: nothing else has to be built anew.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--all-features", "--bin", "fanfold-worker"]);
        if program.parent().is_some_and(|profile| profile.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo");
        assert!(built.success() && program.exists(), "`{}` could not be built", program.display());
        program
    })
}

/// Servers, a place that is also the shared directory, and what runs there.
pub struct World {
    pub place: Place,
    pub broker: Broker,
    pub redis: Redis,
    pub url: String,
    /// Whose workers the job runs on: several worlds may share a virtual host.
    pub pool: String,
}

/// A broker of the test's own, or one virtual host of that which the tests share.
pub enum Broker {
    Own(Box<RabbitMq>),
    Shared,
}

impl World {
    /// In the virtual host of all tests, with a pool of its own.
    pub fn new() -> World {
        static VHOST: OnceLock<String> = OnceLock::new();
        static POOL: AtomicU32 = AtomicU32::new(0);
        let url = VHOST.get_or_init(|| RabbitMq::shared().vhost());
        World::at(url.clone(), &format!("pool-{}", POOL.fetch_add(1, Ordering::SeqCst)))
    }

    /// With a virtual host of its own: there will be messages among the dead letters.
    pub fn apart() -> World {
        World::at(RabbitMq::shared().vhost(), "default")
    }

    fn at(url: String, pool: &str) -> World {
        World { place: Place::new(), broker: Broker::Shared, redis: Redis::start(), url, pool: pool.into() }
    }

    /// With a broker of its own, to be stopped.
    pub fn with_broker() -> World {
        let broker = RabbitMq::start();
        let url = broker.url();
        World {
            place: Place::new(),
            broker: Broker::Own(Box::new(broker)),
            redis: Redis::start(),
            url,
            pool: "default".into(),
        }
    }

    /// The broker that is the test's own.
    pub fn broker(&self) -> &RabbitMq {
        match &self.broker {
            Broker::Own(broker) => broker,
            Broker::Shared => RabbitMq::shared(),
        }
    }

    /// Tells a program where the fleet is.
    pub fn knows(&self, command: &mut Command) {
        command.env("FANFOLD_BROKER", &self.url).env("FANFOLD_REDIS", self.redis.url());
        command.env("FANFOLD_SHARED", self.place.path(""));
    }

    /// Starts a worker.
    pub fn worker(&self) -> Running {
        self.worker_with(|_| ())
    }

    /// Starts a worker, with something changed.
    pub fn worker_with(&self, change: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.place.command(worker_program().to_str().expect("a path of ours"));
        self.knows(&mut command);
        command.args(["--processes", "2", "--pool", &self.pool]);
        command.arg("--work-dir").arg(self.place.path("worker"));
        change(&mut command);
        Running::start(&self.place, command)
    }

    /// Starts the coordinator.
    pub fn coordinator(&self) -> Running {
        self.coordinator_with(|_| ())
    }

    /// Starts the coordinator, with something changed.
    pub fn coordinator_with(&self, change: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.place.fanfold();
        self.coordinates(&mut command);
        change(&mut command);
        Running::start(&self.place, command)
    }

    /// Makes the coordinator's command of one that starts the program in its own way.
    pub fn coordinates(&self, command: &mut Command) {
        self.knows(command);
        command.args(["run", "job.yaml", "--job-dir", "job"]);
    }

    /// A job over so many lines.
    pub fn job(&self, items: usize, script: &str, more: &str) -> Vec<String> {
        job_of(&self.place, script, &format!("compute_target: {}\n{more}", self.pool));
        self.place.write_items(items)
    }

    /// Each row is there once, the ledger proves it, and nothing of the job is left: no queue, no counter, nothing unreadable.
    #[track_caller]
    pub fn each_once_and_nothing_left(&self, items: &[String]) {
        self.each_once(items);
        self.nothing_left();
        let dead = self.link().depth(names::DEAD, ANSWER).expect("the broker answers");
        assert!(dead.is_none_or(|dead| dead.ready == 0), "dead letters: {dead:?}");
    }

    /// Each row is there once, and the ledger proves it.
    #[track_caller]
    pub fn each_once(&self, items: &[String]) {
        assert_each_once(&self.place.rows(), items);
        assert_eq!(self.place.status()["state"], "Completed");
        let verified = self.place.fanfold().args(["doctor", "--verify", "job"]).output().expect("it starts");
        assert!(verified.status.success(), "{}", text(&verified));
    }

    /// The jobs of this place: the one that tests call `job`, or those of a service.
    fn job_ids(&self) -> Vec<JobId> {
        match fs::read_dir(self.place.path("fanfold-jobs")) {
            Ok(jobs) => jobs.flatten().map(|job| JobId(job.file_name().to_string_lossy().into_owned())).collect(),
            Err(_) => vec![self.job_id()],
        }
    }

    /// No queue and no counter of a job is left.
    #[track_caller]
    pub fn nothing_left(&self) {
        let link = self.link();
        let scripts = [1, 2, 3].map(ScriptNumber);
        let ids = self.job_ids();
        let names = ids.iter().flat_map(|id| scripts.map(|script| names::running(id, script)));
        for queue in names.flat_map(|id| [names::tasks_queue(&id), names::results_queue(&id)]) {
            wait_for(&format!("the queue {queue} to be gone"), || {
                matches!(link.depth(&queue, ANSWER), Ok(None)).then_some(())
            });
        }
        let keys = self.redis.command("KEYS fanfold:v1:hand-overs:*");
        assert!(!keys.contains("hand-overs"), "{keys}");
    }

    /// A connection of the test's own.
    pub fn link(&self) -> Link {
        let url = ServerUrl::parse("the broker", &self.url, &["amqp"]).expect("a URL of ours");
        let config = BrokerConfig { url, tls: TlsFiles::default(), name: "test".into() };
        let link = Link::start(config).expect("threads can be started");
        link.wait(ANSWER).expect("the broker answers");
        link
    }

    /// The id of the job, once it has one.
    pub fn job_id(&self) -> JobId {
        let id = wait_for("the job to have an id", || Some(self.status()?["job_id"].as_str()?.to_string()));
        JobId(id)
    }

    /// `status.json`, if it is there.
    pub fn status(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(self.place.job().join("status.json")).ok()?).ok()
    }

    /// Waits until so many mini-batches have succeeded.
    #[track_caller]
    pub fn wait_for_committed(&self, count: u64) {
        wait_for(&format!("{count} mini-batches to be committed"), || {
            (self.status()?["counts"]["mini_batches_succeeded"].as_u64()? >= count).then_some(())
        });
    }

    /// Waits until so many more mini-batches have succeeded than now.
    #[track_caller]
    pub fn wait_for_more_committed(&self, more: u64) {
        let now = self.place.status()["counts"]["mini_batches_succeeded"].as_u64().expect("a number");
        self.wait_for_committed(now + more);
    }

    /// Waits until the job says that it is held up, and by what.
    #[track_caller]
    pub fn wait_until_blocked(&self, by: &str) {
        wait_for(&format!("the job to say that it is held up: {by}"), || {
            self.status()?["blocked"].as_str()?.contains(by).then_some(())
        });
    }

    /// Waits until the job is not held up.
    #[track_caller]
    pub fn wait_until_free(&self) {
        wait_for("the job not to be held up", || self.status()?["blocked"].is_null().then_some(()));
    }

    /// Nodes of `status.json` that work.
    #[track_caller]
    pub fn wait_for_nodes(&self, count: usize) {
        wait_for(&format!("{count} nodes"), || (self.nodes("working")? >= count).then_some(()));
    }

    /// So many nodes are in that state.
    pub fn nodes(&self, state: &str) -> Option<usize> {
        Some(self.status()?["node_list"].as_array()?.iter().filter(|node| node["state"] == state).count())
    }
}

impl Drop for World {
    /// A test that fails shows what everybody said.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Broker::Own(broker) = &self.broker {
            eprintln!("=== RabbitMQ\n{}", broker.report());
        }
        let said = fs::read_dir(self.place.path("")).into_iter().flatten().flatten().map(|entry| entry.path());
        let said =
            said.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stderr-")));
        let logs = self.place.job().join("logs");
        for file in said.chain([self.place.job().join("status.json"), logs.join("sys/master_role.txt")]) {
            let text = fs::read(&file).unwrap_or_default();
            let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned();
            eprintln!("=== {}\n{tail}", file.display());
        }
    }
}

/// Kills a program at once, and nothing else.
pub fn kill_9(running: &Running) {
    kill(Pid::from_raw(running.pid()), Signal::SIGKILL).expect("it is alive");
}
