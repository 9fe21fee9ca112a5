//! Whether a SIGKILL was the kernel's: out of memory.
//!
//! Two witnesses, either of which may be missing (containers, permissions): the kernel's log, which names the pid, and the
//! count of out-of-memory kills of our control group (else of the whole machine), which grows by one for each.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name of the first namespace of process ids, whose numbers the kernel's log uses.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// How long a kill that nobody was blamed for explains a later death: the same kill of a group ends several processes, which
/// are not noticed at once.
const EXPLAINS_FOR: Duration = Duration::from_secs(5);

/// Watches for kills by the kernel.
pub struct OomWatch {
    counter: Option<PathBuf>,
    seen: u64,
    /// Kills counted and not yet matched with a death, and when they were counted.
    unexplained: u64,
    counted_at: Instant,
    log: Option<File>,
    named: Vec<u32>,
}

impl OomWatch {
    /// Begins now: what was killed before is not counted.
    pub fn new() -> OomWatch {
        let first_namespace =
            fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name == Path::new(FIRST_PID_NAMESPACE));
        let log = first_namespace.then(|| open_log(Path::new("/dev/kmsg"))).flatten();
        OomWatch::with(counter_file(Path::new("/proc"), Path::new("/sys/fs/cgroup")), log)
    }

    fn with(counter: Option<PathBuf>, log: Option<File>) -> OomWatch {
        let seen = counter.as_deref().and_then(read_count).unwrap_or(0);
        OomWatch { counter, seen, unexplained: 0, counted_at: Instant::now(), log, named: Vec::new() }
    }

    /// Whether the process `pid`, dead by a SIGKILL that was not ours, was killed for want of memory. None: nobody can tell.
    pub fn killed(&mut self, pid: u32) -> Option<bool> {
        self.read_log();
        let named = self.named.contains(&pid);
        self.named.retain(|&other| other != pid);

        let count = self.counter.as_deref().and_then(read_count);
        if let Some(count) = count {
            if self.counted_at.elapsed() > EXPLAINS_FOR {
                self.unexplained = 0;
            }
            if count > self.seen {
                self.unexplained += count - self.seen;
                self.counted_at = Instant::now();
            }
            self.seen = count;
        }
        let counted = self.unexplained > 0;
        if named || counted {
            self.unexplained = self.unexplained.saturating_sub(1);
            return Some(true);
        }
        // The log alone proves nothing by silence: it may have been overwritten.
        count.map(|_| false)
    }

    fn read_log(&mut self) {
        let Some(log) = &mut self.log else { return };
        // Each read gives one record; EAGAIN ends them, EPIPE says that some were overwritten.
        let mut record = [0u8; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    for line in String::from_utf8_lossy(&record[..length]).lines() {
                        self.named.extend(killed_pid(line));
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => return,
            }
        }
    }
}

impl Default for OomWatch {
    fn default() -> Self {
        OomWatch::new()
    }
}

fn open_log(path: &Path) -> Option<File> {
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    log.seek(SeekFrom::End(0)).ok()?;
    Some(log)
}

/// The pid in `Out of memory: Killed process 1234 (python3) total-vm:…`, `Memory cgroup out of memory: Killed process …`.
fn killed_pid(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("Killed process ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The value of `oom_kill` in a file of lines `<name> <value>`: `memory.events`, `memory.oom_control`, `vmstat`.
fn read_count(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Our control group's count; where there is none to read, the machine's.
fn counter_file(proc: &Path, cgroups: &Path) -> Option<PathBuf> {
    let groups = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let mut candidates = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => (cgroups.to_path_buf(), "memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => (cgroups.join("memory"), "memory.oom_control"),
            _ => continue,
        };
        candidates.push(mount.join(path.trim_start_matches('/')).join(file));
        // A container may be shown its path on the host, under which it finds nothing: its own group is then the root it sees.
        candidates.push(mount.join(file));
    }
    candidates.push(proc.join("vmstat"));
    candidates.into_iter().find(|path| read_count(path).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_count_that_grew_explains_as_many_deaths() {
        let dir = tempfile::tempdir().unwrap();
        let counter = dir.path().join("memory.events");
        write(&counter, "low 0\noom 3\noom_kill 3\noom_group_kill 0\n");
        let mut watch = OomWatch::with(Some(counter.clone()), None);
        assert_eq!(watch.killed(10), Some(false));
        write(&counter, "low 0\noom 4\noom_kill 5\noom_group_kill 0\n");
        assert_eq!(watch.killed(11), Some(true));
        assert_eq!(watch.killed(12), Some(true));
        assert_eq!(watch.killed(13), Some(false));
    }

    #[test]
    fn the_kernels_log_names_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kmsg");
        write(&path, "4,1,2,-;Memory cgroup out of memory: Killed process 41 (old) total-vm:1kB\n");
        let mut watch = OomWatch::with(None, open_log(&path));
        let text = "6,1,2,-;eth0: up\n4,1,2,-;Out of memory: Killed process 42 (python3) total-vm:1kB\n";
        use std::io::Write;
        OpenOptions::new().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        assert_eq!(watch.killed(42), Some(true));
        assert_eq!(watch.killed(42), None, "one line explains one death");
        assert_eq!(watch.killed(41), None, "it died before the watch began");
    }

    #[test]
    fn without_a_witness_nobody_can_tell() {
        assert_eq!(OomWatch::with(None, None).killed(1), None);
        assert_eq!(OomWatch::with(Some("/nonexistent".into()), None).killed(1), None);
    }

    #[test]
    fn the_counter_is_found_in_either_version_of_control_groups() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        write(&proc.join("vmstat"), "nr_free_pages 1\noom_kill 0\n");
        write(&proc.join("self/cgroup"), "5:devices:/\n4:cpu,memory:/docker/abc\n0::/docker/abc\n");
        assert_eq!(counter_file(&proc, &cgroups), Some(proc.join("vmstat")));

        write(&cgroups.join("memory.events"), "oom_kill 0\n");
        assert_eq!(counter_file(&proc, &cgroups), Some(cgroups.join("memory.events")));
        write(&cgroups.join("memory/docker/abc/memory.oom_control"), "oom_kill_disable 0\noom_kill 0\n");
        let version_1 = cgroups.join("memory/docker/abc/memory.oom_control");
        assert_eq!(counter_file(&proc, &cgroups), Some(version_1));
    }

    #[test]
    fn nobody_here_was_killed_with_an_impossible_pid() {
        assert!(OomWatch::new().killed(u32::MAX).is_none_or(|killed| !killed));
    }
}
