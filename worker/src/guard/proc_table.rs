//! The processes of this machine, as `/proc` shows them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Flags of the kernel's `sched.h`, the ninth field of `/proc/<pid>/stat`.
const PF_EXITING: u32 = 0x4;
const PF_KTHREAD: u32 = 0x0020_0000;

/// One process at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// The letter of `ps`: `R`, `S`, `D`, `Z` …
    pub state: char,
    /// Since boot, in clock ticks. With the pid it names a process for good: pids are used again.
    pub started: u64,
    pub name: String,
    /// Whether it was started with no environment at all (or is a thread of the kernel). False says nothing.
    has_no_environment: bool,
    /// Whether it has begun to end: it executes nothing more of its program, and has no memory to look into.
    is_ending: bool,
}

impl Process {
    /// Whether it still runs, however badly: a zombie does not.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The ids of all processes that can be seen, in rising order. Those that end or start meanwhile may be missing.
pub(super) fn pids() -> io::Result<Vec<i32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// All processes that can be seen.
pub(super) fn table() -> io::Result<Vec<Process>> {
    Ok(pids()?.into_iter().filter_map(read).collect())
}

/// The process `pid`, if there is one.
pub(super) fn read(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

fn parse_stat(stat: &str) -> Option<Process> {
    // The name is in parentheses and may itself hold spaces and parentheses: the last one ends it.
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let pid_at = |index: usize| number(index)?.try_into().ok();
    let flags: u32 = number(6)?.try_into().ok()?;
    // Both are 0 while a program is being executed, and where we are not allowed to know.
    let (environ_start, environ_end) = (fields.get(47).copied(), fields.get(48).copied());
    Some(Process {
        pid: pid.parse().ok()?,
        parent: pid_at(1)?,
        group: pid_at(2)?,
        session: pid_at(3)?,
        state: fields.first()?.chars().next()?,
        started: fields.get(19)?.parse().ok()?,
        name: name.to_string(),
        has_no_environment: flags & PF_KTHREAD != 0 || environ_start == environ_end && environ_end != Some("0"),
        is_ending: flags & PF_EXITING != 0,
    })
}

/// The environment that a process was started with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Environ {
    /// NUL-separated. Empty if there is none, or it is not for us to read: a zombie, somebody else's process.
    Known(Vec<u8>),
    /// The process has ended, or another one has its pid.
    Gone,
    /// It is executing a program just now: only another look can tell.
    Unclear,
}

/// Reads the environment of `process`.
pub(super) fn environ(process: &Process) -> Environ {
    let environ = fs::read(format!("/proc/{}/environ", process.pid));
    match (read(process.pid), environ) {
        (Some(now), _) if now.started != process.started => Environ::Gone,
        (None, _) => Environ::Gone,
        (Some(now), _) if now.is_ending || !now.is_alive() => Environ::Gone,
        (Some(_), Ok(environ)) if !environ.is_empty() => Environ::Known(environ),
        // Between the old program's memory and the new one's there is an instant without an environment.
        (Some(now), Ok(_)) if !now.has_no_environment => Environ::Unclear,
        (Some(_), _) => Environ::Known(Vec::new()),
    }
}

/// Whether `argument` is the first argument of `pid`.
pub(super) fn has_first_argument(pid: i32, argument: &str) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command_line.split(|&byte| byte == 0).nth(1) == Some(argument.as_bytes())
}

/// Sends SIGKILL to exactly this process: not to another one that got its pid since.
pub(super) fn kill(process: &Process) {
    // SAFETY: takes two integers and returns a descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
    if descriptor >= 0 {
        // SAFETY: the descriptor was just opened and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        // The descriptor holds whoever has the pid now; only if that is who was meant is it signalled.
        if read(process.pid).is_some_and(|now| now.started == process.started) {
            let no_info = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: the descriptor is open, a null siginfo is allowed.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), libc::SIGKILL, no_info, 0) };
        }
    } else if io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
        && read(process.pid).is_some_and(|now| now.started == process.started)
    {
        // Before Linux 5.3, or out of descriptors: the window between look and signal is a few microseconds.
        // SAFETY: takes two integers.
        unsafe { libc::kill(process.pid, libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_find_ourselves() {
        let own = read(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        // SAFETY: take no memory.
        assert_eq!((own.parent, own.session), unsafe { (libc::getppid(), libc::getsid(0)) });
        assert!(table().unwrap().iter().any(|process| process.pid == own.pid && process.started == own.started));
        assert!(matches!(environ(&own), Environ::Known(environ) if !environ.is_empty()));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) S 1 (b) c) Z 7 8 9 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.name.as_str()), (42, "a) S 1 (b) c"));
        assert_eq!((process.parent, process.group, process.session, process.started), (7, 8, 9, 12345));
        assert!(!process.is_alive());
    }

    #[test]
    fn an_empty_environment_is_known_to_be_empty() {
        let mut child = std::process::Command::new("sleep").arg("60").env_clear().spawn().unwrap();
        let process = read(child.id() as i32).unwrap();
        assert_eq!(environ(&process), Environ::Known(Vec::new()));
        assert_eq!(environ(&Process { started: process.started + 1, ..process }), Environ::Gone);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_has_another_start_time_is_not_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = read(child.id() as i32).unwrap();
        kill(&Process { started: process.started + 1, ..process.clone() });
        assert!(child.try_wait().unwrap().is_none());
        kill(&process);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
