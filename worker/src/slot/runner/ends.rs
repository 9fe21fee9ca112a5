//! What the end of a process costs, and what is done before its slot has another one.

use fanfold_shared::clock;
use fanfold_shared::message::{AttemptError, NodeEvent};

use super::super::answers;
use super::super::blame;
use super::super::page::Phase;
use super::super::state::{State, StopReason};
use super::Slot;
use crate::logs::{Level, Stage};

impl Slot {
    pub(super) fn charge_death(&mut self) {
        let Some(current) = &mut self.current else { return };
        if current.page.look().phase == Phase::Shutdown {
            // It left in order, with work that it was asked not to begin.
            return;
        }
        let culprit = blame::culprit(current);
        let error = blame::death(&self.node, current, culprit.is_some());
        match culprit {
            Some(mini_batch) => self.charge(mini_batch, error),
            None => {
                let number = current.number;
                self.node.died_without_work(number, &error.message);
            }
        }
    }

    /// Publishes a failed attempt of a mini-batch that the process held.
    pub(super) fn charge(&mut self, mini_batch: u64, error: AttemptError) {
        let Some(current) = &mut self.current else { return };
        if let Some((results, held)) = answers::charged(current, mini_batch, error) {
            self.keep_answers(results, vec![held]);
        }
    }

    pub(super) fn report_init_failure(&mut self) {
        let Some(current) = &mut self.current else { return };
        let error = match current.init_error.take() {
            Some(mut error) => {
                error.stderr = current.last_words().stderr;
                error
            }
            None => {
                if matches!(self.state, State::Stopping { .. }) {
                    current.show_stacks();
                }
                blame::init_died(&self.node, current, self.state, &self.limits)
            }
        };
        let stuck = matches!(self.state, State::Stopping { reason: StopReason::InitStuck, .. });
        current.errors.failure(clock::wall_us(), current.process.pid(), Stage::Init, &error);
        let number = current.number;
        self.node.say_init_failed(number, error, stuck);
    }

    pub(super) fn give_back(&mut self) {
        let Some(current) = &mut self.current else { return };
        let pieces = current.held.drain(..).rev().map(|held| held.piece()).collect::<Vec<_>>();
        self.node.work.give_back(pieces);
    }

    /// The process has ended: nothing of it may be left when its device is given to the next.
    pub(super) fn clean_up(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        // Nothing of it follows.
        self.send();
        let how = current.exit_text();
        let survivors = self.node.sweep(current.number, current.process.pid());
        current.process.reap();
        let clean = survivors.is_none();
        if let Some(text) = survivors {
            self.node.sys_error(Some(current.number), &text);
        }
        if current.ready {
            self.node.ready_process_ended();
        }
        current.page.clear();
        current.cap_captured();
        current.log.event(clock::wall_us(), Level::Info, &how);
        current.log.tick(clock::wall_us());
        // Something that would not die may still use the device: nobody else gets it.
        if clean {
            self.node.release_device(current.number);
        }
        self.node.work.report(self.index, false, false);
        self.node.process_ended(current.number);
        self.hold_up(None);
        self.node.say(NodeEvent::ProcessEnded { process: current.number, how });
    }
}
