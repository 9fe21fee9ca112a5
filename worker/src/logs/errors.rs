//! The error logs of a process: the script's tracebacks (`logs/user/error`) and our own errors (`logs/sys/error`).
//!
//! `2020-09-17 09:43:39,318|ERROR|230|Failed to process {…} with error …. Detail: Traceback …`, then one line
//! `…|ERROR|230|stderr: …` for each captured line: the original's form. A traceback that has been written 100 times is then only
//! named by its number, so that a script that always fails the same way does not fill the file with it.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use fanfold_shared::clock::Stamper;
use fanfold_shared::message::AttemptError;
use fanfold_shared::text::harmless;

use super::file::{FILE_CAP, Level, LogFile, prefix};

/// Times that one traceback is written in full.
const FULL: u32 = 100;
/// Distinct tracebacks that are remembered; later ones are always written in full.
const REMEMBERED: usize = 1000;

/// Where in the life of a process an error came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Loading the entry script or running `init()`.
    Init,
    /// An attempt of a mini-batch.
    Run {
        /// Which.
        mini_batch: u64,
        /// Counted from 1.
        attempt: u32,
        /// Its items.
        total: u64,
    },
    /// `shutdown()`.
    Shutdown,
}

/// `logs/user/error/<node>/<process>.txt`: every failure of the script in this process, with its traceback. On the disk when
/// a call returns.
#[derive(Debug)]
pub struct UserErrorLog {
    file: LogFile,
    stamper: Stamper,
    process: String,
    /// How often each traceback was met, by its hash; and its number in this file.
    met: HashMap<u64, (usize, u32)>,
}

impl UserErrorLog {
    /// The log at `path` of the process called `process` (`process000`).
    pub fn new(path: PathBuf, process: &str) -> UserErrorLog {
        UserErrorLog {
            file: LogFile::new(path, FILE_CAP),
            stamper: Stamper::default(),
            process: process.to_string(),
            met: HashMap::new(),
        }
    }

    /// Notes a failure of the process `pid`.
    pub fn failure(&mut self, now_us: u64, pid: u32, stage: Stage, error: &AttemptError) {
        let what = match stage {
            Stage::Init => format!(
                "Failed to start {{\"agent\": \"{}\", \"method\": \"init\", \"kind\": \"{}\"}}",
                self.process,
                error.kind.name()
            ),
            Stage::Run { mini_batch, attempt, total } => format!(
                "Failed to process {{\"agent\": \"{}\", \"mini_batch\": {mini_batch}, \"attempt\": {attempt}, \"total\": {total}, \
                 \"method\": \"run\", \"kind\": \"{}\"}}",
                self.process,
                error.kind.name()
            ),
            Stage::Shutdown => {
                format!("Failed to shut down {{\"agent\": \"{}\", \"method\": \"shutdown\"}}", self.process)
            }
        };
        let detail = self.detail(&error.traceback);
        let Self { file, stamper, .. } = self;
        file.line(|out| {
            prefix(out, stamper, now_us, Level::Error, pid);
            out.extend_from_slice(what.as_bytes());
            out.extend_from_slice(b" with error ");
            out.extend_from_slice(harmless(error.message.trim_end()).as_bytes());
            out.extend_from_slice(b".");
            out.extend_from_slice(detail.as_bytes());
            for line in error.stderr.lines() {
                out.push(b'\n');
                prefix(out, stamper, now_us, Level::Error, pid);
                out.extend_from_slice(b"stderr: ");
                out.extend_from_slice(harmless(line).as_bytes());
            }
        });
        file.flush();
    }

