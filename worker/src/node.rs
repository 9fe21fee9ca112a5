//! One node of one job: takes tasks, keeps its slots in processes, and says what happens.
//!
//! Threads: the node's own takes tasks from the backend (and lets a suspect run alone); each slot has one. They end when
//! the node is told to, when the backend closes, or when `init` failed too often.

mod ahead;
mod doing;
mod former;
mod handle;
mod init;
mod member;
mod monitoring;
mod plan;
mod say;
mod tasks;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fanfold_shared::backend::{Backend, Gather};
use fanfold_shared::clock;
use fanfold_shared::failpoint;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::items::{Fingerprints, ItemReader};
use fanfold_shared::job::ProfilingModule;
use fanfold_shared::layout::{JobDir, NodeDir, Stream};
use fanfold_shared::message::NodeEvent;
use fanfold_shared::report::{During, Result, is_disk_full};

use crate::cloud::{Cloud, Fetchers};
use crate::devices::{Binding, ChildEnv, NodeDevices, child_env};
use crate::environment;
use crate::equip::Equipment;
use crate::guard::{Guard, OomWatch, Swept};
use crate::host;
use crate::logs::SysErrorLog;
use crate::monitor::Running;
use crate::slot::runner::Slot;
use crate::slot::state::Limits;
use crate::work::Work;

pub use former::{forget_pages, left_running};
pub use handle::{NodeHandle, Order};
pub use member::{Counters, Membership};
pub use plan::NodePlan;

use init::Init;
use member::Member;
use say::Unsafe;

/// Between two looks at whether the node was told to end.
const LOOK: Duration = Duration::from_millis(20);
/// Results are sent when the first has waited so long, nanoseconds.
const FLUSH_NS: u64 = 4_000_000;
/// Bytes of rows that are sent at once.
const FLUSH_BYTES: u64 = 1 << 20;
/// Rows of one mini-batch beyond this go to a file, bytes.
const SPOOL_BYTES: u64 = 8 << 20;
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A node: shared by its threads.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its host's name.
    pub host_name: String,
    /// The job's directory.
    pub job: JobDir,
    /// What it keeps for itself.
    pub dir: NodeDir,
    /// What it does.
    pub plan: NodePlan,
    /// The host program.
    pub host: PathBuf,
    /// The items of the job.
    pub items: ItemReader,
    /// What their files were like when the job first saw them.
    pub fingerprints: Fingerprints,
    /// What brings files at addresses here.
    pub cloud: Option<Arc<Cloud>>,
    /// What it has to do.
    pub work: Work,
    backend: Arc<dyn Backend>,
    /// On a fleet.
    member: Option<Member>,
    /// What was said and is not safe yet.
    pending: Arc<Unsafe>,
    devices: Mutex<NodeDevices>,
    guard: Mutex<Option<Guard>>,
    oom: Mutex<OomWatch>,
    errors: Mutex<SysErrorLog>,
    order: AtomicU8,
    next_process: AtomicU32,
    init: Mutex<Init>,
    /// The job is given up because nothing moves.
    given_up: AtomicBool,
    /// Processes that died before they began anything, without an answer between them.
    barren_deaths: AtomicU32,
    slots_alive: AtomicUsize,
    /// Processes that were started and have not ended.
    running: Arc<Running>,
}

