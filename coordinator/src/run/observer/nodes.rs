//! What nodes and their processes do, in words, and the picture of them.

use fanfold_shared::clock;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::{Activity, AttemptError, NodeEvent};
use fanfold_shared::text::counted;
use fanfold_worker::logs::Level;

use super::Observer;
use crate::report::ProcessState;

impl Observer {
    /// Something happened on a node.
    pub fn event(&mut self, node: &NodeId, event: &NodeEvent) {
        let key = |process: &ProcessNumber| (node.clone(), *process);
        match event {
            NodeEvent::Joined { host, processes, devices } => {
                let devices = match devices.is_empty() {
                    true => "no GPUs".to_string(),
                    false => format!("GPUs {}", devices.join(",")),
                };
                self.master.milestone(&format!("Node {node} ({host}) joined: {processes} processes, {devices}"));
            }
            NodeEvent::ProcessStarted { process, pid, device } => {
                let now_us = clock::wall_us();
                let state = ProcessState::started(node.clone(), *process, *pid, device.clone(), now_us);
                self.adopted.remove(&key(process));
                self.processes.insert(key(process), state);
            }
            NodeEvent::InitDone { process, elapsed_us } => {
                if let Some(state) = self.processes.get_mut(&key(process)) {
                    state.ready = true;
                    (state.activity, state.since_us) = (Activity::Idle, clock::wall_us());
                }
                self.first_ready_us.get_or_insert_with(clock::wall_us);
                self.work.total.inits += 1;
                self.work.total.init_us = self.work.total.init_us.saturating_add(*elapsed_us);
                let seconds = *elapsed_us as f64 / 1e6;
                self.master.log(Level::Info, &format!("{node}: {process} is ready after {seconds:.3} s"));
            }
            NodeEvent::InitFailed { process, error, consecutive } => {
                // Its failure is recorded: the terminal hears of it from there, once for each distinct error.
                let text = format!("{node}: {process} could not start ({consecutive} in a row): {}", error.message);
                self.master.log(Level::Error, &text);
                self.reports.overview(clock::wall_us(), &text);
                self.last_init_error = Some((**error).clone());
            }
            NodeEvent::ProcessEnded { process, how } => {
                self.process_ended(&key(process), how);
                self.master.log(Level::Info, &format!("{node}: {process} {how}"));
            }
            NodeEvent::GaveUp { error } => {
                self.master.log(Level::Error, &format!("{node}: gave up on init(): {}", error.message));
            }
            NodeEvent::Joining { host, worker, version, .. } => {
                self.master.log(Level::Info, &format!("{node} ({host}): worker {worker} {version} prepares to join"));
            }
            NodeEvent::Refused { host, worker, why, .. } => {
                self.master.log(Level::Warning, &format!("worker {worker} ({host}) can't join: {why}"));
            }
            NodeEvent::CannotJoin { why, .. } => {
                self.master.log(Level::Error, &format!("{node} can't join: {why}"));
            }
            NodeEvent::HandedBack { task, hand_overs } => {
                let text =
                    format!("{node}: mini-batches {:?} had been handed over {hand_overs} times", task.mini_batches);
                self.master.log(Level::Warning, &text);
            }
            NodeEvent::RunsAlone { task } => {
                self.master.log(Level::Info, &format!("{node}: mini-batches {:?} run alone", task.mini_batches));
            }
            NodeEvent::Beat { doing, .. } => self.doing(node, doing),
            NodeEvent::Downloading { bytes } => {
                self.work.total.downloaded = self.work.total.downloaded.saturating_add(*bytes);
            }
            NodeEvent::Leased { .. } => (),
            NodeEvent::Broken { message } => self.master.log(Level::Error, &format!("{node}: {message}")),
            NodeEvent::HeldUp { slot, why } => {
                let text = why.as_deref().unwrap_or("goes on");
                self.master.log(Level::Warning, &format!("{node}: slot {slot}: {text}"));
            }
            NodeEvent::Left => {
                self.master.milestone(&format!("Node {node} left"));
            }
        }
    }

    /// Nothing was heard of a node for too long.
    pub fn lost(&mut self, node: &NodeId) {
        self.processes.retain(|(of, _), _| of != node);
        self.adopted.retain(|(of, _)| of != node);
        let text = format!("Node {node} is lost: nothing was heard of it for 30 s");
        self.master.milestone(&text);
        self.tell(&text);
    }

    /// The last failure of an `init`.
    pub fn last_init_error(&self) -> Option<&AttemptError> {
        self.last_init_error.as_ref()
    }

    /// What everybody waits for, for the message about a lack of progress.
    pub fn what_is_stuck(&self, outstanding: u64) -> String {
        let ready = self.processes.values().filter(|process| process.ready).count();
        let starting = self.processes.len() - ready;
        let (all, are) = (counted(self.processes.len() as u64, "process"), if starting == 1 { "is" } else { "are" });
        match (ready, starting) {
            (0, 0) => "no process is alive".into(),
            (0, _) => format!("{all} {are} still in import or init()"),
            _ => format!(
                "{} out, and none of {} has answered",
                counted(outstanding, "mini-batch"),
                counted(ready as u64, "process")
            ),
        }
    }
}
