//! Answers on their way out. A message, and the commit that it becomes, costs more than a short mini-batch takes: what is answered soon
//! after a message went out waits for company. Long mini-batches, and the last ones, wait for nobody.

use std::time::Instant;

use fanfold_shared::backend::Gather;
use fanfold_shared::message::{Outcome, OutcomeEnd, Results};

use super::current::Held;

/// Answers, and what to let go of when they are safe.
pub type Answers = (Results, Vec<Held>);

/// See the module documentation.
pub struct Outbox {
    gather: Gather,
    waiting: Option<Answers>,
    /// Of what waits.
    bytes: usize,
    /// When the last message went out.
    sent: Option<Instant>,
}

impl Outbox {
    /// Empty.
    pub fn new(gather: Gather) -> Outbox {
        Outbox { gather, waiting: None, bytes: 0, sent: None }
    }

    /// Adds answers. Returns what can't go with them in one message and must go before.
    pub fn add(&mut self, results: Results, held: Vec<Held>) -> Option<Answers> {
        let bytes = weight(&results);
        let before = match &mut self.waiting {
            Some((waiting, _)) if waiting.process != results.process || self.bytes + bytes > self.gather.bytes => {
                self.waiting.take()
            }
            Some((waiting, kept)) => {
                waiting.outcomes.extend(results.outcomes);
                waiting.rows.extend_from_slice(&results.rows);
                // The same for all that a process returns, once it is known.
                waiting.header = results.header.or(waiting.header.take());
                kept.extend(held);
                self.bytes += bytes;
                return None;
            }
            None => None,
        };
        (self.waiting, self.bytes) = (Some((results, held)), bytes);
        before
    }

    /// When what waits is to go; None: nothing waits.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.waiting.as_ref()?;
        Some(match self.sent {
            Some(sent) if self.bytes < self.gather.bytes => (sent + self.gather.time).max(now),
            _ => now,
        })
    }

    /// What is to go now. `last`: nothing more is answered soon.
    pub fn take(&mut self, last: bool, now: Instant) -> Option<Answers> {
        let due = self.due(now)?;
        if !last && due > now {
            return None;
        }
        self.sent = Some(now);
        self.waiting.take()
    }
}

/// About the bytes that it has as a message.
fn weight(results: &Results) -> usize {
    let texts = |outcome: &Outcome| match &outcome.end {
        OutcomeEnd::Returned { unreadable, .. } => unreadable.iter().map(|item| item.message.len()).sum(),
        OutcomeEnd::Failed(error) => error.message.len() + error.traceback.len() + error.stderr.len(),
    };
    results.rows.len() + results.outcomes.iter().map(|outcome| 64 + texts(outcome)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fanfold_shared::ids::ProcessNumber;

    use super::*;

    const TIME: Duration = Duration::from_millis(100);

    fn outbox() -> Outbox {
        Outbox::new(Gather { time: TIME, bytes: 1000 })
    }

    fn results(process: u32, mini_batch: u64, rows: &str) -> Results {
        let end =
            OutcomeEnd::Returned { returned: 1, rows_len: rows.len() as u64, spooled: None, unreadable: Vec::new() };
        let items = mini_batch..mini_batch + 1;
        let outcome =
            Outcome { mini_batch, items, attempt: 1, started_us: 0, elapsed_us: 0, run_us: 0, cpu_us: 0, end };
        Results { process: ProcessNumber(process), outcomes: vec![outcome], rows: rows.into(), header: None }
    }

    fn sent(answers: Option<Answers>) -> Option<(Vec<u64>, String)> {
        answers.map(|(results, _)| {
            let mini_batches = results.outcomes.iter().map(|outcome| outcome.mini_batch).collect();
            (mini_batches, String::from_utf8(results.rows).unwrap())
        })
    }

    #[test]
    fn the_first_goes_at_once_and_those_soon_after_go_together() {
        let (mut outbox, start) = (outbox(), Instant::now());
        assert_eq!((outbox.due(start), outbox.take(true, start).is_none()), (None, true));
        outbox.add(results(0, 7, "a\n"), Vec::new());
        assert_eq!(sent(outbox.take(false, start)), Some((vec![7], "a\n".into())));
        for (mini_batch, row) in [(8, "b\n"), (9, "c\n")] {
            assert!(outbox.add(results(0, mini_batch, row), Vec::new()).is_none());
        }
        assert_eq!(outbox.due(start), Some(start + TIME));
        assert!(outbox.take(false, start + TIME / 2).is_none());
        assert_eq!(sent(outbox.take(false, start + TIME)), Some((vec![8, 9], "b\nc\n".into())));
        // Long ones never wait.
        outbox.add(results(0, 10, "d\n"), Vec::new());
        assert!(outbox.take(false, start + 3 * TIME).is_some());
    }

    #[test]
    fn the_last_ones_the_large_ones_and_those_of_another_process_wait_for_nobody() {
        let (mut outbox, now) = (outbox(), Instant::now());
        outbox.add(results(0, 1, "a\n"), Vec::new());
        outbox.take(false, now);
        outbox.add(results(0, 2, "b\n"), Vec::new());
        assert_eq!(sent(outbox.take(true, now)), Some((vec![2], "b\n".into())));
        outbox.add(results(0, 3, "c\n"), Vec::new());
        assert_eq!(sent(outbox.add(results(1, 4, "d\n"), Vec::new())), Some((vec![3], "c\n".into())));
        let large = "x".repeat(2000);
        assert_eq!(sent(outbox.add(results(1, 5, &large), Vec::new())), Some((vec![4], "d\n".into())));
        assert_eq!(sent(outbox.take(false, now)), Some((vec![5], large)));
    }

    #[test]
    fn a_header_that_is_known_goes_with_all() {
        let (mut outbox, now) = (outbox(), Instant::now());
        outbox.add(results(0, 1, ""), Vec::new());
        outbox.add(Results { header: Some(b"a,b\n".to_vec()), ..results(0, 2, "1,2\n") }, Vec::new());
        outbox.add(results(0, 3, ""), Vec::new());
        assert_eq!(outbox.take(true, now).unwrap().0.header.as_deref(), Some(b"a,b\n".as_slice()));
    }
}
