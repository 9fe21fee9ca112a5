//! The guardian: a second process of the same program that outlives the worker by a moment and kills what it left.
//!
//! It holds the reading end of a pipe whose writing end only the worker has. A byte means that the worker ended in order; the
//! end of the pipe without one means that the worker is gone, by whatever death, `kill -9` included. Until its sweep is done
//! it also holds the locks of the worker's devices: nobody gets a device that a dying process still uses.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::family::Family;
use super::marker::Scope;
use super::proc_table;
use super::sweep::Sweep;

const ARGUMENT: &str = "--fanfold-guard";
/// What the worker writes when it ends in order.
const LEAVE: &[u8] = b"q";
/// How long the guardian goes on trying to kill what won't die.
const LIMIT: Duration = Duration::from_secs(60);

/// The worker's end.
pub(super) struct Guardian {
    child: Child,
    pipe: Option<File>,
}

impl Guardian {
    /// Starts the guardian of the run `token`; returns as soon as it executes, before it is ready. That suffices: the pipe
    /// tells it later what it missed.
    pub fn start(token: &str, since: u64, keep: &[BorrowedFd<'_>]) -> io::Result<Guardian> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let keep: Vec<i32> = keep.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        let kept: Vec<String> = keep.iter().map(|descriptor| descriptor.to_string()).collect();
        let mut command = Command::new("/proc/self/exe");
        command.args([ARGUMENT, token, &since.to_string(), &kept.join(",")]);
        // No environment: it needs none, and a mark of an outer worker would make it a victim of that one's sweeps.
        command.env_clear().current_dir("/");
        // Not our streams: a reader of them waits for the end of all who hold them.
        command.stdin(Stdio::from(read)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = Family::lock().start_guardian(&mut command, keep)?;
        Ok(Guardian { child, pipe: Some(File::from(write)) })
    }

    /// The guardian's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells the guardian to leave and waits until it has.
    pub fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // Fails if somebody killed the guardian, which is then as gone as it should be.
            let _ = pipe.write_all(LEAVE);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Leaves the rest to the guardian: it sweeps as if the worker had died.
    pub fn hand_over(&mut self) {
        self.pipe = None;
    }
}

/// Lives the guardian's life if that is what this process was started for, and then does not return.
///
/// To be called first in `main`, before arguments are read or threads started.
pub fn run_if_guard() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(ARGUMENT) {
        let token = arguments.next().unwrap_or_default();
        let since = arguments.next().and_then(|since| since.parse().ok()).unwrap_or(0);
        let keep = arguments.next().unwrap_or_default();
        let keep: Vec<i32> = keep.split(',').filter_map(|descriptor| descriptor.parse().ok()).collect();
        guard(token, since, &keep);
        std::process::exit(0);
    }
}

/// Whether `pid` is the guardian of some worker.
pub(super) fn is_guardian(pid: i32) -> bool {
    proc_table::has_first_argument(pid, ARGUMENT)
}

fn guard(token: String, since: u64, keep: &[i32]) {
    prepare(keep);
    let mut said = Vec::new();
    // An error here can only be a descriptor that was no pipe: started by hand.
    if token.is_empty() || io::stdin().lock().read_to_end(&mut said).is_err() || said == LEAVE {
        return;
    }
    Sweep { scope: Scope::Run { token }, session: None, since, orphans: false }.run(LIMIT);
}

fn prepare(keep: &[i32]) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2] {
        // What is meant for the worker often reaches all of its service or container: the worker decides when to end.
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // Another name than the program's own, so that `killall -9 fanfold` leaves the one process that cleans up behind it.
    // SAFETY: a constant string with its NUL, of less than 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"ff-guard".as_ptr()) };
    // What the worker itself was started with (a test's pipe, a shell's lock) is not ours to keep open.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2 && !keep.contains(descriptor)) {
        // SAFETY: nothing in this process, which has just started, owns a descriptor above 2.
        unsafe { libc::close(descriptor) };
    }
}
