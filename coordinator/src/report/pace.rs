//! How fast a job settles and when it will be done.
//!
//! The rate is that of a sliding window over what is settled. Two things would make it lie, and are dealt with:
//! - Long mini-batches settle in bursts, one from each process. So the window reaches back over many of these moments, not over
//!   a fixed time, and ends at the last of them, unless the next is overdue.
//!   Where it can be seen for how long processes have been at theirs, what is under way counts in part, and there are no bursts.
//! - At the beginning there are no bursts to look back on, and processes that became ready one after the other finish
//!   one after the other. As long as few have finished, the time to go is worked out from how long a `run()` takes and how
//!   many processes there are.
//!
//! The clock starts when the first process is ready: loading a model says nothing about the speed of `run()`.

use std::collections::VecDeque;

use super::{JobFacts, ProcessState, Snapshot};
use crate::ledger::Totals;

/// How fast, and how long still.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Items settled per second.
    pub items_per_second: f64,
    /// Mini-batches settled per second.
    pub mini_batches_per_second: f64,
    /// Seconds until every mini-batch is settled; None as long as nothing tells.
    pub eta_seconds: Option<f64>,
}

impl Pace {
    /// Of a run that is over: what it settled, by the time from its first mini-batch to its last commit; building an environment
    /// says nothing about the speed of the job.
    pub fn overall(facts: &JobFacts, snapshot: &Snapshot) -> Pace {
        let totals = &snapshot.totals;
        let settled = totals.mini_batches_settled().saturating_sub(facts.settled_before);
        let busy =
            snapshot.last_commit_us.zip(snapshot.first_handover_us).map(|(end, start)| end.saturating_sub(start));
        let Some(busy) = busy.filter(|busy| settled > 0 && *busy > 0) else { return Pace::default() };
        let mini_batches_per_second = settled as f64 * 1e6 / busy as f64;
        // Nobody counted the items of earlier runs: they had as many to a mini-batch.
        let items = totals.items_settled() as f64 / totals.mini_batches_settled() as f64;
        Pace { items_per_second: mini_batches_per_second * items, mini_batches_per_second, eta_seconds: None }
    }
}

/// A moment at which more was settled than before.
#[derive(Clone, Copy, Debug)]
struct Point {
    us: u64,
    mini_batches: u64,
    items: u64,
    /// Mini-batches, those under way in part.
    progress: f64,
}

/// Moments closer together than this are one: a commit per millisecond must not push the past out of the window.
const COALESCE_US: u64 = 250_000;
/// The window reaches back over at least this time …
const WINDOW_US: u64 = 30_000_000;
/// … and this many moments.
const WINDOW_POINTS: usize = 16;
/// Points kept; with [`COALESCE_US`] enough for the window in any case.
const KEPT: usize = 512;
/// Runs longer than this come in bursts that an observer sees one by one.
const LONG_RUN_US: f64 = 500_000.0;

/// Watches the snapshots of one run of a coordinator.
#[derive(Debug, Default)]
pub struct Pacer {
    /// Ascending; the first is the moment when the clock started.
    points: VecDeque<Point>,
    ready_seen: bool,
    /// What was settled and spent in `run()` before the clock started.
    start: (u64, u64),
}

impl Pacer {
    /// Takes a look and says what it means. To be called about once a second.
    pub fn observe(&mut self, snapshot: &Snapshot) -> Pace {
        let totals = &snapshot.totals;
        let settled = totals.mini_batches_settled();
        let progress = settled as f64 + self.under_way(snapshot).iter().sum::<f64>();
        let now = Point { us: snapshot.now_us, mini_batches: settled, items: totals.items_settled(), progress };
        let Some(last) = self.points.back().copied() else {
            self.start = (totals.attempts, totals.run_us);
            self.points.push_back(now);
            self.ready_seen = snapshot.ready() > 0;
            return Pace::default();
        };
        if !self.ready_seen {
            // Nothing could run at the last look. A look is a second, which of a short job is much: so the clock starts when the first
            // process was ready, if that is known, and else now at the earliest.
            let ready_us = snapshot.first_ready_us.filter(|ready_us| (last.us..=now.us).contains(ready_us));
            let us = match ready_us {
                Some(ready_us) => ready_us,
                None if now.mini_batches > last.mini_batches => last.us,
                None => now.us,
            };
            self.points = VecDeque::from([Point { us, ..last }]);
            self.ready_seen = snapshot.ready() > 0 || now.mini_batches > last.mini_batches;
        }
        if now.mini_batches > last.mini_batches {
            // The very first point stays: it is where the clock started.
            if self.points.len() > 2 && now.us.saturating_sub(self.points[self.points.len() - 2].us) < COALESCE_US {
                self.points.pop_back();
            }
            self.points.push_back(now);
            if self.points.len() > KEPT {
                self.points.pop_front();
            }
        }
        self.pace(snapshot)
    }

