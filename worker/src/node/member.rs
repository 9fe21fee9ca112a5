//! What only a node of a fleet does: it says what it holds, leases what takes long, and measures how much to hold.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::failpoint;
use fanfold_shared::message::{Identity, NodeEvent, NodeMessage, OutcomeEnd, Results};

use super::{Node, ahead, lock};
use crate::work::Hold;

/// Between two beats.
const BEAT: Duration = Duration::from_secs(5);
/// Between two looks while the last beat is not safe: there is no point in a queue of them.
const BEAT_LOOK: Duration = Duration::from_millis(100);
/// Runs of mini-batches in a beat. Whatever is beyond may be run twice.
const MOST_RUNS: usize = 16_384;
/// How much the newest results count in the estimate of how long a mini-batch takes.
const NEWEST: f64 = 0.3;
/// Between two changes of how much is held.
const FOLLOW: Duration = Duration::from_millis(250);

/// What a worker decides for its nodes.
pub struct Membership {
    /// The worker's id, by which a coordinator can talk to it.
    pub worker: String,
    /// A task that has been held for so long is acknowledged, and leased from then on: the broker closes the channel of a
    /// consumer that holds one for longer than its `consumer_timeout` (30 minutes unless it was told otherwise).
    pub lease_after: Duration,
    /// What is counted, over all nodes of the worker.
    pub counters: Arc<Counters>,
}

/// What a worker's nodes did.
#[derive(Debug, Default)]
pub struct Counters {
    /// Mini-batches that returned.
    pub succeeded: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Processes started.
    pub process_starts: AtomicU64,
}

/// A node's part in a fleet.
pub(super) struct Member {
    pub membership: Membership,
    held: Mutex<Registry>,
    pace: Mutex<Pace>,
    bell: Mutex<Bell>,
    rung: Condvar,
    /// The last beat is safe.
    beat_safe: Arc<AtomicBool>,
}

/// Every task that was received and is still held by somebody.
#[derive(Default)]
struct Registry {
    holds: Vec<Weak<Hold>>,
    /// Tasks at which those that are done with are forgotten.
    prune_at: usize,
}

/// How long tasks take.
struct Pace {
    mini_batch_ns: Option<f64>,
    task_mini_batches: f64,
    hold: u16,
    /// Of these, so many are leased: the broker does not count them.
    leased: u16,
    told: u16,
    changed: Instant,
}

#[derive(Default)]
struct Bell {
    rung: bool,
    over: bool,
}

impl Member {
    pub fn new(membership: Membership, processes: u32) -> Member {
        let hold = ahead::least(processes);
        let pace =
            Pace { mini_batch_ns: None, task_mini_batches: 1.0, hold, leased: 0, told: hold, changed: Instant::now() };
        Member {
            membership,
            held: Mutex::default(),
            pace: Mutex::new(pace),
            bell: Mutex::default(),
            rung: Condvar::new(),
            beat_safe: Arc::new(AtomicBool::new(true)),
        }
    }

    /// A beat is wanted at once.
    pub fn ring(&self) {
        lock(&self.bell).rung = true;
        self.rung.notify_all();
    }

    /// A task was received.
    pub fn holds(&self, hold: &Arc<Hold>) {
        let mut held = lock(&self.held);
        if held.holds.len() >= held.prune_at {
            held.holds.retain(|hold| hold.strong_count() > 0);
            held.prune_at = 2 * held.holds.len() + 64;
        }
        held.holds.push(Arc::downgrade(hold));
        let size = (hold.mini_batches.end - hold.mini_batches.start) as f64;
        let mut pace = lock(&self.pace);
        pace.task_mini_batches += (size - pace.task_mini_batches) * NEWEST;
    }

    /// What is held of these mini-batches at this attempt.
    pub fn holding(&self, mini_batches: &Range<u64>, attempt: u32) -> Option<Arc<Hold>> {
        let same = |hold: &Arc<Hold>| hold.mini_batches == *mini_batches && hold.attempt == attempt;
        self.all().into_iter().find(same)
    }

    fn all(&self) -> Vec<Arc<Hold>> {
        lock(&self.held).holds.iter().filter_map(Weak::upgrade).collect()
    }

    /// All that is held and not yet safely answered.
    fn open_runs(&self) -> Vec<Range<u64>> {
        merge(self.all().iter().flat_map(|hold| hold.open_runs()).collect())
    }

    /// Counts what is leased.
    fn count_leased(&self) {
        let leased = self.all().iter().filter(|hold| hold.is_leased()).count();
        lock(&self.pace).leased = leased.min(u16::MAX.into()) as u16;
    }

