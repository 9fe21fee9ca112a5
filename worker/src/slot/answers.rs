//! What a process answered, turned into outcomes; the logs of both kinds get their lines here.

use fanfold_shared::clock;
use fanfold_shared::message::{AttemptError, ErrorKind, Outcome, OutcomeEnd, Results};

use super::current::{Current, Held};
use super::protocol::{Done, DoneRecord, Failed, Spooled, Times};
use crate::logs::{MiniBatchLine, Stage};

/// How much the newest answer counts in the estimate of how long a mini-batch takes.
const NEWEST: f64 = 0.5;

/// The process answered something that it does not hold (any more).
#[derive(Debug)]
pub struct NotHeld;

/// Outcomes to be published, and what to let go of when that is done.
pub type Taken = Result<(Results, Vec<Held>), NotHeld>;

/// Mini-batches that returned.
pub fn done(current: &mut Current, done: Done) -> Taken {
    let count = done.records.len();
    if current.held.front().is_none_or(|held| held.mini_batch != done.first) || current.held.len() < count {
        return Err(NotHeld);
    }
    let held: Vec<Held> = current.held.drain(..count).collect();
    current.answered += count as u64;
    let wall = Wall::now();
    let mut outcomes = Vec::with_capacity(count);
    let mut total_ns = 0;
    for (held, record) in held.iter().zip(&done.records) {
        total_ns += record.total_ns;
        outcomes.push(returned(held, record, &wall));
    }
    learn(current, total_ns as f64 / count as f64);
    let mut results = results(current, outcomes);
    results.rows = done.rows;
    results.header = header(current, done.header);
    log(current, &results, &held);
    Ok((results, held))
}

/// A mini-batch that returned more than goes through a pipe.
pub fn spooled(current: &mut Current, spooled: Spooled) -> Taken {
    let held = take(current, spooled.mini_batch)?;
    learn(current, spooled.times.total_ns as f64);
    let times = spooled.times;
    let end = OutcomeEnd::Returned {
        returned: spooled.returned,
        rows_len: spooled.rows_len,
        spooled: Some(spooled.path.into()),
        unreadable: held.unreadable.clone(),
    };
    let mut results = results(current, vec![outcome(&held, &times, &Wall::now(), end)]);
    results.header = header(current, spooled.header.into_bytes());
    let held = vec![held];
    log(current, &results, &held);
    Ok((results, held))
}

/// An attempt that failed, by the host's word.
pub fn failed(current: &mut Current, failed: Failed, stderr: String) -> Taken {
    let held = take(current, failed.mini_batch)?;
    let kind = ErrorKind::from_name(&failed.kind).unwrap_or(ErrorKind::Exception);
    let error =
        AttemptError { kind, message: failed.message, traceback: failed.traceback, stderr, of_all: failed.of_all };
    Ok(failure(current, held, failed.times, error))
}

/// An attempt that failed in a way that only we could see. None: the process does not hold that mini-batch.
pub fn charged(current: &mut Current, mini_batch: u64, error: AttemptError) -> Option<(Results, Held)> {
    let at = current.held.iter().position(|held| held.mini_batch == mini_batch)?;
    let held = current.held.remove(at)?;
    let look = current.page.look();
    let elapsed_ns = look.began.elapsed().as_nanos() as u64;
    let start_ns = clock::monotonic_ns().saturating_sub(elapsed_ns);
    let times = Times { start_ns, run_ns: elapsed_ns, total_ns: elapsed_ns, cpu_ns: 0 };
    let (results, mut held) = failure(current, held, times, error);
    Some((results, held.remove(0)))
}

/// Mini-batches of which no item can be read: nothing was run, and there is nothing to retry.
pub fn unreadable(current: &mut Current, held: &[Held]) -> Results {
    let times = Times { start_ns: clock::monotonic_ns(), run_ns: 0, total_ns: 0, cpu_ns: 0 };
    let wall = Wall::now();
    let outcomes = held
        .iter()
        .map(|held| {
            let unreadable = held.unreadable.clone();
            outcome(held, &times, &wall, OutcomeEnd::Returned { returned: 0, rows_len: 0, spooled: None, unreadable })
        })
        .collect();
    let results = results(current, outcomes);
    log(current, &results, held);
    results
}