    fn pace(&self, snapshot: &Snapshot) -> Pace {
        let totals = &snapshot.totals;
        let (first, last) = (self.window_start(), *self.points.back().expect("observe pushed one"));
        let settled = last.mini_batches - first.mini_batches;
        if settled == 0 || last.us <= first.us {
            return Pace::default();
        }
        let moments = self.points.iter().filter(|p| p.us > first.us).count() as u64;
        let usual_gap = (last.us - first.us) / moments.max(1);
        // Between two bursts nothing is wrong; when the next is overdue, the time counts.
        let since = snapshot.now_us.saturating_sub(last.us);
        let overdue = since > (2 * usual_gap).max(self.run_us(totals) as u64 * 3 / 2) + 2_000_000;
        let seconds = (last.us - first.us + if overdue { since } else { 0 }) as f64 / 1e6;
        let per_second = settled as f64 / seconds;
        let remaining = snapshot.mini_batches_to_come() as f64;
        let mut eta = remaining / per_second;
        if !overdue {
            // What would be settled by now if mini-batches did not end in bursts.
            eta -= since as f64 / 1e6;
        }
        let under_way = self.under_way(snapshot);
        if let Some(by_work) = self.by_work(snapshot).filter(|_| !overdue) {
            eta = by_work;
        } else if !under_way.is_empty() {
            let under_way: f64 = under_way.iter().sum();
            let progress = totals.mini_batches_settled() as f64 + under_way - first.progress;
            let seconds = snapshot.now_us.saturating_sub(first.us) as f64 / 1e6;
            eta = (remaining - under_way) * seconds / progress.max(0.1);
        }
        if let Some(last) = self.last_to_end(snapshot).filter(|_| !overdue) {
            eta = eta.max(last);
        }
        Pace {
            items_per_second: (last.items - first.items) as f64 / seconds,
            mini_batches_per_second: per_second,
            eta_seconds: Some(eta.max(0.0)),
        }
    }

    /// Seconds to go by the work that remains, as long as every process has finished few long mini-batches.
    fn by_work(&self, snapshot: &Snapshot) -> Option<f64> {
        let totals = &snapshot.totals;
        let attempts = totals.attempts.saturating_sub(self.start.0);
        let processes = snapshot.ready() as f64;
        if attempts == 0 || processes == 0.0 || attempts as f64 > 4.0 * processes {
            return None;
        }
        let run_us = self.run_us(totals);
        if run_us < LONG_RUN_US {
            return None;
        }
        let last = self.points.back()?;
        // Those running now are halfway on average, but only as far as there was time since the last one ended.
        let to_come = snapshot.mini_batches_to_come() as f64;
        let seen = self.under_way(snapshot);
        if !seen.is_empty() {
            return Some((to_come - seen.iter().sum::<f64>()).max(0.0) * run_us / processes / 1e6);
        }
        let rounds = to_come / processes;
        let under_way = (snapshot.now_us.saturating_sub(last.us) as f64).min(run_us);
        Some((rounds.max(1.0) * run_us - under_way).max(0.0) / 1e6)
    }

    /// How much of each mini-batch that is under way is done, as far as that can be seen and where it is worth it; never all of it.
    fn under_way(&self, snapshot: &Snapshot) -> Vec<f64> {
        let run_us = self.run_us(&snapshot.totals);
        if run_us < LONG_RUN_US {
            return Vec::new();
        }
        let part = |process: &ProcessState| {
            let since = snapshot.now_us.saturating_sub(process.since_us) as f64;
            process.mini_batch.map(|_| (since / run_us).min(0.95))
        };
        snapshot.processes.iter().filter_map(part).collect()
    }

    /// Seconds until the one that began last ends, where nothing waits any more: others can't help.
    fn last_to_end(&self, snapshot: &Snapshot) -> Option<f64> {
        let under_way = self.under_way(snapshot);
        let last = under_way.iter().copied().reduce(f64::min)?;
        let all = snapshot.mini_batches_to_come() <= under_way.len() as u64;
        all.then(|| (1.0 - last) * self.run_us(&snapshot.totals) / 1e6)
    }

    /// Microseconds that one `run()` takes on average.
    fn run_us(&self, totals: &Totals) -> f64 {
        let attempts = totals.attempts.saturating_sub(self.start.0);
        totals.run_us.saturating_sub(self.start.1) as f64 / attempts.max(1) as f64
    }

