//! What `fanfold doctor` looks at where a fleet is named: whether its servers answer, and how fast.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fanfold_shared::backend::rabbitmq::Condition;
use fanfold_shared::fleet::{WorkerState, WorkerStatus, names};
use fanfold_shared::report::Failure;
use fanfold_shared::text::counted;
use nix::unistd::{AccessFlags, access};

use super::Check;
use crate::commands::fleet::FleetArgs;
use crate::run::FleetLink;

/// For each server. Whoever asks is waiting.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks at broker, Redis, shared directory and workers.
pub fn checks(fleet: &FleetArgs) -> Vec<Check> {
    let link = match fleet.link("doctor") {
        Ok(link) => link,
        Err(failure) => return vec![Check { name: "fleet", found: Err(told(failure)) }],
    };
    let checks = vec![broker(&link), redis(&link), shared(&link), workers(&link)];
    link.broker.close();
    checks
}

/// An error with its way out.
fn told(error: impl Into<Failure>) -> String {
    let failure = error.into();
    let hint = failure.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{hint}", failure.one_line())
}

fn milliseconds(since: Instant) -> String {
    format!("{:.1} ms", since.elapsed().as_secs_f64() * 1e3)
}

fn broker(link: &FleetLink) -> Check {
    let url = link.broker.url();
    let found = link.broker.wait(LIMIT).map_err(told).and_then(|()| {
        let asked = Instant::now();
        // Whether it is there or not: it is the broker's answer that counts.
        link.broker.depth(names::DEAD, LIMIT).map_err(told)?;
        let took = milliseconds(asked);
        match link.broker.condition() {
            Condition::Blocked { why, .. } => Err(format!(
                "{url} takes no messages ({why}): work waits until it has room; see its memory and its disk"
            )),
            Condition::Away { why, .. } => Err(format!("{url} is away: {why}")),
            Condition::Connected { version } => Ok(format!("RabbitMQ {version} at {url} answers in {took}")),
        }
    });
    Check { name: "broker", found }
}

fn redis(link: &FleetLink) -> Check {
    let reached = link.store.ping(LIMIT);
    let asked = Instant::now();
    let found = reached
        .and_then(|()| link.store.ping(LIMIT))
        .map(|()| format!("answers in {}", milliseconds(asked)))
        .map_err(told);
    Check { name: "redis", found }
}

fn shared(link: &FleetLink) -> Check {
    let root = link.shared.root();
    let found = match access(root, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(format!("`{}`; workers must have the same directory, there or elsewhere", root.display())),
        Err(errno) => Err(format!(
            "this user can't read and write `{}` ({}): name another one with --shared (FANFOLD_SHARED)",
            root.display(),
            errno.desc()
        )),
    };
    Check { name: "shared", found }
}

fn workers(link: &FleetLink) -> Check {
    let found = match link.store.workers() {
        Some(workers) => Ok(in_words(&workers)),
        None => Err("not known: Redis does not answer; see `redis` above".into()),
    };
    Check { name: "workers", found }
}

/// `pool default: 2 workers, 1 idle; pool gpu: 1 worker, 0 idle`
fn in_words(workers: &[WorkerStatus]) -> String {
    let mut pools: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for worker in workers {
        let (all, idle) = pools.entry(&worker.pool).or_default();
        *all += 1;
        *idle += u64::from(worker.state == WorkerState::Idle);
    }
    if pools.is_empty() {
        return "none has been heard of; `fanfold-worker` starts one".into();
    }
    let told =
        |(pool, (all, idle)): (&&str, &(u64, u64))| format!("pool {pool}: {}, {idle} idle", counted(*all, "worker"));
    pools.iter().map(told).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use fanfold_shared::fleet::WorkerId;

    use super::*;

    #[test]
    fn workers_are_counted_by_pool() {
        let worker = |pool: &str, state| WorkerStatus {
            worker: WorkerId("w".into()),
            host: "h".into(),
            pool: pool.into(),
            version: "0.1.0".into(),
            state,
            processes: 1,
            gpus: Vec::new(),
            started_us: 0,
            beat_us: 0,
        };
        let all =
            [worker("gpu", WorkerState::Draining), worker("a", WorkerState::Idle), worker("a", WorkerState::Draining)];
        assert_eq!(in_words(&all), "pool a: 2 workers, 1 idle; pool gpu: 1 worker, 0 idle");
        assert!(in_words(&[]).starts_with("none"));
    }
}
