//! Programs that die with the tests.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A directory for a server's files, removed when the value is dropped. A server that all tests of a program share is never dropped: its
/// directory is removed by the next program that makes one.
pub(crate) fn directory() -> TempDir {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
            if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok())
                && !Path::new("/proc").join(pid.to_string()).exists()
            {
                // Somebody else may be at it.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory")
}

/// Followed by the id of the process that made it.
const PREFIX: &str = "fanfold-test-server-";

/// A free port, as far as that can be known.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Where a program is, or a panic that says what to install.
pub(crate) fn program(paths: &[&str], package: &str) -> String {
    let found = paths.iter().find(|path| std::path::Path::new(path).exists());
    found
        .unwrap_or_else(|| panic!("the tests need the Debian package {package} (tests/run.sh installs it)"))
        .to_string()
}

/// Starts a program in a process group of its own, which is killed when this program ends, however it does.
pub(crate) fn spawn(mut command: Command) -> Child {
    command.process_group(0);
    // A death signal follows the thread that started the program, so it is one that lasts.
    type Job = Box<dyn FnOnce() + Send>;
    static STARTER: std::sync::OnceLock<mpsc::Sender<Job>> = std::sync::OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::spawn(move || waiting.into_iter().for_each(|job| job()));
        jobs
    });
    let (sent, started) = mpsc::channel();
    let start = move || {
        // SAFETY: prctl is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)?;
                Ok(())
            });
        }
        let _ = sent.send(command.spawn());
    };
    starter.send(Box::new(start)).expect("the starter lasts");
    started.recv().expect("the starter answers").expect("the program starts")
}

/// Kills a program and everything in its process group.
pub(crate) fn kill(child: &mut Child) {
    // Gone already is fine.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    let _ = child.wait();
}

/// Waits until `true`, or panics with what `what` says.
pub fn wait_until(limit: Duration, what: impl Fn() -> String, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {}", what());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether somebody listens.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
