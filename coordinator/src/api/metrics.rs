//! What Prometheus sees. Made anew at every scrape from what is known then: no counter of ours that a restart would lose, and no series of a
//! job that is long over.

use std::sync::atomic::{AtomicI64, AtomicU64};

use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::clock::wall_us;
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::Result;
use fanfold_shared::state::JobState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::aggregate::commit_seconds;
use crate::ledger::LedgerReader;
use crate::service::{Job, Service};
use crate::view::StatusView;

/// A job that is over is seen for so long.
const SEEN: u64 = 10 * 60 * 1_000_000;
/// Distinct errors that are counted by kind.
const ERRORS: usize = 10_000;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByJob {
    job: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByFate {
    job: String,
    fate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByPool {
    job: String,
    pool: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    job: String,
    kind: &'static str,
}

type Amounts<L> = Family<L, Gauge<i64, AtomicI64>>;
type Seconds<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Default)]
struct Jobs {
    states: Amounts<ByState>,
    items: Amounts<ByFate>,
    mini_batches: Amounts<ByFate>,
    window: Amounts<ByJob>,
    nodes: Amounts<ByJob>,
    nodes_wanted: Amounts<ByPool>,
    processes: Amounts<ByJob>,
    still: Seconds<ByJob>,
    failures: Family<ByKind, Counter>,
}

/// The text of one scrape.
///
/// # Errors
/// The store can't be read.
pub fn text(service: &Service) -> Result<String> {
    let mut registry = Registry::with_prefix("fanfold");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that answers", build);
    let jobs = Jobs::default();
    for state in JobState::ALL {
        drop(jobs.states.get_or_create(&ByState { state: state.name().into() }));
    }
    let now = wall_us();
    for job in service.jobs()? {
        jobs.states.get_or_create(&ByState { state: job.state.name().into() }).inc();
        if job.ended_us.is_none_or(|ended| now.saturating_sub(ended) < SEEN) {
            jobs.add(&job, &service.status(&job), now);
        }
    }
    jobs.register(&mut registry);
    let commits = "Time to write, sync and record a group of results, in this process";
    registry.register("commit_seconds", commits, commit_seconds().clone());
    let mut flag = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let condition = service.broker().condition();
    flag("broker_connected", "Whether RabbitMQ is connected", i64::from(!matches!(condition, Condition::Away { .. })));
    flag(
        "broker_blocked",
        "Whether RabbitMQ takes nothing (an alarm)",
        i64::from(matches!(condition, Condition::Blocked { .. })),
    );
    flag("redis_connected", "Whether Redis answers", i64::from(service.redis().away().is_none()));
    if let Some(count) = service.dead_letters() {
        flag("dead_letters", "Messages that nobody could read", count);
    }
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    Ok(text)
}

impl Jobs {
    fn add(&self, job: &Job, view: &StatusView, now: u64) {
        let (status, counts) = (&view.status, &view.status.counts);
        let id = job.id.0.clone();
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let fate = |family: &Amounts<ByFate>, fate, value| {
            family.get_or_create(&ByFate { job: id.clone(), fate }).set(whole(value));
        };
        fate(&self.items, "total", counts.items);
        fate(&self.items, "succeeded", counts.items_succeeded);
        fate(&self.items, "failed", counts.items_failed);
        fate(&self.mini_batches, "total", counts.mini_batches);
        fate(&self.mini_batches, "scheduled", counts.mini_batches_scheduled);
        fate(&self.mini_batches, "succeeded", counts.mini_batches_succeeded);
        fate(&self.mini_batches, "failed", counts.mini_batches_failed);
        let by_job = ByJob { job: id.clone() };
        let runs = status.state == JobState::Running;
        let at_work = |value: u64| if runs { whole(value) } else { 0 };
        self.window.get_or_create(&by_job).set(at_work(status.window));
        self.nodes.get_or_create(&by_job).set(at_work(status.nodes.into()));
        self.processes.get_or_create(&by_job).set(at_work(status.processes.len() as u64));
        let by_pool = ByPool { job: id.clone(), pool: job.pool.clone() };
        self.nodes_wanted.get_or_create(&by_pool).set(at_work(status.nodes_wanted.into()));
        let last = status.timing.last_commit_us.or(status.timing.first_handover_us).unwrap_or(status.started);
        let still = if runs { now.saturating_sub(last) as f64 / 1e6 } else { 0.0 };
        self.still.get_or_create(&by_job).set(still);
        if counts.attempts_failed > 0 || status.distinct_errors > 0 {
            let groups = LedgerReader::open(&JobDir::new(&job.dir)).and_then(|ledger| ledger.error_groups(ERRORS));
            for group in groups.unwrap_or_default() {
                self.failures.get_or_create(&ByKind { job: id.clone(), kind: group.kind.name() }).inc_by(group.count);
            }
        }
    }

    fn register(self, registry: &mut Registry) {
        registry.register("jobs", "Jobs by state", self.states);
        registry.register("job_items", "Items by fate", self.items);
        registry.register("job_mini_batches", "Mini-batches by fate", self.mini_batches);
        registry.register("job_window", "Mini-batches that are published and not settled", self.window);
        registry.register("job_nodes", "Nodes that take part", self.nodes);
        registry.register("job_nodes_wanted", "Nodes that are wanted beside those that take part", self.nodes_wanted);
        registry.register("job_processes", "Processes that live", self.processes);
        registry.register("job_seconds_since_progress", "Since the last commit, while it runs", self.still);
        registry.register("job_failures", "Failed attempts by kind", self.failures);
    }
}
