//! Starts one Python process and signals it; knows nothing of mini-batches.
//!
//! Every process is the leader of its own session (a terminal's Ctrl-C does not reach it) and dies with the thread that
//! started it, which is the slot's and lasts as long as the slot (`PR_SET_PDEATHSIG` follows the *thread*).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, pipe2};

/// Room for answers while the worker is busy with a commit.
const PIPE_BYTES: i32 = 1 << 20;

/// What a process is started with.
pub struct Launch<'a> {
    /// The interpreter.
    pub python: &'a Path,
    /// The host program.
    pub host: &'a Path,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub working_dir: &'a Path,
    /// Where descriptor 1 goes.
    pub stdout: &'a Path,
    /// Where descriptor 2 goes.
    pub stderr: &'a Path,
}

/// A running Python process, and the two pipes to its host.
pub struct Process {
    child: Child,
    to_host: File,
    from_host: File,
    pidfd: OwnedFd,
    outbox: Vec<u8>,
    sent: usize,
}

/// What reading from the host brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Something; there may be more.
    Some,
    /// Nothing now.
    Nothing,
    /// The host closed its end.
    End,
}

impl Process {
    /// Starts the process; `spawn` makes it the leader of its own session, and one that dies with the calling thread.
    ///
    /// # Errors
    /// Whatever the operating system says: no such interpreter, no memory, too many processes or descriptors.
    pub fn start(launch: Launch<'_>, spawn: impl FnOnce(&mut Command) -> io::Result<Child>) -> io::Result<Process> {
        let (child_in, to_host) = pipe2(OFlag::O_CLOEXEC)?;
        let (from_host, child_out) = pipe2(OFlag::O_CLOEXEC)?;
        for ours in [&to_host, &from_host] {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        // Only an optimisation, and bounded by the system for ordinary users.
        let _ = fcntl(&from_host, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));

        let kept = [child_in.as_raw_fd(), child_out.as_raw_fd()];
        let mut command = Command::new(launch.python);
        command
            .arg(launch.host)
            .args(kept.map(|fd| fd.to_string()))
            .env_clear()
            .envs(launch.env)
            .current_dir(launch.working_dir)
            .stdin(Stdio::null())
            .stdout(append(launch.stdout)?)
            .stderr(append(launch.stderr)?);
        // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                for fd in kept {
                    if libc::fcntl(fd, libc::F_SETFD, 0) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                // A core of each attempt of a mini-batch that crashes would fill the disk; a script may raise it again.
                let mut core: libc::rlimit = std::mem::zeroed();
                if libc::getrlimit(libc::RLIMIT_CORE, &mut core) == 0 {
                    core.rlim_cur = 0;
                    libc::setrlimit(libc::RLIMIT_CORE, &core);
                }
                // Signals that fanfold blocks must not stay so for the script.
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
                Ok(())
            });
        }
        let child = spawn(&mut command)?;
        let pidfd = pidfd_open(child.id())?;
        Ok(Process { child, to_host: to_host.into(), from_host: from_host.into(), pidfd, outbox: Vec::new(), sent: 0 })
    }

    /// Its process id, which is also that of its session and process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the process ends.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Becomes readable when the host says something.
    pub fn speaks(&self) -> BorrowedFd<'_> {
        self.from_host.as_fd()
    }

    /// Becomes writable when the host took something; to be watched while [`Process::unsent`].
    pub fn listens(&self) -> BorrowedFd<'_> {
        self.to_host.as_fd()
    }

    /// Where frames for the host are appended; [`Process::send`] sends them.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Whether frames wait to be sent.
    pub fn unsent(&self) -> bool {
        self.sent < self.outbox.len()
    }

    /// Sends what the pipe takes. A host that is gone takes everything: its end is noticed elsewhere.
    pub fn send(&mut self) {
        while self.unsent() {
            match self.to_host.write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.sent = self.outbox.len(),
            }
        }
        self.outbox.clear();
        self.sent = 0;
    }

    /// Reads what is there into `buffer`, up to its spare capacity, which must not be empty.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> Received {
        loop {
            let room = buffer.spare_capacity_mut();
            // SAFETY: the kernel writes at most `room.len()` bytes there, and only those it reports become part of the
            // buffer.
            let count = unsafe { libc::read(self.from_host.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
            match count {
                0 => return Received::End,
                // SAFETY: see above.
                count if count > 0 => unsafe {
                    buffer.set_len(buffer.len() + count as usize);
                    return Received::Some;
                },
                _ => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => (),
                    io::ErrorKind::WouldBlock => return Received::Nothing,
                    _ => return Received::End,
                },
            }
        }
    }

    /// Sends a signal to the process and everything in its group. That none is left is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(self.pid() as i32), signal);
    }

    /// Asks the process, and nothing that it started, to write its threads' stacks to stderr.
    pub fn show_stacks(&self) {
        // That it is gone is no error.
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGQUIT);
    }

    /// How the process ended, if it has. It is not reaped: its id can't be given to another process before
    /// [`Process::reap`], so its group can be signalled without danger.
    pub fn end(&self) -> Option<ExitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, dumped)) => {
                Some(ExitStatus::from_raw(signal as i32 | if dumped { 0x80 } else { 0 }))
            }
            _ => None,
        }
    }

    /// Lets the system forget a process that has ended.
    pub fn reap(&mut self) {
        // It can only fail if there is no such child, and then there is nothing to forget.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    /// A process that is not reaped in order, because its slot ends with an error, must not stay.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Opens a log for appending. A log that can't be written never stops work: the text is dropped.
fn append(path: &Path) -> io::Result<Stdio> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    Ok(file.or_else(|_| OpenOptions::new().write(true).open("/dev/null"))?.into())
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers; the descriptor it returns is new and ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}
