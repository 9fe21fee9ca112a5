//! A RabbitMQ server.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::Identity;
use crate::process::{directory, free_port, kill, listens, program, spawn, wait_until};

/// Virtual hosts of a server that many tests share. They are made at its start, as that is where they cost least.
pub const VHOSTS: u32 = 24;
const USER: &str = "fanfold";
/// Not one that a log may hold by chance.
const PASSWORD: &str = "pa55-of-the-tests";
/// Of its log, bytes.
const REPORTED: usize = 8000;
/// Some seconds, but where many tests run beside each other.
const START: Duration = Duration::from_secs(180);

/// A RabbitMQ server of this test, with a node name, an Erlang port mapper, ports and files of its own.
pub struct RabbitMq {
    dir: TempDir,
    node: String,
    port: u16,
    tls_port: u16,
    http_port: u16,
    epmd_port: u16,
    dist_port: u16,
    options: RabbitMqOptions,
    next_vhost: AtomicU32,
    epmd: Mutex<Option<Child>>,
    server: Mutex<Option<Child>>,
}

/// How to start it.
#[derive(Default)]
pub struct RabbitMqOptions {
    /// Listen with TLS as well.
    pub tls: Option<Identity>,
    /// The authority of client certificates; without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// `rabbitmq_management`, `rabbitmq_prometheus`: both listen on [`RabbitMq::http_port`], so one of them.
    pub plugin: Option<&'static str>,
    /// More lines of `rabbitmq.conf`.
    pub config: Vec<String>,
    /// How many tests may ask for a [`RabbitMq::vhost`] of their own. Each makes every start slower.
    pub vhosts: u32,
}

