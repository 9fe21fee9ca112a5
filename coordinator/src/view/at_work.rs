//! Why a job that runs is not faster: what keeps it, and what its processes spend their time on.

use fanfold_shared::clock::duration;
use fanfold_shared::message::Activity;
use fanfold_shared::text::{counted, grouped, one_line, rate, size};

use super::StatusView;
use super::explain::Waiting;
use crate::report::{Status, StatusProcess};

/// A process that has been in `init()` for so long is worth a word, even where others are ready.
const INIT_SLOW: f64 = 30.0;
/// Without a result for so long, a job is worth a word.
const STILL: f64 = 60.0;
/// A mini-batch that takes so many times as long as others is a straggler, if all others are done …
const STRAGGLES: f64 = 3.0;
/// … and in any case, if it takes so many times as long.
const STRAGGLES_FAR: f64 = 10.0;
/// Below so many seconds nobody minds.
const STRAGGLES_LEAST: f64 = 1.0;
/// So many processes have died, and it is worth a word.
const DYING: u64 = 3;
/// The part of the time that goes into attempts that failed, and is worth a word …
const FAILING_TIME: f64 = 0.2;
/// … if there are so many.
const FAILING_LEAST: u64 = 3;
/// The part of the time in which processes have nothing to do, and which is worth a word …
const IDLE: f64 = 0.3;
/// … if they had so much of it, seconds.
const IDLE_LEAST: f64 = 3.0;
/// The part of a mini-batch's time around `run()` that is worth a word.
const LOADING: f64 = 0.4;
/// The part of the time in which a processor was wanted and another had it, and which is worth a word.
const STARVED: f64 = 0.25;
/// Whoever uses less of a processor waits.
const COMPUTES: f64 = 0.5;

/// Says why: the most pressing first.
pub(super) fn at_work(view: &StatusView, waiting: &Waiting, done: &str, say: &mut dyn FnMut(&str, String)) {
    let status = &view.status;
    let look = Look { status, age: view.age };
    if let Some(stopping) = status.stopping {
        let since = duration(look.since(stopping));
        return say(
            "stopping",
            format!("it was told to stand still {since} ago: {}; {done} are settled", look.running()),
        );
    }
    let mut nodes = nodes(status, waiting.pool.as_ref());
    if let Some(text) = nodes.take_if(|_| status.nodes == 0 || status.nodes_wanted > 1) {
        say("nodes", text);
    }
    if let Some(limit) = waiting.limit {
        say("share", format!("it may have {} while other jobs wait for some", counted(limit.into(), "node")));
    }
    let troubles =
        [("init", look.init()), ("dying", look.dying()), ("failing", look.failing()), ("straggler", look.straggler())];
    for (code, text) in troubles {
        if let Some(text) = text {
            say(code, text);
        }
    }
    if status.nodes == 0 {
        return;
    }
    let last = status.timing.last_commit_us.or(status.timing.first_handover_us);
    if let Some(still) = last.map(|last| look.since(last)).filter(|still| *still >= STILL) {
        say("still", format!("no result has come for {}: {}; {done} are settled", duration(still), look.running()));
        return;
    }
    let ready = counted(look.ready().count() as u64, "process");
    let on = counted(status.nodes.into(), "node");
    let rest = status.eta_seconds.map(|eta| format!(", {} to go", duration(eta))).unwrap_or_default();
    say("working", format!("it works: {done}, {} items/s with {ready} on {on}{rest}", rate(status.items_per_second)));
    if let Some(text) = nodes {
        say("nodes", text);
    }
    if let Some((code, text)) = look.spent() {
        say(code, text);
    }
}

/// What is seen of a running job, and how old that is.
struct Look<'a> {
    status: &'a Status,
    age: f64,
}

