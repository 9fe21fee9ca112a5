//! `fanfold nodes` and `fanfold drain`: the workers of a fleet.

use std::io::{self, Write};

use fanfold_shared::clock::{duration, rfc3339, wall_us};
use fanfold_shared::fleet::{WorkerState, WorkerStatus};
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::text::grouped;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::ServiceArgs;
use super::written;
use crate::terminal::{Align, Table};

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// List the workers of a fleet.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    service: ServiceArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Let a worker finish what it has, and end.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// The worker's id, or the beginning of it; `fanfold nodes` lists them
    #[arg(value_name = "WORKER")]
    worker: String,
    #[command(flatten)]
    service: ServiceArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// A worker of the list.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    worker: String,
    host: String,
    pool: String,
    /// `idle`, `working`, `draining`
    state: String,
    /// The job that it is a node of.
    job: Option<String>,
    /// Its name in that job's logs.
    node: Option<String>,
    processes: u32,
    gpus: Vec<String>,
    version: String,
    /// When it started.
    started: String,
    /// How long ago it was heard of.
    age_seconds: f64,
}

/// What a service answers.
#[derive(Deserialize)]
struct List {
    workers: Vec<Line>,
}

/// What `nodes --json` and `GET /v1/nodes` say.
pub fn to_json(workers: &[WorkerStatus]) -> Value {
    at(workers, wall_us())
}

fn at(workers: &[WorkerStatus], now: u64) -> Value {
    let mut lines: Vec<Line> = workers.iter().map(|worker| line(worker, now)).collect();
    lines.sort_by(|a, b| (&a.pool, &a.worker).cmp(&(&b.pool, &b.worker)));
    json!({"version": VERSION, "workers": lines})
}

fn line(worker: &WorkerStatus, now_us: u64) -> Line {
    let (state, job, node) = match &worker.state {
        WorkerState::Idle => ("idle", None, None),
        WorkerState::Draining => ("draining", None, None),
        WorkerState::Working { job, node } => ("working", Some(job.0.clone()), Some(node.0.clone())),
    };
    let age = now_us.saturating_sub(worker.beat_us) as f64 / 1e6;
    Line {
        worker: worker.worker.0.clone(),
        host: worker.host.clone(),
        pool: worker.pool.clone(),
        state: state.into(),
        job,
        node,
        processes: worker.processes,
        gpus: worker.gpus.clone(),
        version: worker.version.clone(),
        started: rfc3339(worker.started_us),
        age_seconds: (age * 10.0).round() / 10.0,
    }
}

/// Lists the workers.
///
/// # Errors
/// No service is named, or it does not know.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let client = args.service.needed("nodes")?;
    let answer: Value = client.get(&["v1", "nodes"], &[])?;
    if args.json {
        return Ok(written(writeln!(out, "{answer:#}"))?);
    }
    let list: List = client.understand(answer)?;
    Ok(written(write_table(&list.workers, out))?)
}

fn write_table(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "No workers. `fanfold-worker` starts one.");
    }
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("WORKER", left),
        ("POOL", left),
        ("STATE", left),
        ("JOB", left),
        ("PROCESSES", right),
        ("GPUS", left),
        ("HEARD", right),
    ]);
    for line in lines {
        let gpus = if line.gpus.is_empty() { "-".into() } else { line.gpus.join(",") };
        let (job, processes) = (line.job.clone().unwrap_or_else(|| "-".into()), grouped(line.processes.into()));
        let heard = format!("{} ago", duration(line.age_seconds));
        table.row([&line.worker, &line.pool, &line.state, &job, &processes, &gpus, &heard]);
    }
    table.write(out)
}

/// Drains a worker.
///
/// # Errors
/// No service is named, or it can't reach that worker.
pub fn drain(args: &DrainArgs, out: &mut dyn Write) -> Result<ExitCode> {
    let client = args.service.needed("drain")?;
    let answer: Value = client.post(&["v1", "nodes", &args.worker, "drain"], None, &json!({}))?;
    if args.json {
        return Ok(written(writeln!(out, "{answer:#}"))?);
    }
    let worker = answer["worker"].as_str().unwrap_or(&args.worker);
    Ok(written(writeln!(out, "{worker} takes no more nodes, and ends when it has finished what it has"))?)
}

#[cfg(test)]
mod tests {
    use fanfold_shared::fleet::WorkerId;
    use fanfold_shared::ids::{JobId, NodeId};

    use super::*;

    #[test]
    fn workers_are_listed_by_pool() {
        let now = wall_us();
        let worker = |name: &str, pool: &str, state| WorkerStatus {
            worker: WorkerId(name.into()),
            host: "gpu-01".into(),
            pool: pool.into(),
            version: "0.1.0".into(),
            state,
            processes: 2,
            gpus: if pool == "gpu" { vec!["0".into(), "1".into()] } else { vec![] },
            started_us: now - 60_000_000,
            beat_us: now - 3_000_000,
        };
        let working = WorkerState::Working { job: JobId("score-1a2b3c4d".into()), node: NodeId("gpu-01-x".into()) };
        let workers = [worker("gpu-01-aaaaaa", "gpu", working), worker("cpu-07-bbbbbb", "default", WorkerState::Idle)];
        let value = at(&workers, now);
        assert_eq!((&value["version"], &value["workers"][1]["job"]), (&1.into(), &"score-1a2b3c4d".into()));
        let lines: Vec<Line> = serde_json::from_value(value["workers"].clone()).unwrap();
        let mut out = Vec::new();
        write_table(&lines, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        WORKER         POOL     STATE    JOB             PROCESSES  GPUS      HEARD
        cpu-07-bbbbbb  default  idle     -                       2  -     3.0 s ago
        gpu-01-aaaaaa  gpu      working  score-1a2b3c4d          2  0,1   3.0 s ago
        ");
    }
}
