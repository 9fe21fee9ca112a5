//! The resource monitor of a node.

use std::path::PathBuf;
use std::time::Duration;

use super::{Node, Order, lock};
use crate::monitor::{Monitor, Watch};

/// How long a node that leaves waits for the last look.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where it was killed: its coordinator waits for it for 4 s.
const KILLED: Duration = Duration::from_secs(1);

impl Node {
    /// Starts to watch, if the job wants that. A node that can't be watched works on.
    pub(super) fn start_monitor(&self) -> Option<Monitor> {
        let interval = Duration::from_secs(self.plan.resource_monitor_interval);
        if interval.is_zero() {
            return None;
        }
        let temporary = self.plan.environment_variables.get("TMPDIR").map(PathBuf::from);
        let started = Monitor::start(Watch {
            interval,
            logs: self.job.logs(),
            node: self.id.clone(),
            disks: vec![
                self.job.root().to_path_buf(),
                self.plan.output_dir.clone(),
                self.dir.root().to_path_buf(),
                temporary.unwrap_or_else(std::env::temp_dir),
            ],
            gpus: lock(&self.devices).found() > 0,
            running: self.running.clone(),
        });
        if let Err(error) = &started {
            self.sys_error(None, &format!("cannot start the thread of the resource monitor: {error}"));
        }
        started.ok()
    }

    pub(super) fn stop_monitor(&self, monitor: Monitor) {
        let patience = if self.order() == Order::Kill { KILLED } else { PATIENCE };
        if !monitor.end(patience) {
            self.sys_error(None, "the resource monitor hangs in what it reads or writes, and is left behind");
        }
    }
}
