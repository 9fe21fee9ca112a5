//! The processes of the host, and which of them are the node's.
//!
//! The node's are its Python processes, whatever is in their sessions, and the descendants of these; who was of them stays
//! so when its parent dies. All of a large host are read only for the list; between two lists, who was seen to be
//! another's is not asked again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read;

use fanfold_shared::ids::ProcessNumber;
use procfs::process::{Process, Stat};

use super::command;

/// Bytes of a command line that are looked at.
const COMMAND: u64 = 4096;

/// Memory of GPUs by process id: device and bytes.
pub(super) type Gpu = HashMap<u32, Vec<(u32, u64)>>;

/// A process of the node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Own {
    /// If it is one of the Python processes that the node started itself.
    pub process: Option<ProcessNumber>,
    pub pid: i32,
    pub parent: i32,
    /// When it started, nanoseconds since boot.
    pub started_ns: u64,
    pub cpu_ns: u64,
    pub rss: u64,
    pub threads: i64,
    pub open_files: Option<usize>,
    /// By device.
    pub gpu: Vec<(u32, u64)>,
    pub command: String,
}

/// Any process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub pid: i32,
    pub parent: i32,
    pub user: Option<u32>,
    pub cpu_ns: u64,
    pub rss: u64,
    pub command: String,
}

/// What decides whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kin {
    pid: i32,
    parent: i32,
    session: i32,
    /// With the pid it names a process for good: pids are used again.
    started: u64,
}

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Table {
    own: HashSet<(i32, u64)>,
    others: HashSet<i32>,
}

impl Table {
    /// The node's processes and, if they are wanted, all that can be seen. Those that end meanwhile are missing.
    pub fn look(
        &mut self,
        pythons: &BTreeMap<u32, ProcessNumber>,
        gpu: &Gpu,
        all: bool,
    ) -> (Vec<Own>, Option<Vec<Listed>>) {
        let pids = pids();
        let mut listed = Vec::new();
        let mut stats = Vec::new();
        for &pid in &pids {
            if !all && self.others.contains(&pid) && !pythons.contains_key(&(pid as u32)) {
                continue;
            }
            // One at a time: each holds a descriptor.
            let Ok(process) = Process::new(pid) else { continue };
            let Ok(stat) = process.stat() else { continue };
            if all {
                listed.push(Listed {
                    pid,
                    parent: stat.ppid,
                    user: process.uid().ok(),
                    cpu_ns: cpu_ns(&stat),
                    rss: stat.rss * procfs::page_size(),
                    command: command_of(&process, &stat),
                });
            }
            stats.push(stat);
        }
        let kin: Vec<Kin> = stats.iter().map(kin_of).collect();
        let own = members(&kin, pythons, &self.own);
        // Whoever is new here and not the node's never becomes the node's.
        let new = kin.iter().filter(|kin| !own.contains(&(kin.pid, kin.started))).map(|kin| kin.pid);
        let there: HashSet<i32> = pids.into_iter().collect();
        self.others = if all { new.collect() } else { self.others.intersection(&there).copied().chain(new).collect() };
        let rows = stats.iter().filter(|stat| own.contains(&(stat.pid, stat.starttime)));
        let rows = rows.filter_map(|stat| row(stat, pythons, gpu)).collect();
        self.own = own;
        (rows, all.then_some(listed))
    }
}

/// Ids of all processes that can be seen.
fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn kin_of(stat: &Stat) -> Kin {
    Kin { pid: stat.pid, parent: stat.ppid, session: stat.session, started: stat.starttime }
}

/// Who of `kin` is of the node, by pid and start; `before`: who was, at the last look.
fn members(kin: &[Kin], pythons: &BTreeMap<u32, ProcessNumber>, before: &HashSet<(i32, u64)>) -> HashSet<(i32, u64)> {
    let is_python = |id: i32| pythons.contains_key(&(id as u32));
    let mut pids: HashSet<i32> = HashSet::new();
    // Children may stand before their parents.
    loop {
        let known = pids.len();
        for one in kin {
            let is_own = is_python(one.pid)
                || is_python(one.session)
                || before.contains(&(one.pid, one.started))
                || pids.contains(&one.parent);
            if is_own {
                pids.insert(one.pid);
            }
        }
        if pids.len() == known {
            return kin.iter().filter(|one| pids.contains(&one.pid)).map(|one| (one.pid, one.started)).collect();
        }
    }
}

