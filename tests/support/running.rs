//! A program that runs while the test does something to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::support::{LIMIT, Place, wait_for};

/// Says on the test's own output that something was not tested, and why. Never silent: see `cargo test -- --nocapture`.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// A script that notes in `begun.txt` what it begins, and ends no `run()` before the file `go` is there.
pub const GATED: &str = r#"
import os
import time

PLACE = os.environ["PLACE"]

def run(mini_batch):
    with open(os.path.join(PLACE, "begun.txt"), "a") as file:
        file.write("".join(item + "\n" for item in mini_batch))
    while not os.path.exists(os.path.join(PLACE, "go")):
        time.sleep(0.005)
    return mini_batch
"#;

/// Takes 20 ms for each mini-batch until the gate is open, and then no time.
pub const PACED: &str = r#"
import os
import time

GATE = os.path.join(os.environ["PLACE"], "go")

def run(mini_batch):
    if not os.path.exists(GATE):
        time.sleep(0.02)
    return mini_batch
"#;

/// Writes `score.py` and a job over `items.txt` whose script knows the place as `PLACE`.
pub fn job_of(place: &Place, script: &str, more: &str) {
    place.write("score.py", script);
    let yaml = format!(
        "name: attack\nentry_script: score.py\ninputs: [items.txt]\ninput_type: lines\nmini_batch_size: 1\n\
         process_count_per_node: 2\nenvironment_variables: {{PLACE: '{}'}}\n{more}",
        place.path("").display()
    );
    place.write("job.yaml", yaml);
}

/// What the gated script has begun, in order.
pub fn begun(place: &Place) -> Vec<String> {
    fs::read_to_string(place.path("begun.txt")).unwrap_or_default().lines().map(str::to_string).collect()
}

/// Waits until so many items were begun.
#[track_caller]
pub fn wait_until_begun(place: &Place, count: usize) {
    wait_for("mini-batches to begin", || (begun(place).len() >= count).then_some(()));
}

/// Lets every `run()` of the gated script return.
pub fn open_gate(place: &Place) {
    place.write("go", "");
}

/// The program, running; killed if the test forgets it.
pub struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// `fanfold run job.yaml --job-dir job`, leader of a process group of its own as a shell makes it.
    pub fn job(place: &Place) -> Running {
        let mut command = place.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]);
        Running::start(place, command)
    }

    /// `command`, with standard error in a file.
    pub fn start(place: &Place, mut command: Command) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stderr = place.path(format!("stderr-{}.txt", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&stderr).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        // Whoever runs the tests under nohup must not have them fail.
        for_signals(&mut command, libc::SIG_DFL, &[libc::SIGHUP, libc::SIGINT]);
        Running { child: command.spawn().expect("the program starts"), stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it is alive");
    }

    /// Sends a signal to its process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.pid()), signal).expect("it is alive");
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn wait_until_said(&mut self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.said().contains(what) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it never said `{what}` ({ended:?}):\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end, which must come within `limit`, with this exit code. Returns what it said.
    #[track_caller]
    pub fn ends(mut self, limit: Duration, code: i32) -> String {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it did not end within {limit:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.code(), Some(code), "signal {:?}:\n{}", status.signal(), self.said());
        self.said()
    }

    /// Waits until it is killed with SIGKILL, by whomever. Returns what it said.
    #[track_caller]
    pub fn dies(mut self, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it was not killed within {limit:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{status:?}:\n{}", self.said());
        self.said()
    }

    /// Its exit code, once it has ended by itself.
    pub fn code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives `signals` a disposition in the process that `command` starts.
pub fn for_signals(command: &mut Command, disposition: libc::sighandler_t, signals: &'static [i32]) {
    // SAFETY: the closure makes system calls only.
    unsafe {
        command.pre_exec(move || {
            for signal in signals {
                libc::signal(*signal, disposition);
            }
            Ok(())
        });
    }
}

/// Waits until the state in `status.json` is `state`.
#[track_caller]
pub fn wait_for_state(place: &Place, state: &str) {
    wait_for(&format!("the state {state}"), || {
        let text = fs::read(place.job().join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_slice(&text).ok()?;
        (status["state"] == state).then_some(())
    });
}

/// A memory disk of its own, mounted for `fanfold` and its children alone.
pub struct SmallDisk {
    /// Where it is, for the program.
    pub at: PathBuf,
}

impl SmallDisk {
    /// The command `fanfold` with a disk of `size` (as mount spells it) at `name` in the place. None: this user may not mount.
    pub fn command(place: &Place, name: &str, size: &str) -> Option<(Command, SmallDisk)> {
        SmallDisk::mounted(place, name, size, "true")
    }

    /// The same with a disk of 1 MiB, of which only so many KiB are free when the program starts.
    pub fn filled(place: &Place, name: &str, free: usize) -> Option<(Command, SmallDisk)> {
        let fill = format!("head -c {}k /dev/zero > filler", 1024 - free);
        SmallDisk::mounted(place, name, "1m", &fill)
    }

    /// `first` is done on the disk before the program starts.
    fn mounted(place: &Place, name: &str, size: &str, first: &str) -> Option<(Command, SmallDisk)> {
        let at = place.path(name);
        fs::create_dir_all(&at).unwrap();
        let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs"]).arg(&at).output();
        if !may.is_ok_and(|may| may.status.success()) {
            skip("no mount namespaces for this user: a full disk is not tried");
            return None;
        }
        let fanfold = place.fanfold();
        let mut command = Command::new("unshare");
        let mount =
            format!("mount -t tmpfs -o size=\"$0\" tmpfs \"$1\" && (cd \"$1\" && {first}) && shift && exec \"$@\"");
        command.args(["-m", "sh", "-c", &mount, size]).arg(&at).arg(fanfold.get_program());
        for (name, value) in fanfold.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(place.path("")).stdin(std::process::Stdio::null());
        Some((command, SmallDisk { at }))
    }

    /// Fills it to the last byte with `filler`, as the program sees it.
    pub fn fill(&self, running: &Running) {
        let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
        let below = device(&self.at);
        // Not a moment earlier: what is filled must be the small disk, never the machine's.
        wait_for("the disk to be mounted", || {
            device(&self.seen_by(running)).filter(|device| Some(*device) != below).map(drop)
        });
        let mut file = File::create(self.seen_by(running).join("filler")).unwrap();
        let block = vec![0; 4096];
        let mut written = 0;
        while std::io::Write::write(&mut file, &block).is_ok_and(|count| count > 0) {
            written += block.len();
            assert!(written < 1 << 30, "that is no small disk");
        }
    }

    /// Makes room again.
    pub fn make_room(&self, running: &Running) {
        fs::remove_file(self.seen_by(running).join("filler")).unwrap();
    }

    /// Where it is, seen through the program's eyes.
    pub fn seen_by(&self, running: &Running) -> PathBuf {
        let inside: &Path = self.at.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", running.pid())).join(inside)
    }
}