impl RabbitMq {
    /// One for the whole test program; [`RabbitMq::vhost`] gives each test a part of its own.
    pub fn shared() -> &'static RabbitMq {
        static SHARED: OnceLock<RabbitMq> = OnceLock::new();
        SHARED.get_or_init(|| RabbitMq::start_with(RabbitMqOptions { vhosts: VHOSTS, ..RabbitMqOptions::default() }))
    }

    /// One that the test may stop.
    pub fn start() -> RabbitMq {
        RabbitMq::start_with(RabbitMqOptions::default())
    }

    /// See [`RabbitMqOptions`].
    pub fn start_with(options: RabbitMqOptions) -> RabbitMq {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let server = RabbitMq {
            dir: directory(),
            node: format!("fanfold-test-{}-{number}@localhost", std::process::id()),
            port: free_port(),
            tls_port: free_port(),
            http_port: free_port(),
            epmd_port: free_port(),
            dist_port: free_port(),
            options,
            next_vhost: AtomicU32::new(0),
            epmd: Mutex::new(None),
            server: Mutex::new(None),
        };
        server.configure();
        server.start_again();
        server
    }

    fn configure(&self) {
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nload_definitions = {}\nlog.console = false\nlog.file.level = info\n",
            self.port,
            self.dir.path().join("definitions.json").display(),
        );
        // The machine's disk is not what is tested.
        config.push_str("disk_free_limit.absolute = 1MB\n");
        if let Some(identity) = &self.options.tls {
            let _ = writeln!(config, "listeners.ssl.1 = 127.0.0.1:{}", self.tls_port);
            let _ = writeln!(config, "ssl_options.certfile = {}", identity.certificate.display());
            let _ = writeln!(config, "ssl_options.keyfile = {}", identity.key.display());
            match &self.options.client_ca {
                Some(ca) => {
                    let _ = writeln!(config, "ssl_options.cacertfile = {}", ca.display());
                    config.push_str("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n");
                }
                None => {
                    let _ = writeln!(config, "ssl_options.cacertfile = {}", identity.certificate.display());
                    config.push_str("ssl_options.verify = verify_none\n");
                }
            }
        }
        if let Some(plugin) = self.options.plugin {
            let section = plugin.trim_start_matches("rabbitmq_");
            let _ = writeln!(config, "{section}.tcp.port = {}\n{section}.tcp.ip = 127.0.0.1", self.http_port);
        }
        for line in &self.options.config {
            let _ = writeln!(config, "{line}");
        }
        let names: Vec<String> = (0..self.options.vhosts).map(vhost_name).chain(["/".to_string()]).collect();
        let vhosts: Vec<String> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
        let permissions: Vec<String> = names
            .iter()
            .map(|vhost| format!(r#"{{"user":"{USER}","vhost":"{vhost}","configure":".*","write":".*","read":".*"}}"#))
            .collect();
        let definitions = format!(
            r#"{{"users":[{{"name":"{USER}","password":"{PASSWORD}","tags":"administrator"}}],"vhosts":[{}],"permissions":[{}]}}"#,
            vhosts.join(","),
            permissions.join(","),
        );
        let plugins = format!("[{}].\n", self.options.plugin.unwrap_or_default());
        for (name, text) in [
            ("rabbitmq.conf", config),
            ("definitions.json", definitions),
            ("plugins", plugins),
            ("env.conf", String::new()),
        ] {
            fs::write(self.dir.path().join(name), text).expect("the directory can be written");
        }
        // Erlang wants the cookie to be nobody else's.
        let cookie = self.dir.path().join(".erlang.cookie");
        fs::write(&cookie, format!("{:032}", self.dist_port)).expect("the directory can be written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        fs::set_permissions(&cookie, private).expect("the file is ours");
    }

    fn command(&self, script: &str) -> Command {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name);
        let path = program(&[&format!("/usr/lib/rabbitmq/bin/{script}")], "rabbitmq-server");
        let mut command = Command::new(path);
        command
            .current_dir(dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", dir)
            // Erlang itself instead of a shell that starts it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_CONF_ENV_FILE", file("env.conf"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", file("generated"))
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_PID_FILE", file("pid"))
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_CRASH_DUMP", file("crash.dump"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it again on the same data and ports.
    pub fn start_again(&self) {
        let mut epmd = self.epmd.lock().unwrap_or_else(PoisonError::into_inner);
        if epmd.is_none() {
            let mut command = Command::new(program(&["/usr/bin/epmd"], "erlang-base"));
            command.args(["-port", &self.epmd_port.to_string(), "-address", "127.0.0.1"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            *epmd = Some(spawn(command));
            wait_until(START, || "epmd does not listen".into(), || listens(self.epmd_port));
        }
        *self.server() = Some(spawn(self.command("rabbitmq-server")));
        wait_until(START, || format!("RabbitMQ does not listen; its log:\n{}", self.log()), || listens(self.port));
    }

    /// Stops it in order (SIGTERM).
    pub fn stop(&self) {
        if let Some(mut server) = self.server().take() {
            let pid = nix::unistd::Pid::from_raw(server.id() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
            wait_until(START, || "RabbitMQ does not stop".into(), || !matches!(server.try_wait(), Ok(None)));
            kill(&mut server);
        }
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        if let Some(mut server) = self.server().take() {
            kill(&mut server);
        }
    }

    /// The process id of its Erlang machine.
    pub fn pid(&self) -> u32 {
        self.server().as_ref().expect("it runs").id()
    }

    /// The port for `amqp`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of its plugin.
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The user and the password of its URLs.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// The virtual host `/`.
    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// A virtual host.
    pub fn url_of(&self, vhost: &str) -> String {
        format!("amqp://{USER}:{PASSWORD}@localhost:{}/{vhost}", self.port)
    }

    /// The virtual host `/`, with TLS.
    pub fn amqps_url(&self) -> String {
        format!("amqps://{USER}:{PASSWORD}@localhost:{}/%2f", self.tls_port)
    }

    /// The name of a virtual host that no other test uses.
    pub fn vhost_name(&self) -> String {
        let number = self.next_vhost.fetch_add(1, Ordering::SeqCst);
        let vhosts = self.options.vhosts;
        assert!(number < vhosts, "raise `vhosts` where this server is started: there are {vhosts} virtual hosts");
        vhost_name(number)
    }

    /// The URL of a virtual host that no other test uses.
    pub fn vhost(&self) -> String {
        self.url_of(&self.vhost_name())
    }

    /// Runs `rabbitmqctl`, which takes a second, and returns what it says.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|said| panic!("rabbitmqctl {arguments:?} failed: {said}"))
    }

    fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command("rabbitmqctl");
        // The tool is an Erlang node as well, which must not take the server's port.
        command.env_remove("RABBITMQ_DIST_PORT").args(["--quiet", "--node", &self.node]).args(arguments);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// Queues, consumers, connections and the end of its log, for a test that fails.
    pub fn report(&self) -> String {
        let lists: [&[&str]; 4] = [
            &[
                "list_queues",
                "-p",
                "/",
                "name",
                "type",
                "state",
                "messages_ready",
                "messages_unacknowledged",
                "consumers",
            ],
            &["list_consumers", "-p", "/"],
            &["list_connections", "name", "state", "channels", "send_pend"],
            &[
                "list_channels",
                "connection",
                "number",
                "consumer_count",
                "messages_unconfirmed",
                "messages_unacknowledged",
                "prefetch_count",
            ],
        ];
        let told = lists.map(|list| self.try_ctl(list).unwrap_or_else(|said| said)).join("\n");
        let log = self.log();
        let end = log.ceil_char_boundary(log.len().saturating_sub(REPORTED));
        format!("{told}\n{}", &log[end..])
    }

    /// Raises the memory alarm, or lowers it.
    pub fn set_alarm(&self, on: bool) {
        self.ctl(&["set_vm_memory_high_watermark", if on { "0.00001" } else { "0.8" }]);
    }

    /// Closes every client's connection.
    pub fn close_all_connections(&self) {
        self.ctl(&["close_all_connections", "a test"]);
    }

    /// Makes a user with permissions (patterns to configure, write and read) in a virtual host.
    pub fn add_user(&self, name: &str, password: &str, vhost: &str, [configure, write, read]: [&str; 3]) {
        self.ctl(&["add_user", name, password]);
        self.ctl(&["set_permissions", "-p", vhost, name, configure, write, read]);
    }

    /// Names, ready and unacknowledged messages, and consumers of the queues of a virtual host; they lag for some seconds.
    pub fn queues(&self, vhost: &str) -> Vec<(String, u64, u64, u64)> {
        let said = self.ctl(&[
            "list_queues",
            "-p",
            vhost,
            "--no-table-headers",
            "name",
            "messages_ready",
            "messages_unacknowledged",
            "consumers",
        ]);
        let row = |line: &str| {
            let mut columns = line.split('\t').map(str::trim);
            let name = columns.next()?.to_string();
            let mut number = || columns.next().and_then(|column| column.parse().ok());
            Some((name, number()?, number()?, number()?))
        };
        said.lines().filter_map(row).collect()
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        let files = fs::read_dir(self.dir.path().join("log")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }
}

fn vhost_name(number: u32) -> String {
    format!("test-{number}")
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut epmd) = self.epmd.lock().unwrap_or_else(PoisonError::into_inner).take() {
            kill(&mut epmd);
        }
    }
}
