//! No child outlives its worker (`docs/design/processes.md`).
//!
//! Every Python process is started by [`Guard::spawn`]: in a session of its own, with a death signal, and with a mark in its
//! environment that all its descendants inherit. [`Guard::sweep`] kills what one process leaves, [`Guard::stop`] what the run
//! leaves; if the worker dies before it can, by `kill -9` even, its guardian does, and if that one was killed as well, the next
//! start does ([`sweep_leftovers`]). All of it kills at once: asking politely first is the supervisor's business.
//!
//! [`die_reason`] and [`OomWatch`] say what a process died of.

mod death;
mod family;
mod guardian;
mod marker;
mod oom;
mod proc_table;
mod sweep;

use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Child, Command};
use std::time::Duration;

use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::report::{ExitCode, Report};

pub use death::die_reason;
pub use guardian::run_if_guard;
pub use marker::VARIABLE;
pub use oom::OomWatch;
pub use sweep::{Survivor, Swept};

use family::Family;
use guardian::Guardian;
use marker::{Mark, Scope};
use sweep::Sweep;

/// How long a sweep may take before it reports who won't die.
const LIMIT: Duration = Duration::from_secs(5);

/// Answers for all processes of one run of one node.
///
/// Dropped without [`Guard::stop`], it leaves the sweep to its guardian.
pub struct Guard {
    mark: Mark,
    since: u64,
    guardian: Guardian,
}

impl Guard {
    /// Begins a run: makes this program the one that its descendants' orphans come to, and starts the guardian, without
    /// waiting for it. The descriptors in `keep` (the locks of devices) stay open in the guardian until nothing of this run is left.
    ///
    /// The program's `main` must call [`run_if_guard`] first: the guardian is the same executable.
    pub fn start(job: &JobId, node: &NodeId, keep: &[BorrowedFd<'_>]) -> Result<Guard, GuardError> {
        // SAFETY: takes integers.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } == -1 {
            return Err(GuardError { operation: "adopt orphans", source: io::Error::last_os_error() });
        }
        let mark = Mark::new(job, node).map_err(|source| GuardError { operation: "draw a token", source })?;
        // Without /proc nothing can be swept either; 0 leaves nobody out.
        let since = proc_table::read(std::process::id() as i32).map_or(0, |us| us.started);
        let guardian = Guardian::start(&mark.token, since, keep)
            .map_err(|source| GuardError { operation: "start the guardian process", source })?;
        Ok(Guard { mark, since, guardian })
    }

    /// The random token of this run.
    pub fn token(&self) -> &str {
        &self.mark.token
    }

    /// The process id of the guardian.
    pub fn guardian(&self) -> u32 {
        self.guardian.pid()
    }

    /// The environment variable that marks `process`, and its value; [`Guard::spawn`] sets it.
    pub fn marker(&self, process: ProcessNumber) -> (&'static str, String) {
        (VARIABLE, self.mark.value(process))
    }

    /// Starts `command` as `process`: marked, leading a session of its own (so that its pid is its session's id), killed by
    /// the kernel when the calling **thread** ends, and the kernel's choice before the worker when memory runs out.
    ///
    /// The child belongs to the caller, who waits for it; nothing here does.
    pub fn spawn(&self, command: &mut Command, process: ProcessNumber) -> io::Result<Child> {
        let (name, value) = self.marker(process);
        Family::lock().start_slot(command.env(name, value))
    }

    /// Kills everything that belongs to `process`, whose child was or is `pid`, and waits until it is gone; 5 s at most.
    /// The child itself is left to be waited for.
    pub fn sweep(&self, process: ProcessNumber, pid: u32) -> Swept {
        let scope = Scope::Process { token: self.mark.token.clone(), process };
        Sweep { scope, session: Some(pid as i32), since: self.since, orphans: true }.run(LIMIT)
    }

    /// Kills everything that belongs to this run. 5 s at most; the children themselves are left to be waited for.
    pub fn sweep_all(&self) -> Swept {
        let scope = Scope::Run { token: self.mark.token.clone() };
        Sweep { scope, session: None, since: self.since, orphans: true }.run(LIMIT)
    }

    /// Reaps dead orphans: a script may daemonize a helper for every mini-batch, and each would stay a zombie until the
    /// job's end. One system call where nobody died; to be called now and then.
    pub fn reap_orphans(&self) {
        sweep::reap_orphans();
    }

    /// Ends the run: sweeps, and dismisses the guardian. If something survived, the guardian stays to go on trying (for a
    /// minute), and holds on to what it was given to keep.
    pub fn stop(mut self) -> Swept {
        let swept = self.sweep_all();
        if swept.survivors.is_empty() {
            self.guardian.dismiss();
        } else {
            self.guardian.hand_over();
        }
        swept
    }
}

/// Kills what former runs of this node of this job have left, their guardians killed too. Nobody else may be this
/// node now: the caller holds the job's lock. Looks into the environment of every process that it may (some 20 µs each).
///
/// To be called before [`Guard::start`].
pub fn sweep_leftovers(job: &JobId, node: &NodeId) -> Swept {
    let scope = Scope::Node { job: job.clone(), node: node.clone() };
    Sweep { scope, session: None, since: 0, orphans: false }.run(LIMIT)
}

/// The mark for what builds the environment that `name` stands for, which belongs to no run: name and value of the variable.
pub(crate) fn mark_of_build(name: &str) -> io::Result<(&'static str, String)> {
    let (job, node) = build(name);
    Ok((VARIABLE, Mark::new(&job, &node)?.value(ProcessNumber(0))))
}

/// Kills what a dead builder of the environment `name` has left. The caller holds that environment's lock.
pub(crate) fn sweep_build(name: &str) -> Swept {
    let (job, node) = build(name);
    sweep_leftovers(&job, &node)
}

/// No job is called so: job ids end in a dash and eight characters.
fn build(name: &str) -> (JobId, NodeId) {
    (JobId("environment".into()), NodeId(name.into()))
}

/// What keeps a run from being guarded.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct GuardError {
    operation: &'static str,
    source: io::Error,
}

impl Report for GuardError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Failed
    }

    fn hint(&self) -> Option<String> {
        match self.source.raw_os_error() {
            Some(libc::EAGAIN) => Some("this user has too many processes: see `ulimit -u` and `pids.max`".into()),
            Some(libc::EMFILE | libc::ENFILE) => Some("too many files are open: see `ulimit -n`".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
