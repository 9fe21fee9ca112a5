//! The life of one job: started, killed, looked at, started again, until it completes.
//!
//! What [`Life::check`] demands after every death, and what is never forgiven later:
//! - nothing that the program started is left;
//! - `fanfold doctor --verify` finds the ledger and the output file sound;
//! - the committed part of the file is whole mini-batches, each once, row for row, and begins as it did before;
//! - no item that was in the file at the last look has been run since;
//! - no process has the number of another.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use crate::job::{Behaviour, Job};
use crate::support::{LIMIT, wait_for};

/// How a start of the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By SIGKILL.
    Killed,
    /// The job is completed.
    Completed,
    /// It gave up with this exit code; the job is not completed.
    GaveUp(i32),
}

/// A job and what is known about it.
pub struct Life {
    /// The job.
    pub job: Job,
    /// How often the program was killed.
    pub kills: u64,
    /// The mini-batch that may be dropped, and must be in the end.
    pub poison: Option<usize>,
    /// What reproduces this job, for messages.
    seed: u64,
    starts: u32,
    /// The committed bytes of the output at the last look.
    committed: Vec<u8>,
    /// The mini-batches in them.
    settled: BTreeSet<usize>,
    /// How much of the side log was read.
    heard: usize,
    /// Which process of the system had which number.
    processes: HashMap<String, String>,
}

impl Life {
    /// The beginning of `job`.
    pub fn new(job: Job, seed: u64) -> Life {
        Life {
            job,
            kills: 0,
            poison: None,
            seed,
            starts: 0,
            committed: Vec::new(),
            settled: BTreeSet::new(),
            heard: 0,
            processes: HashMap::new(),
        }
    }

    /// Starts the program, with `failpoint` armed if there is one.
    pub fn start(&mut self, failpoint: Option<&str>) -> Running {
        self.starts += 1;
        let log = self.job.place.path(format!("start-{}.log", self.starts));
        let log = File::create(log).unwrap();
        let mut command = self.job.place.fanfold();
        command.args(["run", "job.yaml", "--job-dir", "job"]).stdout(log.try_clone().unwrap()).stderr(log);
        // At every other start tables run from their first mini-batch on, and every further one is told by itself; and where that is what fails.
        if self.starts % 2 == 1 || failpoint.is_some_and(|point| point.starts_with("items_stretch_")) {
            command.env("FANFOLD_SPLIT_GRACE_MS", "0").env("FANFOLD_SPLIT_STRETCH_MS", "0");
        }
        if let Some(failpoint) = failpoint {
            command.env("FANFOLD_FAILPOINT", failpoint);
        }
        Running { child: command.spawn().expect("the program starts") }
    }

