//! The direct children of this program that somebody waits for, and how they are started.
//!
//! A process has one set of children, so there is one registry for the whole program. Its lock is held while a child is
//! being started: until the child has executed its own program it looks like a copy of us, without a mark and in a session of
//! its own, which is what a forgotten orphan looks like too.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};

static FAMILY: Mutex<Family> = Mutex::new(Family { slots: BTreeSet::new(), guardians: BTreeSet::new() });

/// Added to a child's badness when the kernel looks for memory: it is to find the script before the worker.
const OOM_SCORE_ABOVE_OURS: i32 = 200;

/// Who our children are. An entry stays when its process is gone: it only says that the pid was not an orphan's, and the
/// next process that we start with that pid is not one either.
pub(super) struct Family {
    slots: BTreeSet<i32>,
    guardians: BTreeSet<i32>,
}

impl Family {
    /// The registry. No child is being started while the guard is held.
    pub fn lock() -> MutexGuard<'static, Family> {
        FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `pid` is, or was, a Python process.
    pub fn is_slot(&self, pid: i32) -> bool {
        self.slots.contains(&pid)
    }

    /// Whether somebody holds a handle of `pid` and will wait for it.
    pub fn is_waited_for(&self, pid: i32) -> bool {
        self.slots.contains(&pid) || self.guardians.contains(&pid)
    }

    /// Starts a slot's process: in a session of its own, killed when the calling **thread** ends, before us in the eyes of
    /// the out-of-memory killer.
    pub fn start_slot(&mut self, command: &mut Command) -> io::Result<Child> {
        let us = std::process::id() as i32;
        let score = oom_score_of_children();
        // SAFETY: between fork and exec the closure makes system calls only, on values that were computed before.
        unsafe {
            command.pre_exec(move || {
                new_session()?;
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
        let child = command.spawn()?;
        self.slots.insert(child.id() as i32);
        // From here: a worker keeps its own `/proc` from its user (see `main.rs`), and so would the child before it executes.
        // Failing is no reason not to start: it decides nothing but whom the kernel kills first.
        if let Some(score) = score {
            let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), score);
        }
        Ok(child)
    }

    /// Starts a guardian: in a session of its own, and with the descriptors `keep` left open.
    pub fn start_guardian(&mut self, command: &mut Command, keep: Vec<i32>) -> io::Result<Child> {
        // SAFETY: between fork and exec the closure makes system calls only. The descriptors are open in the parent, whose
        // own close-on-exec flags are not touched: flags belong to the table of descriptors, and fork has copied it.
        unsafe {
            command.pre_exec(move || {
                new_session()?;
                for &descriptor in &keep {
                    if libc::fcntl(descriptor, libc::F_SETFD, 0) == -1 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        self.guardians.insert(child.id() as i32);
        Ok(child)
    }
}

fn new_session() -> io::Result<()> {
    // SAFETY: takes no memory.
    if unsafe { libc::setsid() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What to write to a child's `oom_score_adj`; None where ours can't be read.
fn oom_score_of_children() -> Option<Vec<u8>> {
    let ours: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    Some((ours + OOM_SCORE_ABOVE_OURS).min(1000).to_string().into_bytes())
}
