//! When a job must not go on: thresholds, `init` that never succeeds, no progress (spec section 5). Pure.

use std::time::{Duration, Instant};

use fanfold_shared::job::{JobSpec, OutputAction};
use fanfold_shared::message::{AttemptError, ErrorKind};
use fanfold_shared::text::counted;

use crate::ledger::{ErrorGroup, Totals};

/// The job must be older than this before it gives up on `init`.
const INIT_AGE: Duration = Duration::from_secs(120);

/// Why a job fails: one stated cause, for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One sentence.
    pub text: String,
    /// The script's traceback, where one belongs to it.
    pub traceback: String,
}

impl Cause {
    fn new(text: String) -> Cause {
        Cause { text, traceback: String::new() }
    }

    /// A bug of fanfold.
    pub fn bug(what: &str) -> Cause {
        Cause::new(format!("{what}: this is a bug of fanfold"))
    }

    /// A node can't work, for a reason that is not the script's.
    pub fn broken(why: &str) -> Cause {
        Cause::new(format!("the node cannot work: {why}"))
    }

    /// What a node needs can't be had, there or anywhere.
    pub fn cannot_join(why: &str) -> Cause {
        Cause::new(format!("no node can work on this job: {why}"))
    }

    /// The job is old, and `init` never succeeded.
    pub fn init_hopeless(failures: u64, last: Option<&AttemptError>) -> Cause {
        let text = format!("init() failed {failures} times and never succeeded");
        match last {
            Some(error) => Cause { text: format!("{text}: {}", error.message), traceback: error.traceback.clone() },
            None => Cause::new(text),
        }
    }

    /// Every node gave up on `init`.
    pub fn init(error: &AttemptError) -> Cause {
        Cause {
            text: format!("the entry script could not be started: {}", error.message),
            traceback: error.traceback.clone(),
        }
    }
}

/// The thresholds, strictly: a job fails when more failed than was tolerated. `all_scheduled`: only then is a percentage
/// of the mini-batches judged.
pub fn thresholds(spec: &JobSpec, totals: &Totals, all_scheduled: bool) -> Option<Cause> {
    if spec.error_threshold >= 0 && totals.items_failed > spec.error_threshold as u64 {
        let failed = exceed(totals.items_failed, "failed item", "");
        return Some(Cause::new(format!("{failed} error_threshold {}", spec.error_threshold)));
    }
    let failed = failed_mini_batches(spec, totals);
    if let Some(allowed) = spec.allowed_failed_count
        && failed > allowed
    {
        let failed = exceed(failed, "failed mini-batch", "");
        return Some(Cause::new(format!("{failed} allowed_failed_count {allowed}")));
    }
    if let Some(allowed) = spec.allowed_failed_percent
        && all_scheduled
        && failed as f64 * 100.0 > allowed * totals.mini_batches as f64
    {
        let percent = failed as f64 * 100.0 / totals.mini_batches as f64;
        let failed = exceed(failed, "failed mini-batch", &format!(" of {} ({percent:.1} %)", totals.mini_batches));
        return Some(Cause::new(format!("{failed} allowed_failed_percent {allowed}")));
    }
    None
}

/// `1 failed item exceeds`, `2 failed items exceed`
fn exceed(count: u64, what: &str, of: &str) -> String {
    format!("{}{of} {}", counted(count, what), if count == 1 { "exceeds" } else { "exceed" })
}

/// A short return makes a mini-batch a failed one only where `error_threshold` is set (spec section 2).
fn failed_mini_batches(spec: &JobSpec, totals: &Totals) -> u64 {
    totals.mini_batches_failed + if spec.error_threshold >= 0 { totals.mini_batches_short } else { 0 }
}

/// Everything is settled: whether that is a result at all.
pub fn is_no_result(spec: &JobSpec, totals: &Totals) -> bool {
    spec.output_action == OutputAction::AppendRow && totals.items_succeeded == 0
}

/// No item succeeded; `most` is the most frequent error.
pub fn no_result(most: Option<&ErrorGroup>) -> Cause {
    let begin = "no item succeeded, so there is no result";
    Cause::new(match most {
        Some(error) if error.kind == ErrorKind::ShortReturn => {
            format!("{begin}: {} (it must return an element for each item that succeeded)", error.message)
        }
        Some(error) => format!("{begin}; the most frequent error: {}", error.message),
        None => begin.to_string(),
    })
}

