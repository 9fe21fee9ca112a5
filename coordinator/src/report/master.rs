//! `logs/sys/master_role.txt`: the coordinator's own log, in the original's form.

use std::sync::{Mutex, PoisonError};

use fanfold_shared::clock::{Stamper, wall_us};
use fanfold_shared::job::LoggingLevel;
use fanfold_shared::layout::Logs;
use fanfold_shared::text::{harmless, push_decimal};
use fanfold_worker::logs::{FILE_CAP, Level, LogFile};

/// Lines `2026-11-21 02:38:55,049|INFO|356|aggregate|text`: time, level, process id, thread. Any thread may write; each line is
/// on its way to the disk when the call returns; write errors are ignored (the lines lost are noted later).
#[derive(Debug)]
pub struct MasterRole {
    level: LoggingLevel,
    pid: u32,
    inner: Mutex<(LogFile, Stamper)>,
}

impl MasterRole {
    /// Continues the log in `logs`, leaving out details below `level`.
    pub fn new(logs: &Logs, level: LoggingLevel) -> MasterRole {
        let file = LogFile::new(logs.master_role(), FILE_CAP);
        MasterRole { level, pid: std::process::id(), inner: Mutex::new((file, Stamper::default())) }
    }

    /// Writes `text`, several lines of which get one prefix.
    pub fn log(&self, level: Level, text: &str) {
        if level.wanted(self.level) {
            self.say(level, text);
        }
    }

    /// Writes what belongs to the job's history (nodes, states, the result) and is not left out at any level.
    pub fn milestone(&self, text: &str) {
        self.say(Level::Info, text);
    }

    fn say(&self, level: Level, text: &str) {
        let thread = std::thread::current();
        self.write(wall_us(), level, self.pid, thread.name().unwrap_or("unnamed"), text);
    }

    fn write(&self, now_us: u64, level: Level, pid: u32, thread: &str, text: &str) {
        // A thread that panicked while it held the lock has at worst left a part of a line.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, stamper) = &mut *inner;
        file.line(|out| {
            stamper.write_log(out, now_us);
            out.push(b'|');
            out.extend_from_slice(level.name().as_bytes());
            out.push(b'|');
            push_decimal(out, pid.into());
            out.push(b'|');
            out.extend_from_slice(thread.as_bytes());
            out.push(b'|');
            out.extend_from_slice(harmless(text).as_bytes());
        });
        file.flush();
    }
}

#[cfg(test)]
mod tests {
    use fanfold_shared::layout::JobDir;

    use super::*;

    #[test]
    fn lines_have_the_original_form_and_the_level_is_honoured() {
        let dir = tempfile::tempdir().unwrap();
        let logs = JobDir::new(dir.path()).logs();
        let master = MasterRole::new(&logs, LoggingLevel::Warning);
        master.log(Level::Info, "not wanted");
        assert!(!logs.master_role().exists());
        master.write(1_795_228_735_049_000, Level::Warning, 356, "aggregate", "node 0 gave up: \x1b[0mno torch");
        master.milestone("Node 0 left");
        master.log(Level::Error, "the job failed");
        let text = std::fs::read_to_string(logs.master_role()).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let (milestone, second) = rest.split_once('\n').unwrap();
        assert_eq!(first, "2026-11-21 02:38:55,049|WARNING|356|aggregate|node 0 gave up: \\x1b[0mno torch");
        assert!(milestone.contains("|INFO|") && milestone.ends_with("|Node 0 left"), "{milestone}");
        assert!(second.contains(&format!("|ERROR|{}|", std::process::id())), "{second}");
        assert!(second.ends_with("|the job failed\n"), "{second}");
    }
}