/// An attempt whose files are refused to this machine: another one may get them.
pub fn refused(current: &mut Current, held: Held, message: String) -> (Results, Vec<Held>) {
    let times = Times { start_ns: clock::monotonic_ns(), run_ns: 0, total_ns: 0, cpu_ns: 0 };
    let error =
        AttemptError { kind: ErrorKind::Input, message, traceback: String::new(), stderr: String::new(), of_all: true };
    failure(current, held, times, error)
}

fn failure(current: &mut Current, held: Held, times: Times, error: AttemptError) -> (Results, Vec<Held>) {
    let stage = Stage::Run {
        mini_batch: held.mini_batch,
        attempt: held.hold.attempt,
        total: held.items.end - held.items.start,
    };
    current.errors.failure(clock::wall_us(), current.process.pid(), stage, &error);
    let outcome = outcome(&held, &times, &Wall::now(), OutcomeEnd::Failed(Box::new(error)));
    let results = results(current, vec![outcome]);
    let held = vec![held];
    log(current, &results, &held);
    (results, held)
}

fn take(current: &mut Current, mini_batch: u64) -> Result<Held, NotHeld> {
    let held = current.held.pop_front_if(|held| held.mini_batch == mini_batch).ok_or(NotHeld)?;
    current.answered += 1;
    Ok(held)
}

fn learn(current: &mut Current, mean_ns: f64) {
    let estimate = current.estimate_ns.map_or(mean_ns, |old| old * (1.0 - NEWEST) + mean_ns * NEWEST);
    current.estimate_ns = Some(estimate);
}

/// The header of a DataFrame: the host says it once.
fn header(current: &mut Current, said: Vec<u8>) -> Option<Vec<u8>> {
    if !said.is_empty() {
        current.header = Some(said);
    }
    current.header.clone()
}

fn results(current: &Current, outcomes: Vec<Outcome>) -> Results {
    Results { process: current.number, outcomes, rows: Vec::new(), header: None }
}

fn returned(held: &Held, record: &DoneRecord, wall: &Wall) -> Outcome {
    let times =
        Times { start_ns: record.start_ns, run_ns: record.run_ns, total_ns: record.total_ns, cpu_ns: record.cpu_ns };
    let end = OutcomeEnd::Returned {
        returned: record.returned.into(),
        rows_len: record.rows_len.into(),
        spooled: None,
        unreadable: held.unreadable.clone(),
    };
    outcome(held, &times, wall, end)
}

fn outcome(held: &Held, times: &Times, wall: &Wall, end: OutcomeEnd) -> Outcome {
    Outcome {
        mini_batch: held.mini_batch,
        items: held.items.clone(),
        attempt: held.hold.attempt,
        started_us: wall.us_at(times.start_ns),
        elapsed_us: times.total_ns / 1000,
        run_us: times.run_ns / 1000,
        cpu_us: times.cpu_ns / 1000,
        end,
    }
}

fn log(current: &mut Current, results: &Results, held: &[Held]) {
    for (outcome, held) in results.outcomes.iter().zip(held) {
        let total = held.items.end - held.items.start;
        let (succeeded, error) = match &outcome.end {
            OutcomeEnd::Returned { returned, unreadable, .. } => {
                ((*returned).min(total - unreadable.len() as u64), None)
            }
            OutcomeEnd::Failed(error) => (0, Some((error.kind, error.message.as_str()))),
        };
        current.log.mini_batch(&MiniBatchLine {
            mini_batch: outcome.mini_batch,
            attempt: outcome.attempt,
            total,
            succeeded,
            started_us: outcome.started_us,
            elapsed_us: outcome.elapsed_us,
            cpu_us: outcome.cpu_us,
            run_us: outcome.run_us,
            error,
        });
    }
}

/// Turns CLOCK_MONOTONIC into the time of day, both read at the same moment.
struct Wall {
    us: u64,
    monotonic_ns: u64,
}

impl Wall {
    fn now() -> Wall {
        Wall { us: clock::wall_us(), monotonic_ns: clock::monotonic_ns() }
    }

    fn us_at(&self, monotonic_ns: u64) -> u64 {
        self.us.saturating_sub(self.monotonic_ns.saturating_sub(monotonic_ns) / 1000)
    }
}
