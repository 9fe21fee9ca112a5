//! The paths of a job directory and of its log tree (spec section 8). Nothing else spells them.

use std::path::{Path, PathBuf};

use crate::clock;
use crate::ids::{NodeId, ProcessNumber, ScriptNumber};

/// The directory of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDir {
    root: PathBuf,
}

impl JobDir {
    /// The job directory at `root`, which should be absolute.
    pub fn new(root: impl Into<PathBuf>) -> JobDir {
        JobDir { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved job, as validated at submission.
    pub fn job_yaml(&self) -> PathBuf {
        self.root.join("job.yaml")
    }

    /// What readers without the ledger need; replaced about once a second.
    pub fn status_json(&self) -> PathBuf {
        self.root.join("status.json")
    }

    /// One line per failed item or mini-batch.
    pub fn errors_jsonl(&self) -> PathBuf {
        self.root.join("errors.jsonl")
    }

    /// Where the output goes unless the job says otherwise.
    pub fn default_output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// The log of the process that started the job, under the original's name.
    pub fn driver_log(&self) -> PathBuf {
        self.root.join("azureml-logs/70_driver_log.txt")
    }

    /// What fanfold itself keeps in the job directory; nothing in it is meant for the user.
    pub fn internal(&self) -> PathBuf {
        self.root.join(".fanfold")
    }

    /// Held by the coordinator for life (an OFD lock).
    pub fn lock(&self) -> PathBuf {
        self.internal().join("lock")
    }

    /// The ledger, if the job directory is on a local disk.
    pub fn ledger(&self) -> PathBuf {
        self.internal().join("ledger.sqlite")
    }

    /// Holds the ledger's path where it can't lie in the job directory.
    pub fn ledger_pointer(&self) -> PathBuf {
        self.internal().join("ledger.path")
    }

    /// An immutable copy of the entry script and what lies beside it.
    pub fn snapshot(&self, script: ScriptNumber) -> PathBuf {
        self.internal().join(script.in_name("snapshot"))
    }

    /// Where a coordinator on a fleet writes down the nodes that run this script, for the next one.
    pub fn nodes_json(&self, script: ScriptNumber) -> PathBuf {
        self.internal().join(script.in_name("nodes") + ".json")
    }

    /// The list of items (`shared::items`).
    pub fn items(&self) -> PathBuf {
        self.internal().join("items")
    }

    /// Results too large for a message on their way to the output file.
    pub fn spool(&self) -> PathBuf {
        self.internal().join("spool")
    }

    /// What the only node of an embedded job keeps.
    pub fn node(&self, node: &NodeId) -> NodeDir {
        NodeDir::new(self.internal().join("nodes").join(&node.0))
    }

    /// What the job is, for programs; it makes a directory a job's.
    pub fn job_json(&self) -> PathBuf {
        self.internal().join("job.json")
    }

    /// By what a later run recognises that this job was the same, and its result still good.
    pub fn reuse_json(&self) -> PathBuf {
        self.internal().join("reuse.json")
    }

    /// The log tree.
    pub fn logs(&self) -> Logs {
        Logs { root: self.root.join("logs") }
    }
}

/// What one node keeps for itself, and nobody else reads: in the job directory where coordinator and node are one program, on the
/// worker's own disk on a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDir {
    root: PathBuf,
}

impl NodeDir {
    /// The node's directory at `root`, which should be absolute.
    pub fn new(root: impl Into<PathBuf>) -> NodeDir {
        NodeDir { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The working directory of the processes: the node's own copy of the snapshot.
    pub fn working_dir(&self, script: ScriptNumber) -> PathBuf {
        self.root.join(script.in_name("work"))
    }

    /// The Python host program.
    pub fn python(&self) -> PathBuf {
        self.root.join("python")
    }

    /// The running-mini-batch page of a slot (`docs/design/host-protocol.md`).
    pub fn page(&self, slot: u32) -> PathBuf {
        self.root.join(format!("slot{slot:03}.page"))
    }
}

/// The log tree of a job, which is the original's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    root: PathBuf,
}

impl Logs {
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Explains the layout.
    pub fn readme(&self) -> PathBuf {
        self.root.join("readme.txt")
    }