    /// Counts results, and learns from them.
    pub fn measure(&self, results: &Results) {
        let (mut returned, mut elapsed_us) = (0, 0);
        for outcome in &results.outcomes {
            returned += u64::from(matches!(outcome.end, OutcomeEnd::Returned { .. }));
            elapsed_us += outcome.elapsed_us;
        }
        let all = results.outcomes.len() as u64;
        self.membership.counters.succeeded.fetch_add(returned, Ordering::Relaxed);
        self.membership.counters.failed.fetch_add(all - returned, Ordering::Relaxed);
        if all > 0 {
            // A mini-batch shorter than a microsecond is still not nothing.
            let mean = (elapsed_us as f64 * 1e3 / all as f64).max(100.0);
            let mut pace = lock(&self.pace);
            pace.mini_batch_ns = Some(pace.mini_batch_ns.map_or(mean, |old| old + (mean - old) * NEWEST));
        }
    }

    /// How long a task that is to run alone waits for what runs, before others get it: not so long that it would be leased.
    pub fn patience(&self) -> Duration {
        self.membership.lease_after / 2
    }

    /// How many tasks to hold before anything is known.
    pub fn first(&self) -> u16 {
        lock(&self.pace).hold
    }

    /// How many tasks to hold from now on, if that has changed.
    pub fn follow(&self, processes: u32) -> Option<u16> {
        let mut pace = lock(&self.pace);
        if pace.changed.elapsed() < FOLLOW {
            return None;
        }
        pace.changed = Instant::now();
        if let Some(mini_batch_ns) = pace.mini_batch_ns {
            pace.hold = ahead::follow(pace.hold, processes, mini_batch_ns * pace.task_mini_batches);
        }
        // One more always waits, or a process that is ready would have to wait for the broker.
        let tell = pace.hold.saturating_sub(pace.leased).max(1);
        (std::mem::replace(&mut pace.told, tell) != tell).then_some(tell)
    }

    /// Waits until the next beat is due. False: there is none any more.
    fn wait_for_beat(&self) -> bool {
        let bell = lock(&self.bell);
        let waited = self.rung.wait_timeout_while(bell, BEAT, |bell| !bell.rung && !bell.over);
        let mut bell = waited.unwrap_or_else(PoisonError::into_inner).0;
        while !bell.over && !self.beat_safe.load(Ordering::SeqCst) {
            bell = self.rung.wait_timeout(bell, BEAT_LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        bell.rung = false;
        !bell.over
    }
}

impl Node {
    /// Starts the thread that beats.
    pub(super) fn start_beats(self: &Arc<Node>) -> Option<thread::JoinHandle<()>> {
        let node = self.clone();
        let started = thread::Builder::new().name("beat".into()).spawn(move || node.beat());
        if let Err(error) = &started {
            // Without beats the coordinator takes it for dead.
            self.broken(format!("cannot start a thread: {error}"));
        }
        started.ok()
    }

    pub(super) fn stop_beats(&self, beats: thread::JoinHandle<()>) {
        if let Some(member) = &self.member {
            lock(&member.bell).over = true;
            member.rung.notify_all();
        }
        // A panic was printed where it happened.
        let _ = beats.join();
    }

    fn beat(&self) {
        let Some(member) = &self.member else { return };
        member.ring();
        while member.wait_for_beat() {
            self.lease(member);
            member.count_leased();
            member.beat_safe.store(false, Ordering::SeqCst);
            let safe = member.beat_safe.clone();
            let (worker, host) = (member.membership.worker.clone(), self.host_name.clone());
            let by = Some(Identity { worker, host, processes: self.plan.processes });
            let body = NodeMessage::Event(NodeEvent::Beat { by, held: member.open_runs(), doing: self.doing() });
            self.publish(body, Box::new(move || safe.store(true, Ordering::SeqCst)));
        }
    }

    /// Leases what has been held for long and is under way. What only waits goes back to the queue instead: perhaps another node
    /// has nothing to do; if not, it comes again, as fresh as if it were new.
    fn lease(&self, member: &Member) {
        let limit = member.membership.lease_after;
        let old: Vec<_> = member.all().into_iter().filter(|hold| hold.since.elapsed() >= limit).collect();
        let begun = self.work.withdraw(old);
        let (mut tasks, mut deliveries) = (Vec::new(), Vec::new());
        for hold in begun {
            let carried = hold.lease();
            if !carried.is_empty() {
                tasks.push(hold.task());
                deliveries.extend(carried);
            }
        }
        if tasks.is_empty() {
            return;
        }
        let safe = Box::new(move || {
            failpoint!("fleet_leased");
            deliveries.into_iter().for_each(|delivery| delivery.ack());
        });
        self.publish(NodeMessage::Event(NodeEvent::Leased { tasks }), safe);
    }
}

/// Ascending, and as few as possible.
fn merge(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    runs.sort_by_key(|run| run.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for run in runs {
        let full = merged.len() == MOST_RUNS;
        match merged.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ if full => break,
            _ => merged.push(run),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_in_few_words() {
        assert_eq!(merge(vec![5..7, 0..2, 2..4, 6..9, 20..21]), [0..4, 5..9, 20..21]);
        assert_eq!(merge(vec![]), []);
        let many = (0..40_000).map(|at| 2 * at..2 * at + 1).collect();
        assert_eq!(merge(many).len(), MOST_RUNS);
    }
}
