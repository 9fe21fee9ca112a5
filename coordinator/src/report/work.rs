//! What the processes of a job spent their time on: what `fanfold explain` tells a slow script from a slow disk by.

use std::collections::VecDeque;

use fanfold_shared::message::{OutcomeEnd, Results};
use serde::{Deserialize, Serialize};

/// Between two marks to look back to.
const MARK_US: u64 = 5_000_000;
/// It is looked back over so much time at least …
const RECENT_US: u64 = 60_000_000;
/// … and so many attempts.
const RECENT_ATTEMPTS: u64 = 20;
/// Marks kept: an hour.
const MARKS: usize = 720;
/// An attempt never takes longer, whatever somebody says.
const DAY_US: u64 = 24 * 3600 * 1_000_000;

/// Sums over a span of time, microseconds. In `status.json` it is the last minute, or more where attempts take long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// The span.
    pub span_us: u64,
    /// Attempts that were answered.
    pub attempts: u64,
    /// Of these, the failed ones.
    pub failed: u64,
    /// What they took, everything around and including `run()`.
    pub busy_us: u64,
    /// `run()` alone.
    pub run_us: u64,
    /// The processor's time in it.
    pub cpu_us: u64,
    /// What the failed ones took.
    pub failed_us: u64,
    /// How long processes were ready, of all together.
    pub ready_us: u64,
    /// How long of that they could have computed and had no processor; 0 where the system does not say.
    pub delayed_us: u64,
    /// Processes that became ready.
    pub inits: u64,
    /// What their imports and `init()` took.
    pub init_us: u64,
    /// Processes that died: they did not end in order.
    pub died: u64,
    /// Bytes of inputs that came from elsewhere.
    pub downloaded: u64,
}

impl Work {
    fn since(&self, then: &Work) -> Work {
        Work {
            span_us: self.span_us - then.span_us,
            attempts: self.attempts - then.attempts,
            failed: self.failed - then.failed,
            busy_us: self.busy_us - then.busy_us,
            run_us: self.run_us - then.run_us,
            cpu_us: self.cpu_us - then.cpu_us,
            failed_us: self.failed_us - then.failed_us,
            ready_us: self.ready_us - then.ready_us,
            delayed_us: self.delayed_us - then.delayed_us,
            inits: self.inits - then.inits,
            init_us: self.init_us - then.init_us,
            died: self.died - then.died,
            downloaded: self.downloaded - then.downloaded,
        }
    }

    /// Adds what one message of results says.
    pub fn answered(&mut self, results: &Results) {
        for outcome in &results.outcomes {
            let elapsed_us = outcome.elapsed_us.min(DAY_US);
            self.attempts += 1;
            self.busy_us += elapsed_us;
            self.run_us += outcome.run_us.min(elapsed_us);
            self.cpu_us += outcome.cpu_us.min(DAY_US);
            if matches!(outcome.end, OutcomeEnd::Failed(_)) {
                self.failed += 1;
                self.failed_us += elapsed_us;
            }
        }
    }
}

/// Keeps the sums of one run of a coordinator, and what they were a while ago.
#[derive(Debug, Default)]
pub struct WorkBooks {
    /// Since the beginning.
    pub total: Work,
    /// What it was before; the first is the beginning.
    marks: VecDeque<Work>,
    looked_us: Option<u64>,
}

impl WorkBooks {
    /// Time has gone by until `now_us`, in which so many processes were ready. To be called about once a second.
    pub fn look(&mut self, now_us: u64, ready: u64) {
        let passed = now_us.saturating_sub(self.looked_us.replace(now_us).unwrap_or(now_us)).min(DAY_US);
        self.total.span_us += passed;
        self.total.ready_us += passed * ready;
        let due = self.marks.back().is_none_or(|mark| self.total.span_us - mark.span_us >= MARK_US);
        if due {
            self.marks.push_back(self.total.clone());
        }
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }

    /// The sums of the last minute; of longer where that has few attempts.
    pub fn recent(&self) -> Work {
        let enough = |mark: &&Work| {
            self.total.span_us - mark.span_us >= RECENT_US && self.total.attempts - mark.attempts >= RECENT_ATTEMPTS
        };
        match self.marks.iter().rev().find(enough).or(self.marks.front()) {
            Some(mark) => self.total.since(mark),
            None => self.total.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_long_ago_is_forgotten_unless_attempts_take_long() {
        let mut books = WorkBooks::default();
        for second in 0..600 {
            books.look(second * 1_000_000, 2);
            let slow = second >= 300;
            // First ten attempts a second, then one each 20 s.
            for _ in 0..if slow { u64::from(second % 20 == 0) } else { 10 } {
                books.total.attempts += 1;
                books.total.busy_us += if slow { 20_000_000 } else { 100_000 };
            }
            if second == 299 {
                let recent = books.recent();
                assert!((60..66).contains(&(recent.span_us / 1_000_000)), "{recent:?}");
                assert_eq!(recent.ready_us, 2 * recent.span_us);
                assert_eq!(recent.busy_us / recent.attempts, 100_000);
            }
        }
        let recent = books.recent();
        assert!(recent.span_us >= 300_000_000 && recent.attempts >= RECENT_ATTEMPTS, "{recent:?}");
    }
}
