//! RabbitMQ and Redis as `compose/` configures them: its files, its users, on ports of the test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// RabbitMQ takes seconds to start where others are busy.
const LIMIT: Duration = Duration::from_secs(90);

/// `compose/` of this repository.
pub fn compose(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose").join(name)
}

/// What `setup.sh` made.
pub struct Secrets {
    pub dir: PathBuf,
}

impl Secrets {
    /// Runs `setup.sh`.
    pub fn make(dir: PathBuf) -> Secrets {
        let ran = Command::new(compose("setup.sh")).arg(&dir).output().expect("setup.sh starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Secrets { dir }
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The password in an address.
    pub fn password(&self, name: &str) -> String {
        let address = self.read(name);
        let (_, after) = address.split_once("://").expect("an address");
        let (user, _) = after.split_once('@').expect("a user");
        user.split_once(':').expect("a password").1.to_string()
    }

    /// Writes an address of the test's servers beside the original, which names hosts that only containers know.
    fn here(&self, name: &str, host: &str, port: u16) -> PathBuf {
        let address = self.read(name).replace(host, &format!("@127.0.0.1:{port}"));
        let path = self.dir.join(format!("{name}.here"));
        fs::write(&path, address).unwrap();
        path
    }
}

/// Both servers; gone when dropped, whatever the test did.
pub struct Servers {
    pub broker_port: u16,
    pub broker_metrics: u16,
    pub redis_port: u16,
    node: String,
    children: Vec<Child>,
}

impl Servers {
    /// Starts them in `dir` with what is in `secrets`, and waits until they answer.
    pub fn start(dir: &Path, secrets: &Secrets) -> Servers {
        let [broker_port, broker_metrics, redis_port, epmd, nodes] = free_ports();
        let node = format!("fanfold-compose-{}-{broker_port}@localhost", std::process::id());
        let mut servers = Servers { broker_port, broker_metrics, redis_port, node, children: Vec::new() };
        servers.rabbitmq(&dir.join("rabbitmq"), secrets, epmd, nodes);
        servers.redis(&dir.join("redis"), secrets);
        await_answer(broker_port, b"AMQP\x00\x00\x09\x01", &dir.join("rabbitmq/log"));
        await_answer(redis_port, b"PING\r\n", &dir.join("redis/log"));
        servers
    }

    /// Files with the addresses of broker and Redis for a program of this role: `coordinator`, `worker`.
    pub fn addresses(&self, secrets: &Secrets, role: &str) -> [PathBuf; 2] {
        [
            secrets.here(&format!("broker_{role}"), "@rabbitmq:5672", self.broker_port),
            secrets.here(&format!("redis_{role}"), "@redis:6379", self.redis_port),
        ]
    }

    fn rabbitmq(&mut self, home: &Path, secrets: &Secrets, epmd: u16, nodes: u16) {
        fs::create_dir_all(home).unwrap();
        let text = fs::read_to_string(compose("rabbitmq/fanfold.conf")).unwrap();
        let definitions = secrets.dir.join("rabbitmq_definitions.json");
        let text = text.replace("/run/secrets/rabbitmq_definitions", definitions.to_str().unwrap());
        let ports = format!("prometheus.tcp.port = {}\nprometheus.tcp.ip = 127.0.0.1\n", self.broker_metrics);
        fs::write(home.join("fanfold.conf"), format!("{text}\n{ports}")).unwrap();
        fs::write(home.join("enabled_plugins"), "[rabbitmq_prometheus].").unwrap();
        // Debian's own wrapper would want to be another user.
        let program = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server"];
        let program = program.into_iter().find(|path| Path::new(path).exists()).unwrap_or("rabbitmq-server");
        let mut command = Command::new(program);
        command
            .env("HOME", home)
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.broker_port.to_string())
            .env("RABBITMQ_DIST_PORT", nodes.to_string())
            .env("ERL_EPMD_PORT", epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("logs"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("RABBITMQ_CONFIG_FILE", home.join("fanfold.conf"));
        self.spawn(command, &home.join("log"));
    }

    fn redis(&mut self, home: &Path, secrets: &Secrets) {
        fs::create_dir_all(home).unwrap();
        let text = fs::read_to_string(compose("redis/fanfold.conf")).unwrap();
        let text = text
            .replace("bind 0.0.0.0", "bind 127.0.0.1")
            .replace("port 6379", &format!("port {}", self.redis_port))
            .replace("dir /data", &format!("dir {}", home.display()))
            .replace("/run/secrets/redis_users", secrets.dir.join("redis_users.acl").to_str().unwrap());
        fs::write(home.join("fanfold.conf"), text).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(home.join("fanfold.conf"));
        self.spawn(command, &home.join("log"));
    }

    fn spawn(&mut self, mut command: Command, log: &Path) {
        let log = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let program = command.get_program().to_owned();
        self.children.push(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
        }
        // RabbitMQ's port mapper leaves its group; it has the node's name in its environment all the same.
        let mark = format!("RABBITMQ_NODENAME={}", self.node);
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(environment) = fs::read(process.path().join("environ")) else { continue };
            if !environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                continue;
            }
            if let Ok(pid) = process.file_name().to_string_lossy().parse() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// Ports that were free a moment ago.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn await_answer(port: u16, hello: &[u8], log: &Path) {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let answered = TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            stream.write_all(hello).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
        });
        if answered {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no answer on port {port}:\n{}", fs::read_to_string(log).unwrap_or_default());
}

/// The body of `GET path`.
pub fn get(port: u16, path: &str, token: Option<&str>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{token}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.lines().next().unwrap_or_default().contains(" 200"), "GET {path}: {head}\n{body}");
    body.to_string()
}

/// Redis, as somebody who types commands; each argument is a word.
pub struct Redis {
    pub stream: TcpStream,
}

impl Redis {
    /// Connects as `user`.
    pub fn connect(port: u16, user: &str, password: &str) -> Redis {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("Redis listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut redis = Redis { stream };
        assert_eq!(redis.says(&format!("AUTH {user} {password}")), "+OK");
        redis
    }

    /// The first line of the answer.
    pub fn says(&mut self, command: &str) -> String {
        write!(self.stream, "{command}\r\n").unwrap();
        let mut answer = vec![0; 64 << 10];
        let read = self.stream.read(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_string()
    }
}
