//! Whether the job is over, how it ended, and how long what still runs is waited for.

use std::time::{Duration, Instant};

use fanfold_shared::report::Result;
use fanfold_shared::state::JobState;
use fanfold_worker::logs::Level;

use super::super::nodes::End;
use super::super::verdict::{self, Cause};
use super::{Course, Driver, Ending};
use crate::aggregate::CommitError;

/// How long a lack of progress is left to the node to explain, when no process became ready.
const INIT_SPEAKS: Duration = Duration::from_secs(5);
/// Beyond the limits of what runs, until an interrupted job is killed.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

impl Driver<'_> {
    /// Decides whether the job is over, and how.
    pub(super) fn judge(&mut self, course: &mut Course) -> Result<()> {
        let now = Instant::now();
        let totals = self.aggregate.totals();
        if course.ending.is_none() {
            let cause = verdict::thresholds(self.spec, totals, self.window.all_scheduled())
                .or_else(|| self.hopeless_init(course));
            if let Some(cause) = cause {
                course.end(Ending::Failed(cause));
                self.kill(course);
            } else if let Some(cause) = self.no_progress(course, now) {
                course.end(Ending::Failed(cause));
                course.given_up = true;
                self.nodes.end(End::GiveUp, now);
                self.kill(course);
            } else if self.aggregate.all_settled() {
                course.end(Ending::Settled);
                self.drain(course);
            } else if let Some(unsplit) = course.unsplit.take_if(|_| self.window.all_answered()) {
                course.end(Ending::Unsplit(unsplit));
                self.drain(course);
            } else if self.orders.count() > 0 && !self.orders.is_canceled() {
                course.end(Ending::Interrupted);
                self.drain(course);
                // Said when it is so.
                self.observer.log(Level::Info, "interrupted: nothing more is handed out, what runs is finished");
                self.observer.interrupted(self.orders.interruption().is_some());
            }
        }
        if self.orders.is_canceled() && matches!(course.ending, None | Some(Ending::Interrupted | Ending::Unsplit(_))) {
            course.ending = Some(Ending::Canceled);
            self.kill(course);
            match self.aggregate.set_state(JobState::CancelRequested, None) {
                Ok(()) | Err(CommitError::DiskFull { .. }) => (),
                Err(error) => return Err(error.into()),
            }
            self.observer.state(JobState::CancelRequested, None);
        }
        if course.ending.is_some() {
            if course.patience.is_none() {
                self.drain(course);
            }
            let impatient = course.patience.is_some_and(|patience| now >= patience);
            let again = if course.ending == Some(Ending::Settled) { 1 } else { 2 };
            if !course.killed && (impatient || self.orders.count() >= again) {
                self.kill(course);
            }
        }
        Ok(())
    }

    fn hopeless_init(&self, course: &Course) -> Option<Cause> {
        let age = course.began.elapsed();
        verdict::init_hopeless(age, course.init_failures, course.inits, self.nodes.processes())
            .then(|| Cause::init_hopeless(course.init_failures, self.observer.last_init_error()))
    }

    fn no_progress(&self, course: &mut Course, now: Instant) -> Option<Cause> {
        let works = self.nodes.lines().iter().any(|line| line.state == "working" && line.processes > 0);
        // Or what there is to do is still being read.
        let waits_for_work = self.splitting.is_some() && self.window.outstanding() == 0;
        let runs = works && !waits_for_work && course.held_up.is_empty() && self.nodes.blocked().is_none();
        course.clock.run(runs, now);
        let waited = course.clock.expired(now)?;
        // The node knows more about processes that hang in init() than that nothing moves. It speaks first where both limits
        // are the same, as they are by default.
        let limit = self.spec.progress_update_timeout;
        let init_speaks = course.inits == 0 && limit >= 3 * self.spec.run_invocation_timeout + 30;
        if init_speaks && waited < Duration::from_secs(limit) + INIT_SPEAKS {
            return None;
        }
        Some(verdict::no_progress(waited, &self.observer.what_is_stuck(self.window.outstanding())))
    }

    fn drain(&mut self, course: &mut Course) {
        // What still runs when everything is settled is a copy: nobody waits for its result.
        let run = if course.ending == Some(Ending::Settled) { 0 } else { self.spec.run_invocation_timeout };
        let (limits, now) = (run + 2 * self.spec.task_overhead_timeout, Instant::now());
        course.patience = Some(now + Duration::from_secs(limits) + DRAIN_MARGIN);
        self.nodes.end(End::Drain, now);
    }

    fn kill(&mut self, course: &mut Course) {
        course.killed = true;
        course.patience.get_or_insert_with(Instant::now);
        self.nodes.end(End::Kill, Instant::now());
    }
}