    fn window_start(&self) -> Point {
        let last = self.points.back().expect("observe pushed one");
        let enough = |&(i, p): &(usize, &Point)| {
            last.us.saturating_sub(p.us) >= WINDOW_US && self.points.len() - 1 - i >= WINDOW_POINTS
        };
        let found = self.points.iter().enumerate().rev().find(enough).map(|(_, p)| *p);
        found.unwrap_or(*self.points.front().expect("observe pushed one"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::fixtures::{THEN, running};
    use super::*;

    /// A uniform job on `processes` that become ready `stagger` seconds after each other, the first after `init` seconds.
    struct Uniform {
        mini_batches: u64,
        run: f64,
        processes: u64,
        init: f64,
        stagger: f64,
    }

    impl Uniform {
        /// Seconds after which each mini-batch ends, ascending.
        fn ends(&self) -> Vec<f64> {
            let mut free: Vec<f64> = (0..self.processes).map(|i| self.init + i as f64 * self.stagger).collect();
            let mut ends: Vec<f64> = (0..self.mini_batches)
                .map(|_| {
                    let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                    *next += self.run;
                    *next
                })
                .collect();
            ends.sort_by(f64::total_cmp);
            ends
        }

        /// The worst error of the predicted end after the first tenth, as a part of the job's duration.
        /// `seen`: for how long processes have been at theirs can be seen.
        fn worst_error(&self, seen: bool) -> (f64, f64) {
            let ends = self.ends();
            let duration = *ends.last().unwrap();
            let (mut pacer, mut worst) = (Pacer::default(), (0.0, 0.0));
            let step = (duration / 200.0).clamp(0.05, 1.0);
            for tick in 0..(duration / step) as u64 {
                let now = tick as f64 * step;
                let settled = ends.partition_point(|end| *end <= now) as u64;
                let ready = (0..self.processes).filter(|i| self.init + *i as f64 * self.stagger <= now).count();
                let mut snapshot = running();
                snapshot.now_us = THEN + (now * 1e6) as u64;
                let process = snapshot.processes[0].clone();
                snapshot.processes = vec![ProcessState { mini_batch: None, ..process.clone() }; ready];
                let under_way = ends.iter().filter(|end| (now..now + self.run).contains(end) && **end > now);
                for (process, end) in snapshot.processes.iter_mut().zip(under_way).filter(|_| seen) {
                    process.mini_batch = Some(0);
                    process.since_us = THEN + ((end - self.run) * 1e6) as u64;
                }
                snapshot.first_ready_us = (ready > 0).then_some(THEN + (self.init * 1e6) as u64);
                snapshot.totals = Totals {
                    items: self.mini_batches * 10,
                    items_succeeded: settled * 10,
                    mini_batches: self.mini_batches,
                    mini_batches_succeeded: settled,
                    attempts: settled,
                    run_us: (settled as f64 * self.run * 1e6) as u64,
                    ..Totals::default()
                };
                let pace = pacer.observe(&snapshot);
                if settled * 10 >= self.mini_batches {
                    let eta = pace.eta_seconds.expect("a tenth is done");
                    let error = (now + eta - duration).abs() / duration;
                    if error > worst.0 {
                        worst = (error, now);
                    }
                }
            }
            worst
        }
    }

    #[test]
    fn after_the_first_tenth_of_a_uniform_job_the_end_is_known_within_a_fifth() {
        for (mini_batches, run, processes, init, stagger) in [
            (100_000, 0.002, 8, 1.0, 0.0),
            (10_000, 0.05, 4, 20.0, 0.5),
            (1000, 1.0, 8, 5.0, 0.2),
            (276, 3.0, 2, 30.0, 1.0),
            (40, 60.0, 8, 10.0, 1.0),
            (400, 60.0, 8, 120.0, 2.0),
            (100, 30.0, 1, 0.0, 0.0),
            (5000, 0.7, 16, 3.0, 0.1),
            // Over before it was looked at often.
            (400, 0.05, 2, 0.6, 0.1),
        ] {
            for seen in [false, true] {
                let (error, at) = Uniform { mini_batches, run, processes, init, stagger }.worst_error(seen);
                assert!(
                    error <= 0.2,
                    "{mini_batches} × {run} s on {processes} ({seen}): wrong by {:.0} % at {at:.1} s",
                    error * 100.0
                );
            }
        }
    }

    #[test]
    fn a_job_that_stands_still_gets_slower_and_the_eta_grows() {
        let mut pacer = Pacer::default();
        let mut etas = Vec::new();
        for second in 0..120u64 {
            let mut snapshot = running();
            snapshot.now_us = THEN + second * 1_000_000;
            let settled = second.min(60);
            snapshot.totals = Totals {
                mini_batches: 600,
                mini_batches_succeeded: settled,
                items: 600,
                items_succeeded: settled,
                ..Totals::default()
            };
            etas.push(pacer.observe(&snapshot).eta_seconds);
        }
        assert_eq!(etas[0], None);
        assert!((etas[60].unwrap() - 540.0).abs() < 20.0, "{:?}", etas[60]);
        assert!(etas[119].unwrap() > 1000.0, "{:?}", etas[119]);
    }
}
