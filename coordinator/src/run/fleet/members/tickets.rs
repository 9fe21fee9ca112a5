//! The tickets of a job: which are open, which may still lie in the queue, and which are to be published.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A ticket that nobody took by then is gone from the queue.
pub const TICKET: Duration = Duration::from_secs(60);
/// Until the next ticket, after a worker took one and can't be a node.
const REFUSED: Duration = Duration::from_secs(5);

/// Numbered in the order in which they are first published.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// Those that are wanted, and when each is renewed.
    open: BTreeMap<u64, Instant>,
    /// Those that may lie in the queue, wanted or not, and until when.
    loose: BTreeMap<u64, Instant>,
    last: u64,
    /// After a refusal.
    not_before: Option<Instant>,
}

impl Tickets {
    /// Somebody has it.
    pub(super) fn taken(&mut self, number: u64) {
        self.open.remove(&number);
        self.loose.remove(&number);
    }

    /// Whoever took one is of no use: the next may be the same worker.
    pub(super) fn refused(&mut self, now: Instant) {
        self.not_before = Some(now + REFUSED);
    }

    /// Those that are to be published now, for `count` to be open.
    pub(super) fn due(&mut self, count: usize, now: Instant) -> Vec<u64> {
        self.loose.retain(|_, until| now < *until);
        // Those that are in the queue can't be taken back; whoever takes one that is not wanted any more is released.
        while self.open.len() > count {
            self.open.pop_last();
        }
        if self.not_before.is_some_and(|before| now < before) {
            return Vec::new();
        }
        self.not_before = None;
        let renewed = self.open.iter().filter(|(_, renew)| now >= **renew).map(|(number, _)| *number);
        let mut due: Vec<u64> = renewed.collect();
        let new = count - self.open.len();
        due.extend((1..).take(new).map(|nth| self.last + nth));
        self.last += new as u64;
        for number in &due {
            self.open.insert(*number, now + TICKET);
            self.loose.insert(*number, now + TICKET);
        }
        due
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// How many may still lie in the queue.
    pub(super) fn loose(&self, now: Instant) -> usize {
        self.loose.values().filter(|until| now < **until).count()
    }
}
