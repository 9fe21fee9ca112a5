//! A fleet for one test: servers of its own, workers that can be killed, and a job whose rows are known.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use fanfold_test_servers::{RabbitMq, Redis};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::{Running, job_of};
use crate::support::{FANFOLD, Place, assert_each_once, wait_for};

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
}

/// A broker of the test's own, or one virtual host of that which the tests share.
pub enum Broker {
    Own(RabbitMq),
    Shared,
}

impl World {
    /// With a virtual host of its own.
    pub fn new() -> World {
        let url = RabbitMq::shared().vhost();
        World { place: Place::new(), broker: Broker::Shared, redis: Redis::start(), url }
    }

    /// With a broker of its own, to be stopped.
    pub fn with_broker() -> World {
        let broker = RabbitMq::start();
        let url = broker.url();
        World { place: Place::new(), broker: Broker::Own(broker), redis: Redis::start(), url }
    }

    /// The broker that is the test's own.
    pub fn broker(&self) -> &RabbitMq {
        match &self.broker {
            Broker::Own(broker) => broker,
            Broker::Shared => RabbitMq::shared(),
        }
    }

    fn fleet(&self, command: &mut Command) {
        command.env("FANFOLD_BROKER", &self.url).env("FANFOLD_REDIS", self.redis.url());
        command.env("FANFOLD_SHARED", self.place.path(""));
    }

    /// Starts a worker.
    pub fn worker(&self) -> Running {
        let mut command = self.place.command(worker_program().to_str().expect("a path of ours"));
        self.fleet(&mut command);
        command.args(["--processes", "2"]);
        command.arg("--work-dir").arg(self.place.path("worker"));
        Running::start(&self.place, command)
    }

    /// Starts the coordinator.
    pub fn coordinator(&self) -> Running {
        let mut command = self.place.fanfold();
        self.fleet(&mut command);
        command.args(["run", "job.yaml", "--job-dir", "job"]);
        Running::start(&self.place, command)
    }

    /// A job over so many lines.
    pub fn job(&self, items: usize, script: &str, more: &str) -> Vec<String> {
        job_of(&self.place, script, more);
        self.place.write_items(items)
    }

    /// Each row is there once, and nothing of the job is left: no queue, no counter.
    #[track_caller]
    pub fn each_once_and_nothing_left(&self, items: &[String]) {
        assert_each_once(&self.place.rows(), items);
        assert_eq!(self.place.status()["state"], "Completed");
        self.nothing_left();
    }

    /// No queue and no counter of the job is left.
    #[track_caller]
    pub fn nothing_left(&self) {
        let vhost = self.vhost();
        wait_for("the job's queues to be gone", || {
            let queues = self.broker().queues(&vhost);
            let of_jobs = |name: &str| name.starts_with("fanfold.tasks.") || name.starts_with("fanfold.results.");
            (!queues.iter().any(|(name, ..)| of_jobs(name))).then_some(())
        });
        let keys = self.redis.command("KEYS fanfold:v1:hand-overs:*");
        assert!(!keys.contains("hand-overs"), "{keys}");
    }

    fn vhost(&self) -> String {
        match self.url.rsplit_once('/') {
            Some((_, "" | "%2f" | "%2F")) | None => "/".into(),
            Some((_, vhost)) => vhost.into(),
        }
    }

    /// Nodes of `status.json` that work.
    #[track_caller]
    pub fn wait_for_nodes(&self, count: usize) {
        wait_for(&format!("{count} nodes"), || {
            let status: serde_json::Value =
                serde_json::from_slice(&fs::read(self.place.job().join("status.json")).ok()?).ok()?;
            let nodes = status["node_list"].as_array()?;
            (nodes.iter().filter(|node| node["state"] == "working").count() >= count).then_some(())
        });
    }
}

/// Kills a program at once, and nothing else.
pub fn kill_9(running: &Running) {
    kill(Pid::from_raw(running.pid()), Signal::SIGKILL).expect("it is alive");
}