impl Look<'_> {
    /// Seconds from `then`, microseconds since the epoch, until now.
    fn since(&self, then: u64) -> f64 {
        self.status.updated.saturating_sub(then) as f64 / 1e6 + self.age
    }

    fn ready(&self) -> impl Iterator<Item = &StatusProcess> {
        self.status.processes.iter().filter(|process| process.ready)
    }

    /// Those that have a mini-batch in hand, the one that has it for longest first, with the seconds.
    fn at_it(&self) -> Vec<(&StatusProcess, u64, f64)> {
        let of = |process: &'_ StatusProcess| Some((process.mini_batch?, self.since(process.since?)));
        let processes = self.status.processes.iter();
        let mut at_it: Vec<_> = processes
            .filter_map(|process| of(process).map(|(mini_batch, seconds)| (process, mini_batch, seconds)))
            .collect();
        at_it.sort_by(|a, b| b.2.total_cmp(&a.2));
        at_it
    }

    /// `2 of 8 processes are at a mini-batch, the longest for 41 s (mini-batch 17 in process001 of node 0)`
    fn running(&self) -> String {
        let (at_it, all) = (self.at_it(), counted(self.status.processes.len() as u64, "process"));
        let Some((process, mini_batch, seconds)) = at_it.first() else { return format!("none of {all} runs anything") };
        let StatusProcess { process, node, .. } = process;
        let long = duration(*seconds);
        let which = format!("mini-batch {mini_batch} in {process} of node {node}");
        match at_it.len() {
            1 => format!("1 of {all} is at a mini-batch, for {long} ({which})"),
            count => format!("{count} of {all} are at a mini-batch, the longest for {long} ({which})"),
        }
    }

    /// Seconds that a mini-batch takes.
    fn mean(&self) -> Option<f64> {
        let work = &self.status.work;
        (work.attempts > 0).then(|| work.busy_us as f64 / work.attempts as f64 / 1e6)
    }

    fn init(&self) -> Option<String> {
        let starting: Vec<_> = self.status.processes.iter().filter(|process| !process.ready).collect();
        let slowest = starting.iter().map(|process| self.since(process.started)).fold(0.0, f64::max);
        if starting.is_empty() || slowest < INIT_SLOW && starting.len() < self.status.processes.len() {
            return None;
        }
        let all = counted(self.status.processes.len() as u64, "process");
        let all_in = |activity| starting.iter().all(|process| process.activity == activity);
        let what = match () {
            () if all_in(Activity::Init) => "init()",
            () if all_in(Activity::Importing) => "the import of the script",
            () => "import or init()",
        };
        let long = duration(slowest);
        Some(match starting.len() {
            1 => format!("1 of {all} is still in {what}, for {long}"),
            count => format!("{count} of {all} are still in {what}, the longest for {long}"),
        })
    }

    fn dying(&self) -> Option<String> {
        let work = &self.status.work;
        if work.died < DYING {
            return None;
        }
        let again = match work.inits {
            0 => "none has become ready since".into(),
            inits => format!("a new one is ready after {}", took(work.init_us as f64 / inits as f64 / 1e6)),
        };
        let died = counted(work.died, "process");
        Some(format!("{died} died in the last {}; {again}{}", duration(work.span_us as f64 / 1e6), self.first_error()))
    }

    fn failing(&self) -> Option<String> {
        let work = &self.status.work;
        let share = work.failed_us as f64 / work.busy_us.max(1) as f64;
        let often = work.attempts >= 10 && work.failed * 2 > work.attempts;
        if work.failed < FAILING_LEAST || !often && share < FAILING_TIME {
            return None;
        }
        let (failed, all) = (grouped(work.failed), counted(work.attempts, "attempt"));
        Some(format!("{failed} of {all} failed, which took {} of the time{}", percent(share), self.first_error()))
    }

    fn first_error(&self) -> String {
        let first = self.status.errors.first();
        first.map(|error| format!("; the first error: {}", one_line(&error.message, 200))).unwrap_or_default()
    }

    /// What nobody else can help with: the last mini-batches, or one that takes far longer than others.
    fn straggler(&self) -> Option<String> {
        let (status, mean) = (self.status, self.mean()?);
        let at_it = self.at_it();
        let (process, mini_batch, seconds) = at_it.first()?;
        let (left, ready) = (status.counts.mini_batches_remaining, self.ready().count());
        let idle = ready.saturating_sub(at_it.len());
        let alone = status.splitting.is_none() && left <= at_it.len() as u64 && idle > 0;
        let times = if alone { STRAGGLES } else { STRAGGLES_FAR };
        if *seconds < (times * mean).max(STRAGGLES_LEAST) {
            return None;
        }
        let StatusProcess { process, node, .. } = process;
        let takes = format!(
            "mini-batch {mini_batch} has taken {} in {process} of node {node}, where one takes {} on average",
            duration(*seconds),
            took(mean)
        );
        if !alone {
            return Some(takes);
        }
        let (left, ready) = (counted(left, "mini-batch"), counted(ready as u64, "process"));
        let have = if idle == 1 { "has" } else { "have" };
        Some(format!("{left} left: {takes}; {idle} of {ready} {have} nothing to do"))
    }

    /// What the processes spend their time on, as far as that is known. At the end, when there is less to do than processes, it says nothing.
    fn spent(&self) -> Option<(&'static str, String)> {
        if self.status.splitting.is_none() && self.status.counts.mini_batches_remaining < self.ready().count() as u64 {
            return None;
        }
        let work = &self.status.work;
        let seconds = |us: u64| us as f64 / 1e6;
        let (ready, span) = (seconds(work.ready_us), seconds(work.span_us));
        // What is under way is in no sum yet.
        let under_way: f64 = self.at_it().iter().map(|(_, _, seconds)| seconds.min(span)).sum();
        let idle = 1.0 - (seconds(work.busy_us) + under_way) / ready.max(1e-6);
        if ready >= IDLE_LEAST && idle >= IDLE {
            return Some(("idle", self.idle(idle)));
        }
        let mean = self.mean()?;
        let each = |us: u64| took(seconds(us) / work.attempts as f64);
        let (run, around) = (each(work.run_us), work.busy_us.saturating_sub(work.run_us));
        let loading = around as f64 / work.busy_us.max(1) as f64;
        if loading >= LOADING {
            let (around, mean) = (each(around), took(mean));
            let text = format!(
                "loading inputs and writing rows take {} of the time of a mini-batch: {around} of {mean}, run() {run}",
                percent(loading)
            );
            return Some(("loading", text));
        }
        let delayed = seconds(work.delayed_us) / ready.max(1e-6);
        if ready >= IDLE_LEAST && delayed >= STARVED {
            let processes = counted(self.ready().count() as u64, "process");
            let text = format!(
                "run() takes {run} a mini-batch, and {} of the time of {processes} goes by waiting for a processor that others use: \
                 fewer processes, or more machines",
                percent(delayed)
            );
            return Some(("starved", text));
        }
        let cpu = work.cpu_us as f64 / work.busy_us.max(1) as f64;
        Some(match cpu < COMPUTES {
            true => (
                "waiting",
                format!(
                    "run() takes {run} a mini-batch and mostly waits (for files, the network, a GPU or a lock): it computes {} of the \
                     time",
                    percent(cpu)
                ),
            ),
            false => ("computing", format!("run() takes {run} a mini-batch and computes {} of the time", percent(cpu))),
        })
    }

    fn idle(&self, idle: f64) -> String {
        let work = &self.status.work;
        let why = match self.status.splitting {
            Some(part) => format!("the data is still being split, {} so far", percent(part)),
            None if work.downloaded > 0 => {
                let speed = size((work.downloaded as f64 / (work.span_us.max(1) as f64 / 1e6)) as u64);
                format!("inputs come from elsewhere, at {speed}/s")
            }
            None => format!("mini-batches take {} and come no faster", took(self.mean().unwrap_or_default())),
        };
        let processes = counted(self.ready().count() as u64, "process");
        format!("{processes} had nothing to do for {} of the time: {why}", percent(idle))
    }
}

