//! What a node and its processes take of their host, looked at now and then: `logs/perf/<node>`.
//!
//! Promise: **watching never stops work, and never takes more than a hundredth of a core.** A look that cost more processor time
//! than that is paid for with a longer pause. What can't be read leaves its cells empty; what can't be written is dropped and
//! counted, as in every log.
//!
//! [`sample`] and [`processes`] read `/proc`, [`rows`] and [`command`] make text of it without reading anything, [`books`] keeps
//! the files. This file has the thread, which its node owns: it looks when the node starts, then every interval, and when the
//! node begins to leave, while its processes are still there to be seen.

mod books;
mod command;
mod processes;
mod rows;
mod sample;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::clock;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::layout::Logs;

use books::Books;
use sample::Sampler;

/// One in so many is the processor time that may be spent on looking.
const SHARE: u32 = 100;

/// The Python processes of a node that live, their process ids, and when they were started.
#[derive(Debug, Default)]
pub struct Running(Mutex<BTreeMap<ProcessNumber, (u32, Instant)>>);

impl Running {
    /// A process was started.
    pub fn started(&self, process: ProcessNumber, pid: u32) {
        lock(&self.0).insert(process, (pid, Instant::now()));
    }

    /// It is gone.
    pub fn ended(&self, process: ProcessNumber) {
        lock(&self.0).remove(&process);
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Each, with its process id and the time since it was started.
    pub fn all(&self) -> Vec<(ProcessNumber, u32, Duration)> {
        lock(&self.0).iter().map(|(process, (pid, since))| (*process, *pid, since.elapsed())).collect()
    }

    fn by_pid(&self) -> BTreeMap<u32, ProcessNumber> {
        lock(&self.0).iter().map(|(process, (pid, _))| (*pid, *process)).collect()
    }
}

/// What is watched, and where it is written down.
#[derive(Debug)]
pub struct Watch {
    /// Between two looks.
    pub interval: Duration,
    /// The log tree.
    pub logs: Logs,
    /// The node.
    pub node: NodeId,
    /// What lies on the file systems that are watched.
    pub disks: Vec<PathBuf>,
    /// Whether the node has GPUs: loading NVML can take a second.
    pub gpus: bool,
    /// Its processes.
    pub running: Arc<Running>,
}

/// The thread that looks.
#[derive(Debug)]
pub struct Monitor {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
    gone: Receiver<()>,
}

impl Monitor {
    /// Starts to watch.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(watch: Watch) -> io::Result<Monitor> {
        let bell = Arc::new(Bell::default());
        let (alive, gone) = mpsc::channel();
        let ours = bell.clone();
        let thread = thread::Builder::new().name("monitor".into()).spawn(move || {
            let _alive = alive;
            run(&watch, &ours);
        })?;
        Ok(Monitor { bell, thread, gone })
    }

    /// Looks at once, besides the looks of the interval.
    pub fn look(&self) {
        self.bell.set(|state| state.rung = true);
    }

    /// Ends it, after a look that was asked for. False: something that it reads or writes hangs for longer than `patience`, and it is left
    /// to itself.
    pub fn end(self, patience: Duration) -> bool {
        self.bell.set(|state| state.over = true);
        if self.gone.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        // A panic was printed where it happened.
        let _ = self.thread.join();
        true
    }
}

fn run(watch: &Watch, bell: &Bell) {
    let mut sampler = Sampler::new(watch.disks.clone(), watch.gpus);
    let mut books = Books::new(&watch.logs, &watch.node);
    loop {
        let began = clock::thread_cpu_ns();
        let now = clock::wall_us();
        let sample = sampler.look(now, &watch.running.by_pid(), books.wants_listing(now));
        books.write(sample);
        let cost = Duration::from_nanos(clock::thread_cpu_ns().saturating_sub(began));
        if !bell.wait(watch.interval.max(cost * SHARE)) {
            return;
        }
    }
}

/// What wakes the thread.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    over: bool,
}

impl Bell {
    fn set(&self, change: impl FnOnce(&mut BellState)) {
        change(&mut lock(&self.state));
        self.rung.notify_all();
    }

    /// Waits until the next look is due. False: there is none any more.
    fn wait(&self, pause: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.rung.wait_timeout_while(state, pause, |state| !state.rung && !state.over);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::take(&mut state.rung) || !state.over
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
