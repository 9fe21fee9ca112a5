//! Kills everything that belongs to a process, a run or a node, and looks again until nothing of it is left.
//!
//! To it belongs: its process group and session; whatever carries its mark in the environment; the descendants of these;
//! and orphans of nobody else's (see [`Sweep::orphans`]). What is forked between a look and its kill is found by the next
//! look, as its parent's mark and session are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::family::Family;
use super::guardian;
use super::marker::{Scope, VARIABLE};
use super::proc_table::{self, Environ, Process};

/// On a machine where processes come and go all the time, every look misses some. After so many looks in a row that found
/// nothing of ours, what they missed was not ours either.
const MOST_MISSES: u32 = 50;

/// How long a look waits for one process to be done with executing a program.
const EXEC_TAKES: Duration = Duration::from_millis(3);

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were killed.
    pub killed: usize,
    /// Processes that did not die within the limit.
    pub survivors: Vec<Survivor>,
}

/// A process that SIGKILL has not ended so far: usually one that waits in the kernel (state `D`) for a disk or a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Its process id.
    pub pid: u32,
    /// The letter of `ps`: `D` waits in the kernel.
    pub state: char,
    /// Its name, at most 15 bytes.
    pub name: String,
}

impl std::fmt::Display for Survivor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Survivor { pid, state, name } = self;
        write!(f, "{name} (process id {pid}, state {state})")
    }
}

impl From<Process> for Survivor {
    fn from(process: Process) -> Survivor {
        Survivor { pid: process.pid as u32, state: process.state, name: process.name }
    }
}

/// What to kill.
pub(super) struct Sweep {
    pub scope: Scope,
    /// The session and process group that the direct child leads.
    pub session: Option<i32>,
    /// No marked process is older; in clock ticks since boot. Spares the look at the environment of most processes.
    pub since: u64,
    /// Whether our own orphans without any mark count: those that left their session *and* cleared their environment, and
    /// came to us, the subreaper, when their parent died. Nothing tells any more which process they were of, so they are
    /// killed only when no other process of ours is alive.
    pub orphans: bool,
}

