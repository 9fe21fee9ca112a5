//! Runs one step of a build: its output line by line to whoever listens, and nothing of it left when it is cut short.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How a step ended.
pub(super) enum Ended {
    Exited(ExitStatus),
    /// It was killed because `cancel` was set.
    Canceled,
}

/// Runs `command` in a process group of its own, standard output and error together, and gives each line of it to `line`. Looks
/// at `cancel` ten times a second. The group is killed by cancelling, the process itself also by our death.
///
/// The calling thread must live until this returns: the death signal is tied to it.
pub(super) fn run(command: &mut Command, cancel: &AtomicBool, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
    let (read, write) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write).process_group(0);
    let us = std::process::id() as i32;
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            // Whoever died before the call above sends no signal any more.
            if libc::getppid() != us {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    // The command holds the pipe's writing end, and so would keep its end from being seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let outcome = follow(&mut child, File::from(std::os::fd::OwnedFd::from(read)), cancel, line);
    if !matches!(outcome, Ok(Ended::Exited(_))) {
        // The child is not reaped yet, so the group's number is still its own.
        // SAFETY: takes two integers.
        unsafe { libc::killpg(child.id() as i32, libc::SIGKILL) };
        child.wait()?;
    }
    outcome
}

fn follow(child: &mut Child, mut read: File, cancel: &AtomicBool, line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
    let mut lines = Lines::default();
    let mut buffer = [0u8; 8192];
    loop {
        if cancel.load(Ordering::Relaxed) {
            lines.end(line);
            return Ok(Ended::Canceled);
        }
        let mut ready = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
        let is_ready = match poll(&mut ready, PollTimeout::from(100u8)) {
            Ok(count) => count > 0,
            Err(nix::errno::Errno::EINTR) => false,
            Err(error) => return Err(error.into()),
        };
        let length = if is_ready { read.read(&mut buffer)? } else { 0 };
        if length > 0 {
            lines.add(&buffer[..length], line);
            continue;
        }
        // Silence, or the end of the output: something that the child left behind may hold the pipe open for ever, and a
        // child may close its output and live on.
        if let Some(status) = child.try_wait()? {
            lines.end(line);
            return Ok(Ended::Exited(status));
        }
        if is_ready {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Longer lines are cut: nobody reads them, and memory is finite.
    const LONGEST: usize = 16 * 1024;

    fn add(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            // Progress bars end their lines with a carriage return.
            if byte == b'\n' || byte == b'\r' {
                self.end(line);
            } else if self.open.len() < Self::LONGEST {
                self.open.push(byte);
            }
        }
    }

    fn end(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.open.is_empty() {
            line(String::from_utf8_lossy(&self.open).trim_end());
            self.open.clear();
        }
    }
}

/// The last lines of an output, and its copies in files. A full log disk never stops a build.
pub(super) struct Transcript<'a> {
    files: Vec<File>,
    last: std::collections::VecDeque<String>,
    progress: &'a mut dyn FnMut(&str),
}

impl<'a> Transcript<'a> {
    /// How many of the last lines are kept for the error.
    const KEPT: usize = 15;

    pub fn new(files: Vec<File>, progress: &'a mut dyn FnMut(&str)) -> Transcript<'a> {
        Transcript { files, last: Default::default(), progress }
    }

    pub fn line(&mut self, line: &str) {
        for file in &mut self.files {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.to_string());
        (self.progress)(line);
    }

    pub fn last_lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str, cancel: &AtomicBool, mut line: impl FnMut(&str)) -> Ended {
        run(Command::new("sh").args(["-c", script]), cancel, &mut line).unwrap()
    }

    #[test]
    fn output_and_errors_come_line_by_line_in_order() {
        let mut lines = Vec::new();
        let script = r#"echo one; echo two >&2; printf 'three\rfour\n\nfive\377'; exit 3"#;
        let ended = run_script(script, &AtomicBool::new(false), |line| lines.push(line.to_string()));
        assert!(matches!(ended, Ended::Exited(status) if status.code() == Some(3)));
        assert_eq!(lines, ["one", "two", "three", "four", "five\u{fffd}"]);
    }

    #[test]
    fn cancelling_kills_the_whole_group() {
        let cancel = AtomicBool::new(false);
        let mut pid = None;
        let ended = run_script("sleep 1000 & echo $!; wait", &cancel, |line| {
            pid = Some(line.to_string());
            cancel.store(true, Ordering::Relaxed);
        });
        assert!(matches!(ended, Ended::Canceled));
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_ref().unwrap())).unwrap_or_default();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(std::time::Instant::now() < deadline, "{}", state());
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_step_leaves_behind_does_not_hold_it_up() {
        let mut pid = 0;
        let ended = run_script("sleep 1000 & echo $!", &AtomicBool::new(false), |line| pid = line.parse().unwrap());
        assert!(matches!(ended, Ended::Exited(status) if status.success()));
        // SAFETY: takes two integers.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    #[test]
    fn the_last_lines_are_kept_and_all_go_to_the_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut ignore = |_: &str| {};
        let mut transcript = Transcript::new(vec![file.reopen().unwrap()], &mut ignore);
        (0..40).for_each(|n| transcript.line(&format!("line {n}")));
        let last = transcript.last_lines();
        assert_eq!((last.len(), last[0].as_str()), (15, "line 25"));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 40);
    }
}
