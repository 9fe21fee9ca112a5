//! A canary in every secret: it is found in no file, message, key, metric, command line or environment but where the test put it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanfold_shared::backend::rabbitmq::{Broker, BrokerConfig, Consumer, Queue, QueueKind, Topology};
use fanfold_shared::fleet::config::{ServerUrl, TlsFiles};
use fanfold_test_servers::{Redis, RedisOptions};

use super::world::{Secured, broker, ca, identity};
use crate::running::{job_of, open_gate, wait_until_begun};
use crate::support::{LIMIT, Place, Ran, finish, wait_for};

/// Never written as it is, so that no listing of this file can be mistaken for it.
const CANARY: &str = concat!("cAn", "ArY");
const BROKER: Duration = Duration::from_secs(30);

/// Looks for whatever it can read of itself and of the programs around it, fails at times, and takes its time.
const NOSY: &str = r#"
import os
import time

PLACE = os.environ["PLACE"]

def look(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return error.strerror.encode()

def init():
    mine = ("PLACE_OF_A_TEST=" + PLACE.rstrip("/")).encode()
    pid = os.getpid()
    while pid > 1:
        print("up", pid, look(f"/proc/{pid}/environ"), look(f"/proc/{pid}/cmdline"))
        stat = look(f"/proc/{pid}/stat").rsplit(b")", 1)
        pid = int(stat[1].split()[1]) if len(stat) == 2 else 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            environ = look(f"/proc/{name}/environ")
            if mine in environ or b"fanfold" in look(f"/proc/{name}/cmdline"):
                print("beside", name, environ, look(f"/proc/{name}/cmdline"))
    print(dict(os.environ))

def run(mini_batch):
    with open(os.path.join(PLACE, "begun.txt"), "a") as file:
        file.write("".join(item + "\n" for item in mini_batch))
    while not os.path.exists(os.path.join(PLACE, "go")):
        time.sleep(0.005)
    if mini_batch[0].endswith("3"):
        raise ValueError(dict(os.environ))
    return [str(dict(os.environ))]
"#;

fn holds(bytes: &[u8]) -> bool {
    let (first, needle) = (CANARY.as_bytes()[0], CANARY.as_bytes());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The files below `dir` that hold the canary, but for those of the test's own.
fn found_below(place: &Place) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![place.path("")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() && path != place.path("secrets") {
                dirs.push(path);
            } else if kind.is_file() && holds(&fs::read(&path).unwrap_or_default()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// What became of every message of a virtual host, as RabbitMQ itself copies it.
struct Tap {
    broker: Broker,
    copies: Consumer,
}

impl Tap {
    fn new(url: &str, vhost: &str) -> Tap {
        broker().ctl(&["trace_on", "-p", vhost]);
        let url = ServerUrl::parse("the broker", url, &["amqp"]).unwrap();
        let broker = Broker::start(BrokerConfig { url, tls: TlsFiles::default(), name: "tap".into() }).unwrap();
        broker.wait(BROKER).unwrap();
        let topology = Topology {
            queues: vec![Queue { name: "tap".into(), kind: QueueKind::Exclusive }],
            bindings: vec![("tap".into(), "amq.rabbitmq.trace".into(), "#".into())],
            ..Topology::default()
        };
        broker.declare(topology, BROKER).unwrap();
        let copies = broker.consumer("tap", 1000);
        Tap { broker, copies }
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        loop {
            let messages = self.copies.receive(1000, Duration::from_millis(500)).unwrap();
            if messages.is_empty() {
                return bodies;
            }
            for message in messages {
                bodies.push(message.body.to_vec());
                message.ack();
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.broker.close();
    }
}

fn metrics(address: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn children(of: i32) -> Vec<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<i32> = pids.filter(|pid| parent(*pid) == Some(of)).collect();
    for child in all.clone() {
        all.extend(children(child));
    }
    all
}

/// Redis as an administrator sees it.
fn everything_in(redis: &Redis) -> String {
    let keys = redis.command("AUTH look look\r\nKEYS *");
    let mut text = keys.clone();
    for key in keys.lines().filter(|line| line.starts_with("fanfold:")) {
        for command in ["GET", "HGETALL", "ZRANGE"] {
            let range = if command == "ZRANGE" { " 0 -1" } else { "" };
            text += &redis.command(&format!("AUTH look look\r\n{command} {key}{range}"));
        }
    }
    text + &redis.command("AUTH look look\r\nCLIENT LIST")
}

#[test]
fn no_secret_is_found_anywhere() {
    let vhost = broker().vhost_name();
    broker().add_user("canary", &format!("{CANARY}-broker"), &vhost, [".*", ".*", ".*"]);
    let acl = vec![
        "user default off".into(),
        format!("user canary on >{CANARY}-redis ~fanfold:* +@all"),
        "user look on >look ~* +@all".into(),
    ];
    let redis = Redis::start_with(RedisOptions { acl, ..RedisOptions::default() });
    let plain = broker().url_of(&vhost);
    let (_, host) = plain.split_once('@').unwrap();
    let address = format!("amqp://canary:{CANARY}-broker@{host}");
    let redis_address = redis.url_of("canary", &format!("{CANARY}-redis"));
    let mut secured = Secured::new(&address, redis, &redis_address);
    let place = |name: &str| secured.place.path(name).display().to_string();
    let key = format!("{CANARY}-key\n{}", fs::read_to_string(&identity().key).unwrap());
    secured.place.write("secrets/service.key", key);
    let token = secured.place.write("secrets/token", format!("{CANARY}-token-0123456789\n"));
    fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
    let certificate = identity().certificate.display().to_string();
    let (key, token) = (place("secrets/service.key"), place("secrets/token"));
    let tap = Tap::new(&plain, &vhost);
    secured.more = vec![("FANFOLD_CA", ca().file().display().to_string())];
    secured.serve(&["--tls-cert", &certificate, "--tls-key", &key, "--token-file", &token]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The worker has its addresses in its environment, which is where scripts would look first.
    let worker = secured.worker(|command| {
        command.env_remove("FANFOLD_BROKER_FILE").env("FANFOLD_BROKER", &address);
        command.env_remove("FANFOLD_REDIS_FILE").env("FANFOLD_REDIS", &redis_address);
        command.env("FANFOLD_ANYTHING", format!("{CANARY}-own")).env("MESSAGING", &address);
        command.arg("--metrics").arg(port.to_string());
    });

    job_of(&secured.place, NOSY, "error_threshold: 10\nrun_max_try: 2\n");
    secured.place.write_items(8);
    let mut said = 0;
    let mut note = |ran: Ran| {
        said += 1;
        secured.place.write(format!("said-{said}.txt"), format!("{}{}", ran.stdout, ran.stderr));
        ran
    };
    let job = note(secured.run(&["submit", "job.yaml"]).expect(0)).stdout.trim().to_string();
    wait_until_begun(&secured.place, 2);
    let service = secured.service.as_ref().unwrap();
    for (program, pid) in [("service", service.pid()), ("worker", worker.pid())] {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!command_line.is_empty() && !holds(&command_line), "the command line of the {program}");
        for child in children(pid) {
            for what in ["environ", "cmdline"] {
                let bytes = fs::read(format!("/proc/{child}/{what}")).unwrap_or_default();
                assert!(!holds(&bytes), "{what} of process {child}, which the {program} started");
            }
        }
    }
    assert!(children(worker.pid()).len() >= 3, "two processes and a guardian");
    let during = everything_in(&secured.redis);
    assert!(during.contains("fanfold:v1:workers") && !holds(during.as_bytes()), "{during}");
    let told = metrics(&port.to_string());
    assert!(told.contains("fanfold_worker_info") && !holds(told.as_bytes()), "{told}");
    open_gate(&secured.place);
    wait_for("the job to end", || secured.run(&["status", &job]).expect(0).stdout.contains("Completed").then_some(()));
    for verb in ["status", "logs", "errors", "explain"] {
        for more in [[].as_slice(), &["--json"]] {
            note(secured.run(&[&[verb, job.as_str()], more].concat()));
        }
    }
    for args in [
        vec!["results", &job],
        vec!["nodes"],
        vec!["nodes", "--json"],
        vec!["ls"],
        vec!["ls", "--json"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["status", "nosuch"],
        vec!["drain", "nosuch"],
    ] {
        note(secured.run(&args));
    }
    let mut asked = secured.fanfold(&["ls"]);
    asked.env_remove("FANFOLD_TOKEN_FILE").env("FANFOLD_TOKEN", format!("{CANARY}-token-wrong"));
    note(finish(asked.spawn().unwrap(), LIMIT).expect(2));

    // Addresses that are wrong in every way, all at once.
    let started: Vec<_> =
        wrong_addresses(&secured, host).into_iter().map(|mut command| command.spawn().unwrap()).collect();
    for child in started {
        let ran = note(finish(child, LIMIT));
        assert!(ran.code != Some(0) && ran.stderr.contains("error: "), "{}", ran.stderr);
        assert!(!holds(ran.stderr.as_bytes()) && !holds(ran.stdout.as_bytes()), "{}", ran.stderr);
    }

    let log = found_below(&secured.place);
    assert!(log.is_empty(), "the canary is in {log:?}");
    let seen = fs::read_to_string(secured.place.path("begun.txt")).unwrap();
    assert!(seen.lines().count() >= 8);
    let bodies = tap.bodies();
    assert!(bodies.len() > 10, "the tap saw the job's messages");
    for body in bodies {
        assert!(!holds(&body), "a message: {}", String::from_utf8_lossy(&body));
    }
    let connections = broker().ctl(&["list_connections", "name", "client_properties"]);
    assert!(connections.contains("fanfold") && !holds(connections.as_bytes()), "{connections}");
    assert!(!holds(broker().log().as_bytes()), "the broker's log");
    drop(worker);
    secured.service.take().unwrap().signal(nix::sys::signal::Signal::SIGTERM);
    let after = found_below(&secured.place);
    assert!(after.is_empty(), "the canary is in {after:?}");
    assert!(holds(&fs::read(Path::new(&secured.secret("broker"))).unwrap()), "it would have been found");
}

fn wrong_addresses(secured: &Secured, host: &str) -> Vec<Command> {
    let wrong = [
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}/x@localhost/")),
        ("FANFOLD_BROKER", format!("amqp://u:12/{CANARY}@localhost/")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}#x@localhost/")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}@nosuchhost.invalid:5672/")),
        ("FANFOLD_BROKER", format!("http://u:{CANARY}@localhost/")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}@localhost:99999/")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}@localhost:1/x?heartbeat={CANARY}")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}@localhost:1/x?{CANARY}=1")),
        ("FANFOLD_BROKER", format!("amqp://u:{CANARY}@localhost:1/a/b%zz")),
        ("FANFOLD_BROKER", format!("amqp://canary:{CANARY}@{host}")),
        ("FANFOLD_BROKER", format!("u:{CANARY}@localhost")),
        ("FANFOLD_BROKER", CANARY.to_string()),
        ("FANFOLD_REDIS", format!("redis://u:{CANARY}@localhost:1/0")),
        ("FANFOLD_REDIS", format!("redis://u:{CANARY}@localhost:1/nonumber")),
        ("FANFOLD_REDIS", format!("redis://u:{CANARY}/x@localhost")),
        ("FANFOLD_REDIS", format!("redis://canary:{CANARY}@localhost:{}", secured.redis.port())),
        ("FANFOLD_SERVICE", format!("http://u:{CANARY}@127.0.0.1:9/?x={CANARY}")),
        ("FANFOLD_SERVICE", format!("ftp://u:{CANARY}@127.0.0.1")),
        ("FANFOLD_SERVICE", format!("http://u:{CANARY}/@nosuchhost.invalid")),
    ];
    let command = |(variable, value): (&str, String)| {
        let args: &[&str] = match variable {
            "FANFOLD_SERVICE" => &["ls"],
            _ => &["run", "job.yaml", "--job-dir", "wrong"],
        };
        let mut command = secured.fanfold(args);
        command.env_remove(format!("{variable}_FILE")).env(variable, value);
        command
    };
    let mut commands: Vec<Command> = wrong.into_iter().map(command).collect();
    let mut broken = secured.fanfold(&["ls"]);
    broken.env_remove("FANFOLD_TOKEN_FILE").env("FANFOLD_TOKEN", format!("{CANARY}\u{1}token"));
    commands.push(broken);
    commands
}
