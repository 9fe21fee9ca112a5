//! Progress as plain lines, for logs and pipes.

use std::io::Write;

use fanfold_shared::state::JobState;

use super::echo::Echo;
use super::{Progress, is_for_the_summary, progress_in_words};
use crate::ledger::FailureRow;
use crate::report::{JobFacts, Pace, Snapshot};

/// A line about the progress every ten seconds or ten percent, but never two within a second; one for each change of state;
/// errors as they come.
pub struct Lines<W> {
    out: W,
    echo: Echo,
    state: Option<JobState>,
    blocked: Option<String>,
    told_us: u64,
    told_tenth: u64,
}

impl<W: Write + Send> Lines<W> {
    /// Writes to `out`; begins with what the job is and where it lies.
    pub fn new(facts: &JobFacts, out: W) -> Lines<W> {
        let mut lines =
            Lines { out, echo: Echo::new(&facts.id.0), state: None, blocked: None, told_us: 0, told_tenth: 0 };
        lines.say(&format!("Job {} in {}", facts.id, facts.dir.root().display()));
        if facts.settled_before > 0 {
            lines.say(&format!("Continues: {} mini-batches are settled already", facts.settled_before));
        }
        lines
    }

    fn say(&mut self, text: &str) {
        // Nobody may be reading any more; the job goes on.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn observe(&mut self, snapshot: &Snapshot, pace: &Pace) {
        if self.state != Some(snapshot.state) {
            self.state = Some(snapshot.state);
            if !is_for_the_summary(snapshot.state) {
                self.say(&match snapshot.state {
                    JobState::CancelRequested => {
                        "Told to cancel: what runs is killed, what is committed stays".to_string()
                    }
                    state => state.to_string(),
                });
            }
        }
        if self.blocked != snapshot.blocked {
            self.blocked = snapshot.blocked.clone();
            match &snapshot.blocked {
                Some(reason) => self.say(&format!("Blocked: {reason}")),
                None => self.say("No longer blocked"),
            }
        }
        // That all is settled is said at the end, which comes at once: not twice.
        if snapshot.state != JobState::Running || snapshot.mini_batches_to_come() == 0 {
            return;
        }
        let tenth = snapshot.totals.mini_batches_settled() * 10 / snapshot.mini_batches_expected().max(1);
        if self.told_us == 0 {
            // The first line about the progress comes when there is some.
            self.told_us = snapshot.now_us;
        }
        let since = snapshot.now_us.abs_diff(self.told_us);
        if since >= 10_000_000 || (tenth > self.told_tenth && since >= 1_000_000) {
            (self.told_us, self.told_tenth) = (snapshot.now_us, tenth);
            self.say(&progress_in_words(snapshot, pace));
        }
    }

    fn failure(&mut self, row: &FailureRow) {
        if let Some(text) = self.echo.failure(row) {
            self.say(&text);
        }
    }

    fn note(&mut self, text: &str) {
        self.say(&fanfold_shared::text::harmless(text));
    }

    fn finish(&mut self, snapshot: &Snapshot) {
        self.say(&progress_in_words(snapshot, &Pace::default()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{failure_fixture as failure, fixtures::*};

    #[test]
    fn lines_come_every_ten_seconds_or_ten_percent_and_at_changes() {
        let facts = JobFacts { settled_before: 20, ..facts(Path::new("/jobs/score-1a2b3c4d")) };
        let mut out = Vec::new();
        let mut lines = Lines::new(&facts, &mut out);
        for second in 0..40u64 {
            let mut snapshot = running();
            snapshot.now_us = THEN + second * 1_000_000;
            snapshot.state = if second < 2 { JobState::Preparing } else { JobState::Running };
            // Nothing for 15 seconds, then a tenth of the job each second, then nothing again.
            let settled = (second.saturating_sub(15) * 28).min(140);
            (snapshot.totals.mini_batches_succeeded, snapshot.totals.mini_batches_failed) = (settled, 0);
            (snapshot.totals.items_succeeded, snapshot.totals.items_failed) = (settled, 0);
            snapshot.processes[0].ready = second > 14;
            snapshot.blocked = (second > 37).then(|| "disk full".into());
            lines.observe(
                &snapshot,
                &Pace {
                    items_per_second: 28.0,
                    mini_batches_per_second: 28.0,
                    eta_seconds: (settled > 0).then_some(9.6),
                },
            );
            if second == 17 {
                lines.failure(&failure(1, 16));
                lines.note("node \x1b[1m1 joined");
            }
        }
        lines.finish(&running());
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        Job score-1a2b3c4d in /jobs/score-1a2b3c4d
        Continues: 20 mini-batches are settled already
        Preparing
        Running
        0 of 276 mini-batches (0 %), 0 of 551 items, 28 items/s, 2 processes starting
        28 of 276 mini-batches (10 %), 28 of 551 items, 28 items/s, 10 s to go
        56 of 276 mini-batches (20 %), 56 of 551 items, 28 items/s, 10 s to go
        error: ValueError: bad pixel
          exception in mini-batch 16, attempt 3, node 0, process002
          Traceback: the long story
        node \x1b[1m1 joined
        84 of 276 mini-batches (30 %), 84 of 551 items, 28 items/s, 10 s to go
        112 of 276 mini-batches (40 %), 112 of 551 items, 28 items/s, 10 s to go
        140 of 276 mini-batches (50 %), 140 of 551 items, 28 items/s, 10 s to go
        140 of 276 mini-batches (50 %), 140 of 551 items, 28 items/s, 10 s to go
        Blocked: disk full
        120 of 276 mini-batches (43 %), 240 of 551 items, 3 failed
        "#);
    }

    #[test]
    fn while_the_data_is_split_what_there_is_so_far_is_no_whole() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&facts(Path::new("/jobs/score-1a2b3c4d")), &mut out);
        let mut pacer = crate::report::Pacer::default();
        for (second, known, settled, part) in
            [(0, 50, 0, Some(0.05)), (5, 200, 50, Some(0.2)), (15, 400, 150, Some(0.4)), (30, 1000, 300, None)]
        {
            let mut snapshot = running();
            snapshot.now_us = THEN + second * 1_000_000;
            snapshot.splitting = part;
            (snapshot.totals.items, snapshot.totals.mini_batches) = (10 * known, known);
            (snapshot.totals.mini_batches_succeeded, snapshot.totals.mini_batches_failed) = (settled, 0);
            (snapshot.totals.items_succeeded, snapshot.totals.items_failed) = (10 * settled, 0);
            let pace = pacer.observe(&snapshot);
            lines.observe(&snapshot, &pace);
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        Job score-1a2b3c4d in /jobs/score-1a2b3c4d
        Running
        150 of 400 mini-batches so far (40 % of the data split), 1,500 of 4,000 items, 100 items/s, 1 min 25 s to go
        300 of 1,000 mini-batches (30 %), 3,000 of 10,000 items, 100 items/s, 1 min 10 s to go
        "#);
    }

    #[test]
    fn a_reader_that_went_away_stops_nobody() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        Lines::new(&facts(Path::new("/j")), Gone).note("lost");
    }
}