    /// The newest progress overview; `hour` (`yyyymmddhh`) names a dated one.
    pub fn overview(&self, hour: Option<&str>) -> PathBuf {
        match hour {
            Some(hour) => self.root.join(format!("job_progress_overview.{hour}.txt")),
            None => self.root.join("job_progress_overview.txt"),
        }
    }

    /// State, one stated cause, counts, where to look.
    pub fn job_result(&self) -> PathBuf {
        self.root.join("job_result.txt")
    }

    /// Errors of the script, grouped.
    pub fn user_errors(&self) -> PathBuf {
        self.root.join("user/error.txt")
    }

    /// Full tracebacks of one process.
    pub fn user_error(&self, node: &NodeId, process: ProcessNumber) -> PathBuf {
        self.root.join(format!("user/error/{node}/{process}.txt"))
    }

    /// `EntryScript().log_dir`.
    pub fn entry_script_dir(&self, node: &NodeId) -> PathBuf {
        self.root.join(format!("user/entry_script_log/{node}"))
    }

    /// `EntryScript().logger`.
    pub fn entry_script(&self, node: &NodeId, process: ProcessNumber) -> PathBuf {
        self.entry_script_dir(node).join(format!("{process}.log.txt"))
    }

    /// `sys.stdout` (and the root logger) or `sys.stderr` of one process.
    pub fn user_stream(&self, stream: Stream, node: &NodeId, process: ProcessNumber) -> PathBuf {
        let name = stream.name();
        self.root.join(format!("user/{name}/{node}/{process}.{name}.txt"))
    }

    /// Descriptor 1 or 2 of one process.
    pub fn descriptor(&self, stream: Stream, node: &NodeId, process: ProcessNumber) -> PathBuf {
        self.root.join(format!("sys/node/{node}/{process}.{}.txt", stream.name()))
    }

    /// One line per mini-batch of one process.
    pub fn process(&self, node: &NodeId, process: ProcessNumber) -> PathBuf {
        self.root.join(format!("sys/node/{node}/{process}.txt"))
    }

    /// The Python profile of one process.
    pub fn profile(&self, node: &NodeId, process: ProcessNumber) -> PathBuf {
        self.root.join(format!("sys/node/{node}/{process}.profile"))
    }

    /// The coordinator's view.
    pub fn master_role(&self) -> PathBuf {
        self.root.join("sys/master_role.txt")
    }

    /// Our own errors on a node; `process` is None for the node itself.
    pub fn sys_error(&self, node: &NodeId, process: Option<ProcessNumber>) -> PathBuf {
        let name = process.map_or("_main".to_string(), |process| process.to_string());
        self.root.join(format!("sys/error/{node}/{name}.txt"))
    }

    /// What pip said while the environment was built.
    pub fn environment_build(&self) -> PathBuf {
        self.root.join("sys/environment_build.txt")
    }

    /// What the resource monitor of a node writes.
    fn perf(&self, node: &NodeId) -> PathBuf {
        self.root.join(format!("perf/{node}"))
    }

    /// The host of a node, a row for each look.
    pub fn node_resources(&self, node: &NodeId) -> PathBuf {
        self.perf(node).join("node_resource_usage.csv")
    }

    /// The file systems that a node writes to.
    pub fn node_disks(&self, node: &NodeId) -> PathBuf {
        self.perf(node).join("node_disk_usage.csv")
    }

    /// The Python processes of a node, and what they started.
    pub fn process_resources(&self, node: &NodeId) -> PathBuf {
        self.perf(node).join("processes_resource_usage.csv")
    }

    /// The lists of all processes of a node's host, a folder for each hour.
    pub fn process_lists(&self, node: &NodeId) -> PathBuf {
        self.perf(node).join("os")
    }

    /// One of them, by its minute; `us` is since the epoch.
    pub fn process_list(&self, node: &NodeId, us: u64) -> PathBuf {
        let minute = us / 60_000_000 % 60;
        self.process_lists(node).join(clock::hour(us)).join(format!("processes_{minute:02}"))
    }

    /// A report made from the ledger while Finalizing.
    pub fn job_report(&self, file: &str) -> PathBuf {
        self.root.join("sys/job_report").join(file)
    }
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}