    /// Kills the program, and nothing else, unless it has just ended.
    pub fn kill(&mut self, mut running: Running) -> End {
        running.child.kill().expect("our child");
        let status = running.child.wait().expect("our child");
        self.end(status)
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn wait(&mut self, mut running: Running) -> End {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = running.child.try_wait().expect("our child") {
                return self.end(status);
            }
            if Instant::now() > deadline {
                running.child.kill().expect("our child");
                running.child.wait().expect("our child");
                panic!("the program does not end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts the program with `failpoint` armed, and waits for its end.
    #[track_caller]
    pub fn run(&mut self, failpoint: Option<&str>) -> End {
        let running = self.start(failpoint);
        self.wait(running)
    }

    #[track_caller]
    fn end(&mut self, status: ExitStatus) -> End {
        match (status.signal(), status.code()) {
            (Some(9), _) => {
                self.kills += 1;
                End::Killed
            }
            (None, Some(code)) if code == self.job.exit => End::Completed,
            (None, Some(code)) => End::GaveUp(code),
            _ => panic!("the program ended with {status}"),
        }
    }

    /// What the script noted so far.
    pub fn side_log(&self) -> String {
        let text = fs::read(self.job.place.path("side.log")).unwrap_or_default();
        // The last line may be half there while the script runs.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8(text[..whole].to_vec()).expect("ASCII")
    }

    /// Mini-batches begun so far, again and again ones included.
    pub fn runs(&self) -> usize {
        self.side_log().lines().filter(|line| line.starts_with("run ")).count()
    }

    /// The Python processes that live: their pids, and whether `init()` has begun.
    pub fn processes_of_the_job(&self) -> Vec<(i32, bool)> {
        let log = self.side_log();
        let begun: HashSet<&str> =
            log.lines().filter_map(|line| line.strip_prefix("init ")?.split(' ').nth(1)).collect();
        let hosts = self.job.place.processes().into_iter().filter(|(_, command)| command.contains("fanfold_host.py"));
        hosts.map(|(pid, _)| (pid as i32, begun.contains(pid.to_string().as_str()))).collect()
    }

    /// See the module documentation. The program must be dead.
    #[track_caller]
    pub fn check(&mut self) {
        self.job.place.nothing_left().unwrap();
        self.hear();
        self.check_numbers();
        if !self.job.place.job().join(".fanfold/ledger.sqlite").exists() {
            assert!(self.settled.is_empty(), "the ledger is gone");
            assert_eq!(fs::metadata(self.job.partial()).map_or(0, |file| file.len()), 0, "rows without a ledger");
            return;
        }
        let doctor = self.job.place.run(&["doctor", "--verify", "job", "--json"]).expect(0);
        let report: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
        assert_eq!(report["sound"], true, "{report:#}");
        let committed = report["bytes"].as_u64().unwrap() as usize;
        let settled = self.read_output(committed);
        let dropped = report["mini_batches"].as_u64().unwrap() - settled.len() as u64;
        assert!(dropped <= u64::from(self.poison.is_some()), "{dropped} mini-batches were dropped, or their rows lost");
        self.settled = settled;
    }

    /// Reads the committed part of the output, and gives the mini-batches in it.
    #[track_caller]
    fn read_output(&mut self, committed: usize) -> BTreeSet<usize> {
        let bytes = self.job.committed(committed);
        if self.job.ordered && self.job.is_finished() {
            assert_eq!(bytes.len(), self.committed.len().max(bytes.len()), "what was committed is lost");
            let known = self.job.mini_batches.iter().enumerate().filter(|(at, _)| self.poison != Some(*at));
            let rows: Vec<u8> = known.flat_map(|(_, mini_batch)| mini_batch.rows()).collect();
            assert_eq!(bytes, [self.job.header.as_bytes(), &rows].concat(), "the rows are not in order");
        } else {
            assert!(bytes.starts_with(&self.committed), "what was committed has changed");
        }
        self.committed = bytes;

        let mut settled = BTreeSet::new();
        let mut rest = self.committed.as_slice();
        if !rest.is_empty() {
            rest = rest.strip_prefix(self.job.header.as_bytes()).expect("the header comes first");
        }
        while !rest.is_empty() {
            let key = rest.split(|byte| matches!(byte, b' ' | b'\n')).next().expect("split gives one");
            let key = String::from_utf8_lossy(&key[..key.len().min(1000)]).into_owned();
            let at = self.committed.len() - rest.len();
            let Some(&mini_batch) = self.job.of_key.get(&key) else { panic!("byte {at}: {key:?} is no item") };
            let rows = self.job.mini_batches[mini_batch].rows();
            assert!(rest.starts_with(&rows), "byte {at}: the rows of mini-batch {mini_batch} are torn or mixed up");
            assert!(settled.insert(mini_batch), "byte {at}: mini-batch {mini_batch} is in twice");
            rest = &rest[rows.len()..];
        }
        settled
    }

    /// Reads what the script noted since the last look: nothing of what was in by then may have been run.
    #[track_caller]
    fn hear(&mut self) {
        let log = self.side_log();
        for line in log[self.heard..].lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("init") => {
                    let (name, pid) = (words.next().expect("a name"), words.next().expect("a pid"));
                    let before = self.processes.insert(name.into(), pid.into());
                    assert_eq!(before, None, "{name} is the number of two processes, the second is {pid}");
                }
                Some("run") => {
                    let first = words.nth(1).expect("an item");
                    let mini_batch = self.job.of_key[first];
                    let expected = &self.job.mini_batches[mini_batch].keys;
                    let ran: Vec<&str> = line.split(' ').skip(2).collect();
                    assert_eq!(ran, *expected, "a mini-batch is what the split says");
                    assert!(!self.settled.contains(&mini_batch), "mini-batch {mini_batch} was in, and ran again");
                }
                _ => (),
            }
        }
        self.heard = log.len();
    }

    /// No log tells of two processes.
    #[track_caller]
    fn check_numbers(&self) {
        let Ok(logs) = fs::read_dir(self.job.place.job().join("logs/sys/node/0")) else { return };
        for path in logs.flatten().map(|entry| entry.path()) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let started = text.lines().filter(|line| line.contains("started on slot")).count();
            assert!(started <= 1, "{} is the log of {started} processes", path.display());
        }
    }

    /// Lets the job complete if it has not, and compares everything with what must be.
    #[track_caller]
    pub fn finish(&mut self) {
        let end = self.run(None);
        assert_eq!(end, End::Completed);
        self.check();
        let job = &self.job;
        let all = (0..job.mini_batches.len()).filter(|mini_batch| self.poison != Some(*mini_batch));
        assert!(self.settled.iter().copied().eq(all), "mini-batches are missing in the output");
        let written: Vec<_> =
            fs::read_dir(job.place.job().join("output")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(written, [job.output], "the output has its final name, and nothing is left beside it");
        let status = job.place.status();
        assert_eq!((&status["state"], &status["blocked"]), (&"Completed".into(), &serde_json::Value::Null));
        let verdict = fs::read_to_string(job.place.job().join("logs/job_result.txt")).unwrap();
        assert!(verdict.starts_with("State: Completed "), "{verdict}");
        let mut failed = Vec::new();
        for (mini_batch, known) in job.mini_batches.iter().enumerate() {
            if self.poison == Some(mini_batch) {
                failed.push(("node_lost".to_string(), mini_batch as u64, known.keys.len() as u64));
            } else if let Behaviour::Short(missing) = known.behaviour {
                failed.push(("short_return".to_string(), mini_batch as u64, missing as u64));
            }
        }
        let count = |line: &serde_json::Value| {
            let kind = line["kind"].as_str().expect("text").to_string();
            Some((kind, line["mini_batch"].as_u64()?, line["failed_items"].as_u64()?))
        };
        let mut told: Vec<_> = job.place.errors().iter().filter_map(count).collect();
        told.sort_by_key(|(_, mini_batch, _)| *mini_batch);
        assert_eq!(told, failed, "errors.jsonl has each failure once");
        let items: u64 = job.mini_batches.iter().map(|mini_batch| mini_batch.keys.len() as u64).sum();
        let failed: u64 = failed.iter().map(|(_, _, items)| items).sum();
        assert_eq!(status["counts"]["items_failed"], failed);
        assert_eq!(status["counts"]["items_succeeded"], items - failed);

        // A completed job is done: another start runs nothing, and says the same.
        let runs = self.runs();
        assert_eq!(self.run(None), End::Completed);
        assert_eq!(self.runs(), runs, "a completed job was run again");
    }

    /// Waits until `look` at this job gives something, or the program has ended.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        running: &mut Running,
        what: &str,
        mut look: impl FnMut(&Life) -> Option<T>,
    ) -> Option<T> {
        wait_for(what, || {
            let ended = running.has_ended();
            look(self).map(Some).or_else(|| ended.then_some(None))
        })
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "after {} starts and {} kills of the job with FANFOLD_CRASH_SEED={} (set it, and name this test, to run that \
                 job alone)",
                self.starts, self.kills, self.seed
            );
            let job = self.job.place.job();
            let logs = [
                self.job.place.path(format!("start-{}.log", self.starts)),
                job.join("logs/sys/master_role.txt"),
                job.join("logs/sys/error/0/_main.txt"),
            ];
            for log in logs {
                let text = fs::read(&log).unwrap_or_else(|error| error.to_string().into_bytes());
                let text = String::from_utf8_lossy(&text);
                let from = text.lines().count().saturating_sub(30);
                eprintln!("{}:", log.display());
                text.lines().skip(from).for_each(|line| eprintln!("  {line}"));
            }
        }
    }
}

/// A running program.
pub struct Running {
    child: Child,
}

impl Running {
    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that failed; after an end that was waited for, both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
