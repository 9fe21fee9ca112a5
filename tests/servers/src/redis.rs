//! A Redis server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Identity;
use crate::process::{directory, free_port, kill, listens, program, spawn, wait_until};

/// A Redis server of this test.
pub struct Redis {
    dir: TempDir,
    port: u16,
    options: RedisOptions,
    child: Mutex<Option<Child>>,
}

/// How to start it.
#[derive(Default)]
pub struct RedisOptions {
    /// Lines of an ACL file: `user fanfold on >password ~fanfold:* +@all`.
    pub acl: Vec<String>,
    /// TLS only, with this certificate.
    pub tls: Option<Identity>,
    /// The authority of client certificates; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

impl Redis {
    /// Without passwords.
    pub fn start() -> Redis {
        Redis::start_with(RedisOptions::default())
    }

    /// See [`RedisOptions`].
    pub fn start_with(options: RedisOptions) -> Redis {
        let dir = directory();
        let redis = Redis { dir, port: free_port(), options, child: Mutex::new(None) };
        redis.start_again();
        redis
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, without user and password.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://localhost:{}/0", self.port)
    }

    /// Its URL with a user.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        self.url().replacen("://", &format!("://{user}:{password}@"), 1)
    }

    /// Starts it again, empty, on the same port.
    pub fn start_again(&self) {
        let mut command =
            Command::new(program(&["/usr/bin/redis-server", "/usr/local/bin/redis-server"], "redis-server"));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        let port = self.port.to_string();
        match &self.options.tls {
            None => command.args(["--port", &port]),
            Some(identity) => {
                let path = |path: &PathBuf| path.to_str().expect("a plain path").to_string();
                command.args(["--port", "0", "--tls-port", &port]);
                command.args(["--tls-cert-file", &path(&identity.certificate), "--tls-key-file", &path(&identity.key)]);
                match &self.options.client_ca {
                    Some(ca) => command.args(["--tls-auth-clients", "yes", "--tls-ca-cert-file", &path(ca)]),
                    None => {
                        command.args(["--tls-auth-clients", "no", "--tls-ca-cert-file", &path(&identity.certificate)])
                    }
                }
            }
        };
        if !self.options.acl.is_empty() {
            let file = self.dir.path().join("users.acl");
            fs::write(&file, self.options.acl.join("\n") + "\n").expect("the ACL file can be written");
            command.arg("--aclfile").arg(file);
        }
        *self.child() = Some(spawn(command));
        wait_until(Duration::from_secs(10), || "redis-server does not listen".into(), || listens(self.port));
    }

    /// Kills it.
    pub fn stop(&self) {
        if let Some(mut child) = self.child().take() {
            kill(&mut child);
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().as_ref().expect("it runs").id()
    }

    /// Stops the program where it stands (SIGSTOP); connections stay open.
    pub fn hang(&self) {
        signal(Pid::from_raw(self.pid() as i32), Signal::SIGSTOP).expect("it is ours");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        signal(Pid::from_raw(self.pid() as i32), Signal::SIGCONT).expect("it is ours");
    }

    /// Deletes everything (without users and TLS).
    pub fn flush(&self) {
        assert!(self.command("FLUSHALL").starts_with("+OK"));
    }

    /// Sends one command as typed and returns the raw answer (without users and TLS).
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit can be set");
        write!(stream, "{command}\r\nQUIT\r\n").expect("it reads");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