impl Node {
    /// Starts a node. What can't be prepared is an error here; from then on it speaks through the backend.
    ///
    /// # Errors
    /// Directories or files of the node can't be written, the items can't be read, or a thread can't be started.
    pub fn start(job: JobDir, id: NodeId, equipment: Equipment, backend: Arc<dyn Backend>) -> Result<NodeHandle> {
        let Equipment { dir, plan, items, cloud, devices, guard, membership } = equipment;
        let logs = job.logs();
        let any = ProcessNumber(0);
        let directories = [
            logs.process(&id, any),
            logs.user_stream(Stream::Stdout, &id, any),
            logs.user_stream(Stream::Stderr, &id, any),
            logs.entry_script(&id, any),
            logs.user_error(&id, any),
            logs.sys_error(&id, None),
            dir.page(0),
        ];
        for directory in directories.iter().filter_map(|file| file.parent()).chain([job.spool().as_path()]) {
            fs::create_dir_all(directory).during("create", directory)?;
        }
        let host = host::install(environment::user_cache().as_deref(), &dir.python())?;
        let fingerprints = Fingerprints::create(&job.items(), items.entries())?;
        let slots = plan.processes as usize;
        let node = Arc::new(Node {
            host_name: host_name(),
            host,
            items,
            fingerprints,
            cloud,
            work: Work::new(slots).map_err(std::io::Error::from).during("wake", "eventfd")?,
            backend,
            member: membership.map(|membership| Member::new(membership, plan.processes)),
            pending: Arc::default(),
            devices: Mutex::new(devices),
            guard: Mutex::new(Some(guard)),
            oom: Mutex::new(OomWatch::new()),
            errors: Mutex::new(SysErrorLog::new(logs.sys_error(&id, None))),
            order: AtomicU8::new(Order::Work as u8),
            next_process: AtomicU32::new(plan.next_process),
            init: Mutex::new(Init::default()),
            given_up: AtomicBool::new(false),
            barren_deaths: AtomicU32::new(0),
            slots_alive: AtomicUsize::new(slots),
            running: Arc::default(),
            id,
            job,
            dir,
            plan,
        });
        let main = node.clone();
        let thread = thread::Builder::new()
            .name("node".into())
            .spawn(move || main.run())
            .during("start", "the node's thread")?;
        Ok(NodeHandle { node, thread: Some(thread) })
    }