/// Whether the job gives up on `init`: it is older than 2 minutes, no `init` ever succeeded, and there were
/// `2 × nodes × process_count_per_node` failures.
pub fn init_hopeless(age: Duration, failures: u64, successes: u64, processes: u64) -> bool {
    age > INIT_AGE && successes == 0 && failures >= 2 * processes
}

/// The clock of `progress_update_timeout`. It runs only while a node works and nothing else holds the job up.
///
/// Time in which nobody looked at it counts for [`LOOK_MOST`]: the program was stopped (Ctrl-Z, a frozen container) or the
/// machine slept, and what was finished meanwhile has not been heard yet.
#[derive(Debug)]
pub struct ProgressClock {
    limit: Duration,
    spent: Duration,
    looked: Option<Instant>,
}

/// What the time between two looks counts at the most; the driver looks many times a second.
const LOOK_MOST: Duration = Duration::from_secs(1);

impl ProgressClock {
    /// A clock that stands still at 0.
    pub fn new(limit: Duration) -> ProgressClock {
        ProgressClock { limit, spent: Duration::ZERO, looked: None }
    }

    /// Something was settled, or a process became ready.
    pub fn progress(&mut self, now: Instant) {
        self.spent = Duration::ZERO;
        self.looked = self.looked.map(|_| now);
    }

    /// Lets the clock run, or stops it.
    pub fn run(&mut self, running: bool, now: Instant) {
        self.count(now);
        self.looked = running.then_some(now);
    }

    /// For how long nothing moved, if that is too long.
    pub fn expired(&mut self, now: Instant) -> Option<Duration> {
        self.count(now);
        (self.spent >= self.limit).then_some(self.spent)
    }

    fn count(&mut self, now: Instant) {
        if let Some(looked) = &mut self.looked {
            self.spent += (now - *looked).min(LOOK_MOST);
            *looked = now;
        }
    }
}

/// Nothing moved for too long.
pub fn no_progress(waited: Duration, stuck: &str) -> Cause {
    Cause::new(format!("no progress for {} s (progress_update_timeout): {stuck}", waited.as_secs()))
}

/// No mini-batch was scheduled in time.
pub fn first_task_late(limit: u64, doing: &str) -> Cause {
    Cause::new(format!("no mini-batch was scheduled within {limit} s (first_task_creation_timeout): {doing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second from `from` to `to` seconds after `start`.
    fn watch(clock: &mut ProgressClock, start: Instant, from: u64, to: u64) -> Option<Duration> {
        (from..=to).fold(None, |_, second| clock.expired(start + Duration::from_secs(second)))
    }

    #[test]
    fn the_progress_clock_stands_still_while_the_job_is_held_up() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut clock = ProgressClock::new(10 * second);
        assert_eq!(watch(&mut clock, start, 0, 20), None, "no node has joined");
        clock.run(true, start + 20 * second);
        assert_eq!(watch(&mut clock, start, 20, 26), None);
        clock.run(false, start + 26 * second);
        assert_eq!(watch(&mut clock, start, 26, 100), None);
        clock.run(true, start + 100 * second);
        assert_eq!(watch(&mut clock, start, 100, 103), None);
        assert_eq!(watch(&mut clock, start, 103, 104), Some(10 * second));
        clock.progress(start + 104 * second);
        assert_eq!(watch(&mut clock, start, 104, 113), None);
    }

    #[test]
    fn time_in_which_the_program_was_stopped_is_no_lack_of_progress() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut clock = ProgressClock::new(10 * second);
        clock.run(true, start);
        assert_eq!(watch(&mut clock, start, 0, 5), None);
        assert_eq!(clock.expired(start + 3600 * second), None);
        assert_eq!(watch(&mut clock, start, 3600, 3603), None);
        assert_eq!(watch(&mut clock, start, 3603, 3604), Some(10 * second));
    }

    #[test]
    fn init_is_hopeless_only_when_old_and_never_good() {
        let old = Duration::from_secs(121);
        assert!(init_hopeless(old, 4, 0, 2));
        assert!(!init_hopeless(old, 3, 0, 2));
        assert!(!init_hopeless(old, 40, 1, 2));
        assert!(!init_hopeless(Duration::from_secs(119), 40, 0, 2));
    }
}