    fn detail(&mut self, traceback: &str) -> String {
        let traceback = traceback.trim_end();
        if traceback.is_empty() {
            return String::new();
        }
        let mut hasher = DefaultHasher::new();
        traceback.hash(&mut hasher);
        let (next, room) = (self.met.len() + 1, self.met.len() < REMEMBERED);
        let entry = match self.met.get_mut(&hasher.finish()) {
            Some(entry) => entry,
            None if room => self.met.entry(hasher.finish()).or_insert((next, 0)),
            None => return format!(" Detail: {}", harmless(traceback)),
        };
        entry.1 = entry.1.saturating_add(1);
        match *entry {
            (number, 1..=FULL) => format!(" Detail (traceback {number}): {}", harmless(traceback)),
            (number, _) => format!(" Detail: as traceback {number} above"),
        }
    }
}

/// `logs/sys/error/<node>/…`: what went wrong on our side. On the disk when a call returns.
#[derive(Debug)]
pub struct SysErrorLog {
    file: LogFile,
    stamper: Stamper,
}

impl SysErrorLog {
    /// The log at `path`.
    pub fn new(path: PathBuf) -> SysErrorLog {
        SysErrorLog { file: LogFile::new(path, FILE_CAP), stamper: Stamper::default() }
    }

    /// Notes an error of the process `pid` (for the node itself: our own).
    pub fn error(&mut self, now_us: u64, pid: u32, text: &str) {
        let Self { file, stamper } = self;
        file.line(|out| {
            prefix(out, stamper, now_us, Level::Error, pid);
            out.extend_from_slice(harmless(text.trim_end()).as_bytes());
        });
        file.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fanfold_shared::message::ErrorKind;

    use super::*;

    const THEN: u64 = 1_795_228_735_049_000;

    #[test]
    fn failures_read_as_in_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.txt");
        let mut log = UserErrorLog::new(path.clone(), "process000");
        let mut error = AttemptError {
            kind: ErrorKind::Init,
            message: "ModuleNotFoundError: No module named 'torch'".into(),
            traceback:
                "Traceback (most recent call last):\n  File \"score.py\", line 1, in <module>\n    import torch\n"
                    .into(),
            stderr: String::new(),
            of_all: false,
        };
        log.failure(THEN, 230, Stage::Init, &error);
        error = AttemptError {
            kind: ErrorKind::Signal,
            message: "killed by SIGSEGV (signal 11) in run()".into(),
            traceback: String::new(),
            stderr: "Segmentation fault\n\x1b[31mcore dumped".into(),
            of_all: false,
        };
        log.failure(THEN, 231, Stage::Run { mini_batch: 7, attempt: 2, total: 10 }, &error);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"2026-11-21 02:38:55,049|ERROR|230|Failed to start {"agent": "process000", "method": "init", "kind": "init"} with error ModuleNotFoundError: No module named 'torch'. Detail (traceback 1): Traceback (most recent call last):
  File "score.py", line 1, in <module>
    import torch
2026-11-21 02:38:55,049|ERROR|231|Failed to process {"agent": "process000", "mini_batch": 7, "attempt": 2, "total": 10, "method": "run", "kind": "signal"} with error killed by SIGSEGV (signal 11) in run().
2026-11-21 02:38:55,049|ERROR|231|stderr: Segmentation fault
2026-11-21 02:38:55,049|ERROR|231|stderr: \x1b[31mcore dumped
"#
        );
    }

    #[test]
    fn a_traceback_is_written_in_full_a_hundred_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.txt");
        let mut log = UserErrorLog::new(path.clone(), "process000");
        let error = AttemptError {
            kind: ErrorKind::Exception,
            message: "ValueError: bad".into(),
            traceback: "Traceback: the long story".into(),
            stderr: String::new(),
            of_all: false,
        };
        for mini_batch in 0..150 {
            log.failure(THEN, 1, Stage::Run { mini_batch, attempt: 1, total: 1 }, &error);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("the long story").count(), 100);
        assert_eq!(text.matches("Detail: as traceback 1 above").count(), 50);
    }

    #[test]
    fn an_error_log_on_a_full_disk_stops_nobody() {
        SysErrorLog::new("/dev/full".into()).error(THEN, 1, "nowhere to go");
    }
}