impl Sweep {
    /// Kills until two looks in a row find nothing alive, or `limit` is over. Zombies that came to us are reaped,
    /// the children that somebody waits for are not.
    pub fn run(&self, limit: Duration) -> Swept {
        let deadline = Instant::now() + limit;
        let mut memory = Memory::default();
        let mut quiet = 0;
        let mut misses = 0;
        let mut pause = Duration::from_millis(1);
        loop {
            let Look { alive, missed, in_exec } = self.look_and_kill(&mut memory);
            reap_orphans();
            let now = Instant::now();
            if alive.is_empty() && !in_exec && (!missed || misses >= MOST_MISSES) {
                quiet += 1;
                // Once something had to be killed, one empty look proves little: the table is not read at one instant.
                if memory.killed.is_empty() || quiet == 2 {
                    return Swept { killed: memory.killed.len(), survivors: Vec::new() };
                }
                continue;
            }
            if alive.is_empty() {
                misses += u32::from(missed);
            } else {
                (quiet, misses) = (0, 0);
            }
            if now >= deadline {
                return Swept {
                    killed: memory.killed.len(),
                    survivors: alive.into_iter().map(Survivor::from).collect(),
                };
            }
            std::thread::sleep(pause);
            if !alive.is_empty() {
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }

    fn look_and_kill(&self, memory: &mut Memory) -> Look {
        let family = Family::lock();
        let Ok(pids) = proc_table::pids() else {
            // Without /proc there is nothing to look at; the group is what can be named blindly.
            if let Some(session) = self.session {
                // SAFETY: takes two integers.
                unsafe { libc::killpg(session, libc::SIGKILL) };
            }
            return Look { alive: Vec::new(), missed: false, in_exec: false };
        };
        let us = std::process::id() as i32;
        let session = self.session.filter(|&session| self.is_still_ours(session, us));
        let (mut missed, mut in_exec) = (false, false);
        let mut members = BTreeSet::new();
        let mut table = Vec::new();
        for pid in pids {
            let Some(process) = proc_table::read(pid) else {
                // Who ended since the list was made may have been of ours, and have started another one in time.
                missed |= !memory.others.contains_key(&pid);
                continue;
            };
            let is_member = session.is_some_and(|session| process.session == session || process.group == session)
                || match memory.says(&process).unwrap_or_else(|| self.ask(&process)) {
                    Answer::Marked => true,
                    Answer::Unmarked => {
                        memory.others.insert(pid, process.started);
                        false
                    }
                    Answer::InExec => {
                        in_exec = true;
                        false
                    }
                    Answer::Ended => {
                        // The dead say nothing, however often they are asked.
                        if !process.is_alive() {
                            memory.others.insert(pid, process.started);
                        }
                        missed = true;
                        false
                    }
                };
            if is_member && pid != us {
                // At once, not when all are known: a process that keeps starting the next one lives for about as long as a look.
                memory.kill(&process);
                members.insert(pid);
            }
            table.push(process);
        }
        if self.orphans && us != 1 && !self.others_live(&table, &family, us) {
            let orphans = table.iter().filter(|process| self.is_unmarked_orphan(process, &family, us));
            members.extend(orphans.map(|process| process.pid));
        }
        add_descendants(&mut members, &table, us);
        let alive: Vec<Process> =
            table.into_iter().filter(|process| process.is_alive() && members.contains(&process.pid)).collect();
        for process in &alive {
            memory.kill(process);
        }
        Look { alive, missed, in_exec }
    }

    fn ask(&self, process: &Process) -> Answer {
        if process.started < self.since {
            return Answer::Unmarked;
        }
        // Executing a program takes about a millisecond. What executes one after the other is caught only by watching.
        let until = Instant::now() + EXEC_TAKES;
        loop {
            match proc_table::environ(process) {
                Environ::Known(environ) if self.scope.covers(&environ) => return Answer::Marked,
                Environ::Known(_) => return Answer::Unmarked,
                Environ::Gone => return Answer::Ended,
                Environ::Unclear if Instant::now() < until => std::thread::yield_now(),
                Environ::Unclear => return Answer::InExec,
            }
        }
    }

    /// Once the session's leader is reaped and all its members are gone, its number may be another's.
    fn is_still_ours(&self, session: i32, us: i32) -> bool {
        proc_table::read(session)
            .is_none_or(|leader| leader.parent == us || !leader.is_alive() || self.ask(&leader) == Answer::Marked)
    }

    /// Whether a process of ours is alive that is not to be killed by this sweep.
    fn others_live(&self, table: &[Process], family: &Family, us: i32) -> bool {
        let is_other = |process: &&Process| {
            process.parent == us
                && process.is_alive()
                && family.is_slot(process.pid)
                && Some(process.pid) != self.session
                && self.ask(process) == Answer::Unmarked
        };
        table.iter().any(|process| is_other(&process))
    }

    // As the first process of a container we are the parent of everybody's orphans: the caller asks for pid 1.
    fn is_unmarked_orphan(&self, process: &Process, family: &Family, us: i32) -> bool {
        process.parent == us
            && process.is_alive()
            && process.started >= self.since
            && process.session != our_session()
            && !family.is_waited_for(process.pid)
            && matches!(proc_table::environ(process), Environ::Known(environ) if !carries_a_mark(&environ))
            // The guardian of a worker that a script started still has work to do, and ends by itself.
            && !guardian::is_guardian(process.pid)
    }
}

/// What one look found.
struct Look {
    alive: Vec<Process>,
    /// Whether a process ended before it could be asked: it may have been of ours, and have started another one.
    missed: bool,
    /// Whether a process is executing a program and can't be asked yet.
    in_exec: bool,
}

/// What a process says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Marked,
    Unmarked,
    /// It can't be told yet.
    InExec,
    /// It can't be told any more.
    Ended,
}

/// What a sweep knows from its former looks.
#[derive(Default)]
struct Memory {
    /// Pid and start of what was killed.
    killed: BTreeSet<(i32, u64)>,
    /// Pid and start of what carries no mark: it can't get one later.
    others: BTreeMap<i32, u64>,
}

impl Memory {
    fn says(&self, process: &Process) -> Option<Answer> {
        if self.killed.contains(&(process.pid, process.started)) {
            // A process that hangs in its last system call (the driver of a GPU) has no environment any more.
            Some(Answer::Marked)
        } else if self.others.get(&process.pid) == Some(&process.started) {
            Some(Answer::Unmarked)
        } else {
            None
        }
    }

    fn kill(&mut self, process: &Process) {
        if process.is_alive() {
            proc_table::kill(process);
            self.killed.insert((process.pid, process.started));
        }
    }
}

fn add_descendants(members: &mut BTreeSet<i32>, table: &[Process], us: i32) {
    // Children may stand before their parents in the table.
    loop {
        let before = members.len();
        for process in table {
            if process.pid != us && members.contains(&process.parent) {
                members.insert(process.pid);
            }
        }
        if members.len() == before {
            return;
        }
    }
}

fn carries_a_mark(environ: &[u8]) -> bool {
    environ
        .split(|&byte| byte == 0)
        .any(|entry| entry.strip_prefix(VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")))
}

fn our_session() -> i32 {
    // SAFETY: takes no memory.
    unsafe { libc::getsid(0) }
}

/// Reaps the dead that came to us as the subreaper, and nobody that a handle waits for: only what is in another
/// session than ours and was not started by us. One system call where nobody is dead.
pub(super) fn reap_orphans() {
    if !some_child_is_dead() {
        return;
    }
    let family = Family::lock();
    let us = std::process::id() as i32;
    for process in proc_table::table().unwrap_or_default() {
        let is_orphan = process.parent == us && process.session != our_session() && !family.is_waited_for(process.pid);
        if is_orphan && !process.is_alive() {
            // SAFETY: a null status is allowed; the pid is a zombie child of ours, so that this does not wait.
            unsafe { libc::waitpid(process.pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
    }
}

fn some_child_is_dead() -> bool {
    // SAFETY: zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // WNOWAIT looks and leaves the dead where they are.
    // SAFETY: `info` is alive and of the right type.
    let outcome = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
    // SAFETY: waitid filled it, or left the zeros.
    outcome == 0 && unsafe { info.si_pid() } != 0
}
