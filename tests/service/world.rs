//! A service for one test: a broker's virtual host, Redis, a shared directory, workers, and somebody who asks.

use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{
    Broker, BrokerConfig, Consumer, Outgoing, Properties, Queue, QueueKind, Topology, Unroutable,
};
use fanfold_shared::fleet::config::{ServerUrl, TlsFiles};
use fanfold_shared::fleet::{JobEvent, JobReply, names};
use serde_json::Value;

use crate::fleet::World;
use crate::running::Running;
use crate::support::{Place, Ran, finish, wait_for};

/// How long the broker may take.
const BROKER: Duration = Duration::from_secs(30);

/// The world of a fleet, and a service in it.
pub struct Served {
    /// Ends before the place looks whether anything is left.
    pub service: Option<Running>,
    pub world: World,
    pub url: String,
    pub token: String,
}

/// An answer: status and body.
pub type Answer = (u16, Value);

impl Served {
    /// A service that has just started.
    pub fn new() -> Served {
        let mut served = Served { service: None, world: World::apart(), url: String::new(), token: String::new() };
        served.start(&[]);
        served
    }

    pub fn place(&self) -> &Place {
        &self.world.place
    }

    /// `fanfold serve`, ready to be started.
    pub fn command(&self, more: &[&str]) -> std::process::Command {
        let mut command = self.place().fanfold();
        command.env("FANFOLD_BROKER", &self.world.url).env("FANFOLD_REDIS", self.world.redis.url());
        command.args(["serve", "--shared"]).arg(self.place().path("")).arg("--state").arg(self.place().path("service"));
        let datastores = self.place().path("secrets/datastores.yaml");
        if datastores.exists() {
            command.env("FANFOLD_DATASTORES", datastores);
        }
        command.args(more);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
    }

    /// Starts the service, again if need be.
    pub fn start(&mut self, more: &[&str]) {
        let mut service = Running::start(self.place(), self.command(more));
        service.wait_until_said(" serves at ");
        let said = service.said();
        let url = said.split(" serves at ").nth(1).and_then(|rest| rest.split(',').next()).expect("an address");
        (self.url, self.service) = (url.to_string(), Some(service));
        self.token = fs::read_to_string(self.place().path("service/token")).expect("a token").trim().to_string();
    }

    /// The service, killed.
    pub fn kill(&mut self) {
        let service = self.service.take().expect("it runs");
        service.signal(nix::sys::signal::Signal::SIGKILL);
        drop(service);
    }

