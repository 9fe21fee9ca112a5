//! What each process does and has done. It is for people: nothing is decided by it.

use fanfold_shared::clock;
use fanfold_shared::ids::{NodeId, ProcessNumber};
use fanfold_shared::message::{Activity, Doing, OutcomeEnd, Results};

use super::Observer;
use crate::report::ProcessState;

/// Processes of a node; more is no true word.
const MOST: usize = 4096;
/// How a process ends that was told to.
const IN_ORDER: &str = "exited with code 0";

impl Observer {
    /// Results came.
    pub fn answered(&mut self, node: &NodeId, results: &Results) {
        self.work.total.answered(results);
        if let Some(state) = self.processes.get_mut(&(node.clone(), results.process)) {
            let failed = results.outcomes.iter().filter(|outcome| matches!(outcome.end, OutcomeEnd::Failed(_)));
            state.failed += failed.count() as u64;
            state.done += results.outcomes.len() as u64;
        }
    }

    /// What the processes of a node do now.
    pub(super) fn doing(&mut self, node: &NodeId, doing: &[Doing]) {
        let now_us = clock::wall_us();
        for doing in doing.iter().take(MOST) {
            let key = (node.clone(), doing.process);
            if !self.processes.contains_key(&key) {
                // An earlier coordinator heard it start; or it has just ended, and the next word leaves it out.
                let started_us = now_us.saturating_sub(doing.age_us);
                let state = ProcessState::started(node.clone(), doing.process, doing.pid, None, started_us);
                self.processes.insert(key.clone(), state);
                self.adopted.insert(key.clone());
            }
            let state = self.processes.get_mut(&key).expect("it is there by now");
            if self.adopted.contains(&key) {
                let starting = matches!(doing.activity, Activity::Starting | Activity::Importing | Activity::Init);
                state.ready |= !starting;
            }
            if state.ready {
                let delayed_us = doing.delayed_us.saturating_sub(state.delayed_us);
                self.work.total.delayed_us = self.work.total.delayed_us.saturating_add(delayed_us);
            }
            state.delayed_us = doing.delayed_us;
            (state.activity, state.mini_batch) = (doing.activity, doing.mini_batch);
            state.since_us = now_us.saturating_sub(doing.for_us);
        }
        let gone: Vec<(NodeId, ProcessNumber)> = self
            .adopted
            .iter()
            .filter(|(of, process)| of == node && !doing.iter().any(|doing| doing.process == *process))
            .cloned()
            .collect();
        for key in gone.into_iter().filter(|_| !doing.is_empty()) {
            self.processes.remove(&key);
            self.adopted.remove(&key);
        }
    }

    /// A process ended.
    pub(super) fn process_ended(&mut self, key: &(NodeId, ProcessNumber), how: &str) {
        self.processes.remove(key);
        self.adopted.remove(key);
        if how != IN_ORDER {
            self.work.total.died += 1;
        }
    }
}
