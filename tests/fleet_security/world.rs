//! A service and workers whose addresses lie in files, on servers that speak TLS as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use fanfold_test_servers::{Identity, RabbitMq, RabbitMqOptions, Redis, TestCa, VHOSTS};

use crate::fleet::worker_program;
use crate::running::Running;
use crate::support::{LIMIT, Place, Ran, finish};

/// The authority that everybody trusts.
pub fn ca() -> &'static TestCa {
    static CA: OnceLock<TestCa> = OnceLock::new();
    CA.get_or_init(TestCa::new)
}

/// The certificate of every server, which are all on this host.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| ca().sign("localhost"))
}

/// The certificate of every client.
pub fn client() -> &'static Identity {
    static CLIENT: OnceLock<Identity> = OnceLock::new();
    CLIENT.get_or_init(|| ca().sign("client"))
}

/// One broker for all tests here. With TLS it wants to see a certificate.
pub fn broker() -> &'static RabbitMq {
    static BROKER: OnceLock<RabbitMq> = OnceLock::new();
    BROKER.get_or_init(|| {
        RabbitMq::start_with(RabbitMqOptions {
            tls: Some(identity().clone()),
            client_ca: Some(ca().file()),
            vhosts: VHOSTS,
            ..RabbitMqOptions::default()
        })
    })
}

/// See the module documentation.
pub struct Secured {
    /// Ends before the place looks whether anything is left.
    pub service: Option<Running>,
    pub place: Place,
    pub redis: Redis,
    pub broker: String,
    pub url: String,
    /// More variables of every program.
    pub more: Vec<(&'static str, String)>,
}

impl Secured {
    /// Nothing runs yet.
    pub fn new(broker: &str, redis: Redis, redis_url: &str) -> Secured {
        let place = Place::new();
        for (name, text) in [("broker", broker), ("redis", redis_url)] {
            let path = place.write(format!("secrets/{name}"), text);
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Secured { service: None, place, redis, broker: broker.into(), url: String::new(), more: Vec::new() }
    }

    /// On a virtual host of its own, without TLS, and with a service.
    pub fn plain() -> Secured {
        let redis = Redis::start();
        let url = redis.url();
        let mut secured = Secured::new(&broker().vhost(), redis, &url);
        secured.serve(&[]);
        secured
    }

    pub fn secret(&self, name: &str) -> PathBuf {
        self.place.path("secrets").join(name)
    }

    /// A program that knows where everything is. It may not look into other processes, even if it is root's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.place.command(program);
        command.env("FANFOLD_BROKER_FILE", self.secret("broker")).env("FANFOLD_REDIS_FILE", self.secret("redis"));
        command.env("FANFOLD_SHARED", self.place.path(""));
        command.envs(self.more.iter().map(|(name, value)| (*name, value.as_str())));
        // CAP_SYS_PTRACE; and CAP_SYS_ADMIN and CAP_PERFMON, with which newer kernels let root read other processes as well.
        const LOOK: [libc::c_ulong; 3] = [19, 21, 38];
        // SAFETY: system calls only. Without root's rights they fail, and there is nothing to give up.
        unsafe {
            command.pre_exec(|| {
                for capability in LOOK {
                    libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                }
                Ok(())
            });
        }
        command
    }

    pub fn fanfold(&self, args: &[&str]) -> Command {
        let mut command = self.command(crate::support::FANFOLD);
        command.args(args);
        if !self.url.is_empty() {
            command.env("FANFOLD_SERVICE", &self.url).env("FANFOLD_TOKEN_FILE", self.token_file());
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.fanfold(args).spawn().expect("the program starts"), LIMIT)
    }

    pub fn token_file(&self) -> PathBuf {
        match self.secret("token") {
            given if given.exists() => given,
            _ => self.place.path("service/token"),
        }
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.token_file()).expect("a token").trim().to_string()
    }

    /// Starts the service.
    pub fn serve(&mut self, more: &[&str]) {
        let mut command = self.command(crate::support::FANFOLD);
        command.args(["serve", "--listen", "127.0.0.1:0", "--shared"]).arg(self.place.path(""));
        command.arg("--state").arg(self.place.path("service")).args(more);
        let mut service = Running::start(&self.place, command);
        service.wait_until_said(" serves at ");
        let said = service.said();
        let url = said.split(" serves at ").nth(1).and_then(|rest| rest.split(',').next()).expect("an address");
        (self.url, self.service) = (url.to_string(), Some(service));
    }

    /// Host and port of the service.
    pub fn address(&self) -> &str {
        self.url.split_once("://").expect("an address").1
    }

    /// Starts a worker.
    pub fn worker(&self, change: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.command(worker_program().to_str().expect("a path of ours"));
        command.args(["--processes", "2"]).arg("--work-dir").arg(self.place.path("worker"));
        change(&mut command);
        Running::start(&self.place, command)
    }

    /// The rows of a job of the service.
    pub fn rows(&self, job: &str) -> Vec<String> {
        self.run(&["results", job]).expect(0).stdout.lines().map(str::to_string).collect()
    }
}