    /// A verb against the service.
    pub fn verb(&self, args: &[&str]) -> Ran {
        let mut command = self.place().fanfold();
        command.env("FANFOLD_SERVICE", &self.url).env("FANFOLD_TOKEN", &self.token).args(args);
        finish(command.spawn().expect("the program starts"), crate::support::LIMIT)
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(BROKER)).build().into()
    }

    /// Asks over HTTP.
    pub fn get(&self, path: &str) -> Answer {
        let (status, text) = self.get_text(path);
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn get_text(&self, path: &str) -> (u16, String) {
        let request = Served::agent()
            .get(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        let mut response = request.call().expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    /// Orders over HTTP.
    pub fn post(&self, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut request = Served::agent()
            .post(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let mut response = request.send(body).expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Begins a request with a body of so many bytes, and sends none of it.
    pub fn announce(&self, bytes: usize) -> Answer {
        let host = self.url.strip_prefix("http://").expect("http");
        let mut stream = std::net::TcpStream::connect(host).expect("it listens");
        stream.set_read_timeout(Some(BROKER)).expect("a limit");
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON"))
    }

    /// Asks with these headers only.
    pub fn get_as(&self, path: &str, authorization: Option<&str>) -> Answer {
        let mut request = Served::agent().get(format!("{}{path}", self.url));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let mut response = request.call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Submits `file` over HTTP; returns the job's id.
    #[track_caller]
    pub fn submit(&self, file: &str, set: &[&str]) -> String {
        let body = serde_json::json!({"job_file": file, "set": set}).to_string();
        let (status, answer) = self.post("/v1/jobs", None, &body);
        assert_eq!(status, 201, "{answer}");
        answer["job_id"].as_str().expect("an id").to_string()
    }

    pub fn state(&self, job: &str) -> String {
        self.get(&format!("/v1/jobs/{job}")).1["state"].as_str().unwrap_or("none").to_string()
    }

    /// Waits until the job is in a state.
    #[track_caller]
    pub fn wait_for_state(&self, job: &str, state: &str) {
        let mut last = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("{job} to be {state}"), || {
                last = self.state(job);
                (last == state).then_some(())
            })
        }));
        if seen.is_err() {
            let said = self.service.as_ref().map(Running::said).unwrap_or_default();
            panic!(
                "{job} is {last}, not {state}; its status: {:#}\nthe service said:\n{said}",
                self.get(&format!("/v1/jobs/{job}")).1
            );
        }
    }

    /// The rows of a Completed job.
    pub fn rows(&self, job: &str) -> Vec<String> {
        let (status, text) = self.get_text(&format!("/v1/jobs/{job}/results"));
        assert_eq!(status, 200, "{text}");
        text.lines().map(str::to_string).collect()
    }
}

/// Another service on the same broker, that speaks AMQP.
pub struct Peer {
    broker: Broker,
    answers: Consumer,
    events: Consumer,
}

impl Peer {
    pub fn new(served: &Served) -> Peer {
        let url = ServerUrl::parse("the broker", &served.world.url, &["amqp"]).unwrap();
        let config = BrokerConfig { url, tls: TlsFiles::default(), name: "peer".into() };
        let broker = Broker::start(config).unwrap();
        broker.wait(BROKER).unwrap();
        let queue = |name: &str| Queue { name: name.into(), kind: QueueKind::Exclusive };
        let topology = Topology {
            exchanges: vec![(names::EVENTS.into(), fanfold_shared::backend::rabbitmq::ExchangeKind::Topic)],
            queues: vec![queue("peer.answers"), queue("peer.events")],
            bindings: vec![("peer.events".into(), names::EVENTS.into(), "job.#".into())],
        };
        broker.declare(topology, BROKER).unwrap();
        let (answers, events) = (broker.consumer("peer.answers", 10), broker.consumer("peer.events", 10));
        Peer { broker, answers, events }
    }

    /// Puts a message into the queue of jobs.
    pub fn ask(&self, body: Vec<u8>, message_id: Option<&str>, answered: bool) {
        let message = Outgoing {
            exchange: String::new(),
            routing_key: names::JOBS.into(),
            body,
            properties: Properties {
                message_id: message_id.map(str::to_string),
                correlation_id: Some("my-17".into()),
                reply_to: answered.then(|| "peer.answers".into()),
                ..Properties::default()
            },
        };
        let publisher = self.broker.publisher(Unroutable::TryAgain, 1 << 20);
        assert!(publisher.publish_and_wait(vec![message], BROKER).unwrap(), "it is confirmed");
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&self) -> JobReply {
        let message = self.answers.receive(1, BROKER).unwrap().pop().expect("an answer in time");
        assert_eq!(message.properties.correlation_id.as_deref(), Some("my-17"));
        let reply = serde_json::from_slice(&message.body).expect("an answer of ours");
        message.ack();
        reply
    }

    /// The states that the job came into, up to and with `last`.
    #[track_caller]
    pub fn states(&self, job: &str, last: &str) -> Vec<JobEvent> {
        let (sender, receiver) = mpsc::channel();
        loop {
            let messages = self.events.receive(10, BROKER).unwrap();
            assert!(!messages.is_empty(), "no event {last} of {job} came");
            for message in messages {
                let event: JobEvent = serde_json::from_slice(&message.body).expect("an event");
                message.ack();
                let over = event.job_id.0 == job && event.state == last;
                if event.job_id.0 == job {
                    sender.send(event).unwrap();
                }
                if over {
                    drop(sender);
                    return receiver.into_iter().collect();
                }
            }
        }
    }

    pub fn dead_letters(&self) -> u32 {
        self.broker.depth(names::DEAD, BROKER).unwrap().map_or(0, |depth| depth.ready)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.broker.close();
    }
}