    fn run(self: Arc<Node>) {
        self.say(NodeEvent::Joined {
            host: self.host_name.clone(),
            processes: self.plan.processes,
            devices: lock(&self.devices).names(),
        });
        let monitor = self.start_monitor();
        let beats = self.member.is_some().then(|| self.start_beats()).flatten();
        let fetchers = self.start_fetchers();
        let (alive, all_gone) = mpsc::channel();
        let processes = 0..self.plan.processes as usize;
        let slots: Vec<_> = processes.filter_map(|index| self.start_slot(index, alive.clone())).collect();
        drop(alive);
        match slots.is_empty() {
            false => self.take_tasks(),
            true => self.broken("no thread can be started for any process (see `ulimit -u` and `pids.max`)".into()),
        }
        // Whatever ended the taking: nothing more is begun.
        if self.order() == Order::Work {
            self.tell(Order::Drain);
        }
        if let Some(monitor) = &monitor {
            // While there is still something to be seen.
            monitor.look();
        }
        // What waits in the queue is for others, and so is what the broker sent before it heard that.
        while self.member.is_some() {
            self.take_no_more();
            if all_gone.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        for slot in slots {
            if slot.join().is_err() {
                self.broken("a slot's thread panicked: this is a bug of fanfold".into());
            }
        }
        self.work.drain();
        if fetchers.is_some_and(|fetchers| !fetchers.end()) {
            self.sys_error(None, "a download waits for its server, and is left behind");
        }
        self.stop_guard();
        if let Some(beats) = beats {
            self.stop_beats(beats);
        }
        if let Some(monitor) = monitor {
            self.stop_monitor(monitor);
        }
        // Whoever hears `Left` has heard everything.
        self.wait_until_safe();
        failpoint!("fleet_before_left");
        self.say(NodeEvent::Left);
        self.wait_until_safe();
    }

    /// Starts what brings files here, if any have to be.
    fn start_fetchers(self: &Arc<Node>) -> Option<Fetchers> {
        let cloud = self.cloud.as_ref().filter(|cloud| cloud.has_inputs())?;
        self.work.bring_first(2 * u64::from(self.plan.processes) + 2);
        match Fetchers::start(self, cloud) {
            Ok(fetchers) => Some(fetchers),
            Err(error) => {
                self.broken(format!("cannot start a thread for downloads: {error}"));
                None
            }
        }
    }

    /// Starts the thread of a slot, which holds `alive` for as long as it lives.
    fn start_slot(self: &Arc<Node>, index: usize, alive: Sender<()>) -> Option<thread::JoinHandle<()>> {
        let slot = Slot::new(index, self.clone());
        let node = self.clone();
        let run = move || {
            let _alive = alive;
            let _gone = Gone(&node);
            slot.run();
        };
        let started = thread::Builder::new().name(format!("slot{index}")).spawn(run);
        if let Err(error) = &started {
            self.slots_alive.fetch_sub(1, Ordering::SeqCst);
            // The others do its work.
            self.sys_error(None, &format!("cannot start a thread for slot {index}: {error}"));
        }
        started.ok()
    }

    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::SeqCst);
        // First: what goes back now must not come again.
        self.backend.hold(0);
        self.work.drain();
    }

    /// What the node was told last; it never goes back to something milder.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Work,
            1 => Order::Drain,
            _ => Order::Kill,
        }
    }

    /// Whether the job is given up because nothing moves.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Whether no further process is started because `init` failed too often.
    pub fn gave_up(&self) -> bool {
        lock(&self.init).gave_up
    }

    /// The limits of its processes.
    pub fn limits(&self) -> Limits {
        let run = Duration::from_secs(self.plan.run_invocation_timeout);
        let overhead = Duration::from_secs(self.plan.task_overhead_timeout);
        Limits { run, overhead, init: 3 * run + Duration::from_secs(30), shutdown: overhead, grace: GRACE }
    }

    /// What goes well together in one message.
    pub fn gather(&self) -> Gather {
        self.backend.gather()
    }

    /// The page of a slot.
    pub fn page(&self, slot: usize) -> PathBuf {
        self.dir.page(slot as u32)
    }

    /// The number of the next process, and what it gets in `CUDA_VISIBLE_DEVICES`: decided together, so that devices are
    /// dealt in the order of the numbers whichever slot is first.
    pub fn next_process(&self) -> (ProcessNumber, Binding) {
        let mut devices = lock(&self.devices);
        let number = ProcessNumber(self.next_process.fetch_add(1, Ordering::SeqCst));
        (number, devices.assign(number))
    }

    /// The process and everything it started are gone: the next one may have its device.
    pub fn release_device(&self, process: ProcessNumber) {
        lock(&self.devices).release(process);
    }

    /// The whole environment of a process.
    pub fn child_env(&self, binding: &Binding) -> Vec<(OsString, OsString)> {
        let child = ChildEnv {
            binding,
            gpu_count: lock(&self.devices).found(),
            output_dir: &self.plan.output_dir,
            model_dir: self.plan.model_dir.as_deref(),
            environment_variables: &self.plan.environment_variables,
        };
        child_env(std::env::vars_os(), &child)
    }

    /// Starts a process under the guard: whatever it starts can be found and ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn spawn(&self, command: &mut Command, process: ProcessNumber) -> io::Result<Child> {
        match &*lock(&self.guard) {
            Some(guard) => guard.spawn(command, process),
            None => Err(io::Error::other("the node has left")),
        }
    }

    /// A process was started.
    pub fn process_started(&self, process: ProcessNumber, pid: u32) {
        if let Some(member) = &self.member {
            member.membership.counters.process_starts.fetch_add(1, Ordering::Relaxed);
        }
        self.running.started(process, pid);
    }

    /// A process has ended.
    pub fn process_ended(&self, process: ProcessNumber) {
        self.running.ended(process);
    }

    /// Whether a process that could not be started is simply tried again later: the disk is full, which never fails a job, or
    /// this machine is short of something while other processes of the node go on.
    pub fn is_only_short(&self, error: &io::Error) -> bool {
        is_disk_full(error)
            || matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM))
                && !self.running.is_empty()
    }

    /// Kills what a process left behind. Some text: something would not die.
    pub fn sweep(&self, process: ProcessNumber, pid: u32) -> Option<String> {
        lock(&self.guard).as_ref().and_then(|guard| survivors(&guard.sweep(process, pid)))
    }

    /// Lets the system forget dead orphans that the scripts left to us.
    pub fn reap_orphans(&self) {
        if let Some(guard) = lock(&self.guard).as_ref() {
            guard.reap_orphans();
        }
    }

    /// The last slot is gone: nothing of this run may be left.
    fn stop_guard(&self) {
        let stopped = lock(&self.guard).take().map(Guard::stop);
        if let Some(text) = stopped.as_ref().and_then(survivors) {
            self.sys_error(None, &text);
        }
    }

    /// Whether the kernel killed this process for want of memory.
    pub fn out_of_memory(&self, pid: u32) -> bool {
        lock(&self.oom).killed(pid) == Some(true)
    }

    /// The file that the list begins with: what it is called, and where its header can be read.
    fn first_file(&self) -> Option<serde_json::Value> {
        let path = self.items.paths(0..1).ok()?.pop()?;
        let address = self.items.input_of(0).address(&self.items.item(0).ok()?);
        Some(serde_json::json!({
            "name": address.map_or_else(|| host::path_text(&path), serde_json::Value::from),
            "path": host::path_text(self.plan.header.as_ref().unwrap_or(&path)),
        }))
    }

    /// What the host program of a process is told (`docs/design/host-protocol.md`).
    pub fn host_config(&self, process: ProcessNumber, page: &Path) -> serde_json::Value {
        let logs = self.job.logs();
        let profiling = self.plan.profiling_module.map(ProfilingModule::name);
        serde_json::json!({
            "version": 1,
            "job_id": self.plan.job_id,
            "node_id": self.id,
            "process_name": process.to_string(),
            "entry_script": self.plan.entry_script,
            "working_dir": host::path_text(&self.plan.working_dir),
            "argv": self.plan.argv,
            "separator": self.plan.input_type.separator(),
            "partition_keys": self.plan.partition.as_ref().map_or(&[][..], |partition| &partition.keys),
            "partition_encoding": self.plan.partition.as_ref().filter(|partition| partition.is_by_columns()).map(|_| {
                if self.plan.input_type.is_csv() { self.plan.read_csv.encoding.as_str() } else { "utf-8" }
            }),
            "table": self.plan.input_type.is_table().then(|| serde_json::json!({
                "kind": self.plan.input_type.name(),
                "sep": self.plan.read_csv.sep,
                "encoding": self.plan.read_csv.encoding,
                "header": self.plan.read_csv.header,
                "quotechar": self.plan.read_csv.quotechar,
                "dtype": self.plan.read_csv.dtype,
                "mltable": self.plan.mltable.as_ref().map(|mltable| serde_json::json!({
                    "empty_as_string": mltable.empty_as_string,
                    "header_of": self.plan.header_in_first_file().then(|| self.first_file()).flatten(),
                })),
                "values": self.plan.path_format.as_ref().map_or(&[][..], |format| format.names()),
                "columns": self.plan.column_steps,
            })),
            "output_action": self.plan.output_action,
            "output_format": if self.plan.writes_parquet { "parquet" } else { "text" },
            "row_key": self.plan.row_key,
            "dataframe_header": self.plan.dataframe_header,
            "logging_level": self.plan.logging_level.name(),
            "log_dir": host::path_text(&logs.entry_script_dir(&self.id)),
            "entry_script_log": host::path_text(&logs.entry_script(&self.id, process)),
            "stdout": host::path_text(&logs.user_stream(Stream::Stdout, &self.id, process)),
            "stderr": host::path_text(&logs.user_stream(Stream::Stderr, &self.id, process)),
            "output_dir": host::path_text(&self.plan.output_dir),
            "page": host::path_text(page),
            "spool_dir": host::path_text(&self.job.spool()),
            "flush_ns": FLUSH_NS,
            "flush_bytes": FLUSH_BYTES,
            "spool_bytes": SPOOL_BYTES,
            "profiling_module": profiling,
            "profile": profiling.map(|_| host::path_text(&logs.profile(&self.id, process))),
        })
    }

    /// Notes an error of ours in `logs/sys/error`.
    pub fn sys_error(&self, process: Option<ProcessNumber>, text: &str) {
        let text = process.map_or_else(|| text.to_string(), |process| format!("{process}: {text}"));
        lock(&self.errors).error(clock::wall_us(), std::process::id(), &text);
    }
}

/// Counts a slot's thread out, whichever way it ends.
struct Gone<'a>(&'a Node);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.slots_alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What would not die, for the log.
pub fn survivors(swept: &Swept) -> Option<String> {
    (!swept.survivors.is_empty()).then(|| format!("these processes can't be killed: {:?}", swept.survivors))
}

/// The machine's name, for logs.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