fn row(stat: &Stat, pythons: &BTreeMap<u32, ProcessNumber>, gpu: &Gpu) -> Option<Own> {
    // The dead take nothing.
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return None;
    }
    let process = Process::new(stat.pid).ok()?;
    let pid = stat.pid as u32;
    Some(Own {
        process: pythons.get(&pid).copied(),
        pid: stat.pid,
        parent: stat.ppid,
        started_ns: ns(stat.starttime),
        cpu_ns: cpu_ns(stat),
        rss: stat.rss * procfs::page_size(),
        threads: stat.num_threads,
        open_files: open_files(stat.pid),
        gpu: gpu.get(&pid).cloned().unwrap_or_default(),
        command: command_of(&process, stat),
    })
}

/// Counted here: on kernels before 6.2 the library counts `.` and `..` as well.
fn open_files(pid: i32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

fn cpu_ns(stat: &Stat) -> u64 {
    ns(stat.utime + stat.stime)
}

fn ns(ticks: u64) -> u64 {
    ticks * (1_000_000_000 / procfs::ticks_per_second())
}

fn command_of(process: &Process, stat: &Stat) -> String {
    let mut line = Vec::new();
    // What can't be read has its name at least.
    let _ = process.open_relative("cmdline").map(|file| file.take(COMMAND).read_to_end(&mut line));
    command::shown(&line, (line.len() as u64) < COMMAND, &stat.comm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(pid: i32, parent: i32, session: i32) -> Kin {
        Kin { pid, parent, session, started: 7 }
    }

    #[test]
    fn what_a_python_process_started_is_the_nodes() {
        let pythons = BTreeMap::from([(50, ProcessNumber(0)), (60, ProcessNumber(1))]);
        let all = [
            kin(1, 0, 1),
            // Of a session of its own, and before its parent.
            kin(40, 51, 40),
            kin(10, 1, 10),
            kin(50, 10, 50),
            kin(51, 50, 50),
            // Its parent has died.
            kin(61, 10, 60),
            kin(60, 10, 60),
            kin(70, 10, 70),
            // Both its parent and its session are gone; once it was seen.
            kin(80, 10, 80),
            // The pid of one that was seen, of another process.
            Kin { started: 8, ..kin(81, 10, 81) },
        ];
        let before = HashSet::from([(80, 7), (81, 7)]);
        let mut own: Vec<i32> = members(&all, &pythons, &before).into_iter().map(|(pid, _)| pid).collect();
        own.sort();
        assert_eq!(own, [40, 50, 51, 60, 61, 80]);
    }

    #[test]
    fn a_child_and_its_child_are_seen_and_others_are_not_asked_twice() {
        let mut table = Table::default();
        let (_, all) = table.look(&BTreeMap::new(), &Gpu::new(), true);
        let us = std::process::id() as i32;
        assert!(all.unwrap().iter().any(|one| one.pid == us && one.rss > 0 && one.user.is_some()));
        assert!(table.others.contains(&us));
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pythons = BTreeMap::from([(child.id(), ProcessNumber(3))]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let own = loop {
            let (own, all) = table.look(&pythons, &Gpu::from([(child.id(), vec![(0, 9)])]), false);
            assert_eq!(all, None);
            // Before it executes its program it looks like the shell.
            if own.iter().any(|one| one.command == "sleep 60") || std::time::Instant::now() > deadline {
                break own;
            }
        };
        let shell = own.iter().find(|one| one.process == Some(ProcessNumber(3))).expect("the shell");
        assert_eq!((shell.parent, shell.threads, &shell.gpu), (us, 1, &vec![(0, 9)]));
        assert!(shell.open_files.unwrap() >= 3 && shell.command.starts_with("sh -c sleep 60"), "{shell:?}");
        let sleep = own.iter().find(|one| one.process.is_none()).expect("what it started");
        assert_eq!((sleep.parent, sleep.command.as_str()), (shell.pid, "sleep 60"));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleep.pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