/// A time that may be short.
fn took(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0} µs", seconds * 1e6),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => duration(seconds),
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part.clamp(0.0, 100.0) * 100.0)
}

/// Why there are too few nodes.
fn nodes(status: &Status, pool: Option<&(String, Option<(usize, usize)>)>) -> Option<String> {
    if status.nodes == 0 {
        return why_no_nodes(status, pool);
    }
    let free = match pool {
        Some((pool, Some((_, 0)))) => format!("; no worker of pool `{pool}` is free"),
        _ => String::new(),
    };
    match status.nodes_wanted {
        0 => None,
        // With `node_count: max` that is always so.
        1 => Some(format!("it has {} and would take one more{free}", counted(status.nodes.into(), "node"))),
        wanted => {
            let all = counted(u64::from(status.nodes) + u64::from(wanted), "node");
            Some(format!("it has {} of {all}{free}", grouped(status.nodes.into())))
        }
    }
}

/// Why the job has no nodes. Its coordinator says itself that it waits for some, and for how many; then only what it can't know is left:
/// what the workers of the pool are at.
fn why_no_nodes(status: &Status, pool: Option<&(String, Option<(usize, usize)>)>) -> Option<String> {
    let pool = pool.map(|(pool, workers)| (pool, *workers));
    let of_pool = |count, pool| format!("{} of pool `{pool}`", counted(count as u64, "worker"));
    let workers = match pool {
        Some((pool, Some((0, _)))) => {
            Some(format!("no worker is in pool `{pool}`; start `fanfold-worker --pool {pool}`"))
        }
        Some((pool, Some((1, 0)))) => Some(format!("the only worker of pool `{pool}` is at work for others")),
        Some((pool, Some((all, 0)))) => Some(format!("all {} are at work for others", of_pool(all, pool))),
        Some((pool, Some((all, free)))) => {
            let are = if free == 1 { "is" } else { "are" };
            Some(format!("{free} of {} {are} free and about to join", of_pool(all, pool)))
        }
        Some((_, None)) | None => None,
    };
    if status.blocked.is_some() {
        return workers;
    }
    let text = match (workers, pool) {
        (Some(workers), _) => format!("it waits for nodes: {workers}"),
        (None, Some((pool, _))) => format!("it waits for nodes of pool `{pool}`"),
        (None, None) => "it waits for nodes: none has joined".into(),
    };
    Some(match status.nodes_wanted {
        0 => text,
        wanted => format!("{text} ({} wanted)", grouped(wanted.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::explain::explain;
    use super::super::tests::view;
    use super::*;
    use crate::report::{Snapshot, Work};

    /// A minute of two processes that ran 100 mini-batches of 0.9 s, a third of it around `run()`.
    fn minute() -> Work {
        Work {
            span_us: 60_000_000,
            attempts: 100,
            busy_us: 90_000_000,
            run_us: 80_000_000,
            cpu_us: 70_000_000,
            ready_us: 100_000_000,
            inits: 2,
            init_us: 800_000,
            ..Work::default()
        }
    }

    fn told(work: Work, waiting: &Waiting, change: impl FnOnce(&mut Snapshot)) -> String {
        let view = view(|snapshot| {
            snapshot.work = work;
            change(snapshot);
        });
        let reasons = explain(&view, waiting).reasons;
        reasons.into_iter().map(|reason| format!("{}: {}\n", reason.code, reason.text)).collect()
    }

    #[test]
    fn what_the_time_is_spent_on_has_a_figure() {
        let last = |work| told(work, &Waiting::default(), |_| ()).lines().last().unwrap().to_string();
        insta::assert_snapshot!(last(minute()), @"computing: run() takes 800 ms a mini-batch and computes 78 % of the time");
        insta::assert_snapshot!(last(Work { cpu_us: 1_000_000, ..minute() }), @"waiting: run() takes 800 ms a mini-batch and mostly waits (for files, the network, a GPU or a lock): it computes 1 % of the time");
        insta::assert_snapshot!(last(Work { run_us: 20_000_000, ..minute() }), @"loading: loading inputs and writing rows take 78 % of the time of a mini-batch: 700 ms of 900 ms, run() 200 ms");
        insta::assert_snapshot!(last(Work { delayed_us: 60_000_000, ..minute() }), @"starved: run() takes 800 ms a mini-batch, and 60 % of the time of 1 process goes by waiting for a processor that others use: fewer processes, or more machines");
        insta::assert_snapshot!(last(Work { busy_us: 20_000_000, ..minute() }), @"idle: 1 process had nothing to do for 76 % of the time: mini-batches take 200 ms and come no faster");
        insta::assert_snapshot!(last(Work { busy_us: 20_000_000, downloaded: 300 << 20, ..minute() }), @"idle: 1 process had nothing to do for 76 % of the time: inputs come from elsewhere, at 5.0 MiB/s");
        let splits = |snapshot: &mut Snapshot| snapshot.splitting = Some(0.25);
        let told = told(Work { busy_us: 20_000_000, ..minute() }, &Waiting::default(), splits);
        assert!(told.ends_with("for 76 % of the time: the data is still being split, 25 % so far\n"), "{told}");
    }

    #[test]
    fn troubles_come_first() {
        let told = |work, change: fn(&mut Snapshot)| {
            told(work, &Waiting::default(), change).lines().next().unwrap().to_string()
        };
        let failing = Work { failed: 30, failed_us: 45_000_000, ..minute() };
        insta::assert_snapshot!(told(failing, |_| ()), @"failing: 30 of 100 attempts failed, which took 50 % of the time; the first error: ValueError: bad pixel");
        insta::assert_snapshot!(told(Work { died: 7, ..minute() }, |_| ()), @"dying: 7 processes died in the last 1 min 00 s; a new one is ready after 400 ms; the first error: ValueError: bad pixel");
        let one_left = |snapshot: &mut Snapshot| {
            snapshot.totals.mini_batches_succeeded = 274;
            snapshot.processes[1].ready = true;
        };
        insta::assert_snapshot!(told(minute(), one_left), @"straggler: 1 mini-batch left: mini-batch 121 has taken 3.7 s in process000 of node 0, where one takes 900 ms on average; 1 of 2 processes has nothing to do");
        insta::assert_snapshot!(told(minute(), |snapshot| snapshot.processes[0].ready = false), @"init: 2 of 2 processes are still in import or init(), the longest for 30 s");
        insta::assert_snapshot!(told(minute(), |snapshot| snapshot.stopping_us = Some(snapshot.now_us - 2_000_000)), @"stopping: it was told to stand still 2.5 s ago: 1 of 2 processes is at a mini-batch, for 3.7 s (mini-batch 121 in process000 of node 0); 120 of 276 mini-batches are settled");
    }

    #[test]
    fn too_few_nodes_are_counted() {
        let told = |wanted, workers| {
            let pool = Waiting { pool: Some(("gpu".into(), workers)), ..Waiting::default() };
            let told = told(minute(), &pool, |snapshot| snapshot.nodes_wanted = wanted);
            told.lines().find(|line| line.starts_with("nodes: ")).map(str::to_string)
        };
        assert_eq!(told(0, Some((3, 0))), None);
        assert_eq!(told(1, None).unwrap(), "nodes: it has 1 node and would take one more");
        assert_eq!(told(3, Some((1, 0))).unwrap(), "nodes: it has 1 of 4 nodes; no worker of pool `gpu` is free");
    }
}
