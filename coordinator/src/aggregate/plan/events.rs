//! What is recorded of what happened on nodes: the lives of their processes.

use fanfold_shared::ids::NodeId;
use fanfold_shared::message::NodeEvent;

use super::Planner;
use crate::ledger::{Fate, NewFailure, ProcessChange};

impl<'a> Planner<'_, 'a> {
    pub(super) fn event(&mut self, node: &'a NodeId, event: &'a NodeEvent) {
        let change = match event {
            NodeEvent::ProcessStarted { process, pid, device } => ProcessChange::Started {
                id: self.ledger.process(node, *process),
                pid: *pid,
                device: device.as_deref(),
                time_us: self.now_us,
            },
            NodeEvent::InitDone { process, elapsed_us } => {
                ProcessChange::InitDone { id: self.ledger.process(node, *process), elapsed_us: *elapsed_us }
            }
            NodeEvent::InitFailed { process, error, consecutive: _ } => {
                let failure = NewFailure {
                    mini_batch: None,
                    items: 0..0,
                    failed_items: 0,
                    attempt: 0,
                    fate: Fate::NotStarted,
                    kind: error.kind,
                    message: error.message.as_str().into(),
                    traceback: &error.traceback,
                    stderr: &error.stderr,
                    node,
                    process: Some(*process),
                    time_us: self.now_us,
                    started_us: 0,
                    elapsed_us: 0,
                    run_us: 0,
                    cpu_us: 0,
                };
                ProcessChange::InitFailed { id: self.ledger.process(node, *process), failure }
            }
            NodeEvent::ProcessEnded { process, how } => {
                ProcessChange::Ended { id: self.ledger.process(node, *process), how, time_us: self.now_us }
            }
            // `GaveUp` repeats an `InitFailed`; the others are the coordinator's business.
            NodeEvent::Joining { .. }
            | NodeEvent::Refused { .. }
            | NodeEvent::CannotJoin { .. }
            | NodeEvent::Beat { .. }
            | NodeEvent::HandedBack { .. }
            | NodeEvent::RunsAlone { .. }
            | NodeEvent::Leased { .. }
            | NodeEvent::Joined { .. }
            | NodeEvent::GaveUp { .. }
            | NodeEvent::Broken { .. }
            | NodeEvent::Downloading { .. }
            | NodeEvent::HeldUp { .. }
            | NodeEvent::Left => return,
        };
        self.plan.processes.push(change);
        self.plan.changed = true;
    }
}
