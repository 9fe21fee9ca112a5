//! `fanfold ls`: the jobs of this user on this machine.

use std::io::{self, Write};

use fanfold_shared::clock::{duration, wall_us};
use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::grouped;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::args::ServiceArgs;
use super::written;
use crate::registry::{Entry, Registry};
use crate::report::{Coordinator, Status, coordinator_of};
use crate::terminal::{Align, Table};
use crate::view::StatusView;

/// The version of what `--json` writes.
const VERSION: u32 = 1;

/// What `ls` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only jobs whose id begins with this
    #[arg(value_name = "PREFIX")]
    pub prefix: Option<String>,
    #[command(flatten)]
    service: ServiceArgs,
    /// Write one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What a service answers.
#[derive(Deserialize)]
struct List {
    jobs: Vec<Line>,
}

/// One job of the list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    job_id: String,
    name: String,
    /// Null: it has no status yet, or none that can be read.
    state: Option<JobState>,
    coordinator: String,
    mini_batches: u64,
    mini_batches_settled: u64,
    items_failed: u64,
    #[serde(with = "fanfold_shared::clock::serde_us")]
    created: u64,
    job_dir: String,
}

/// Lists the jobs, the newest first.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let prefix = args.prefix.as_deref().unwrap_or("");
    let (lines, begin) = match args.service.client()? {
        Some(client) => {
            let list: List = client.get(&["v1", "jobs"], &[("prefix", prefix)])?;
            (list.jobs, "fanfold submit JOB.yaml")
        }
        None => (lines(&Registry::of_user(), prefix), "fanfold run JOB.yaml"),
    };
    let outcome = if args.json { write_json(&lines, out) } else { write_table(&lines, begin, wall_us(), out) };
    Ok(written(outcome)?)
}

fn lines(registry: &Registry, prefix: &str) -> Vec<Line> {
    let entries = registry.entries().into_iter().filter(|entry| entry.id.starts_with(prefix));
    entries
        .map(|entry: Entry| {
            let dir = JobDir::new(&entry.job_dir);
            let status = Status::read(&dir.status_json()).ok();
            let counts = status.as_ref().map(|status| status.counts.clone()).unwrap_or_default();
            Line {
                job_id: entry.id,
                name: entry.name,
                state: status.map(|status| status.state),
                coordinator: coordinator_of(&dir).name().into(),
                mini_batches: counts.mini_batches,
                mini_batches_settled: counts.settled(),
                items_failed: counts.items_failed,
                created: entry.created,
                job_dir: entry.job_dir.display().to_string(),
            }
        })
        .collect()
}

impl Line {
    /// A job whose status is known.
    pub fn of_view(view: &StatusView) -> Line {
        let status = &view.status;
        Line {
            job_id: status.job_id.clone(),
            name: status.name.clone(),
            state: Some(status.state),
            coordinator: view.coordinator.name().into(),
            mini_batches: status.counts.mini_batches,
            mini_batches_settled: status.counts.settled(),
            items_failed: status.counts.items_failed,
            created: status.created,
            job_dir: status.job_dir.display().to_string(),
        }
    }
}

/// The list as JSON.
pub fn to_json(lines: &[Line]) -> Value {
    serde_json::json!({"version": VERSION, "jobs": lines})
}

fn write_json(lines: &[Line], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &to_json(lines))?;
    writeln!(out)
}

fn write_table(lines: &[Line], begin: &str, now_us: u64, out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "No jobs. `{begin}` starts one.");
    }
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("JOB", left),
        ("STATE", left),
        ("DONE", right),
        ("FAILED", right),
        ("AGE", right),
        ("JOB DIR", left),
    ]);
    for line in lines {
        let state = match line.state {
            Some(state) => state_in_words(state, line.coordinator == Coordinator::Gone.name()),
            None => "unknown".into(),
        };
        let done = match line.mini_batches {
            0 => "-".into(),
            all => format!("{} %", line.mini_batches_settled * 100 / all),
        };
        let age = duration(now_us.saturating_sub(line.created) as f64 / 1e6);
        table.row([&line.job_id, &state, &done, &grouped(line.items_failed), &age, &line.job_dir]);
    }
    table.write(out)
}

/// The state, and that nobody works on it if that is so although the state says somebody should.
pub(super) fn state_in_words(state: JobState, gone: bool) -> String {
    let needs_coordinator =
        matches!(state, JobState::Preparing | JobState::Running | JobState::Finalizing | JobState::CancelRequested);
    match gone && needs_coordinator {
        true => format!("{state} (stopped: coordinator is gone)"),
        false => state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::report::{Pace, StatusFile, fixtures::*};

    #[test]
    fn jobs_are_listed_with_their_state_and_a_dead_coordinator_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at(root.path().join("state"));
        for (id, created, state) in [
            ("score-1a2b3c4d", 0, Some(JobState::Running)),
            ("done-00000000", 60, Some(JobState::Completed)),
            ("new-zzzzzzzz", 3000, None),
        ] {
            let dir = JobDir::new(root.path().join(id));
            fs::create_dir_all(dir.internal()).unwrap();
            fs::write(dir.job_yaml(), "").unwrap();
            registry.add(&Entry::new(id, "score", dir.root(), THEN + created * 1_000_000)).unwrap();
            if let Some(state) = state {
                let mut snapshot = running();
                snapshot.state = state;
                let status = Status::new(&facts(Path::new("/j")), &snapshot, &Pace::default());
                StatusFile::new(dir.status_json()).write(&status);
            }
        }
        let mut out = Vec::new();
        write_table(&lines(&registry, ""), "fanfold run JOB.yaml", THEN + 3_700_000_000, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap().replace(root.path().to_str().unwrap(), "");
        insta::assert_snapshot!(text, @r#"
        JOB             STATE                                   DONE  FAILED          AGE  JOB DIR
        new-zzzzzzzz    unknown                                    -       0  11 min 40 s  /new-zzzzzzzz
        done-00000000   Completed                               43 %       3   1 h 00 min  /done-00000000
        score-1a2b3c4d  Running (stopped: coordinator is gone)  43 %       3   1 h 01 min  /score-1a2b3c4d
        "#);

        let mut out = Vec::new();
        write_json(&lines(&registry, "score"), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap().replace(root.path().to_str().unwrap(), "");
        insta::assert_snapshot!(text, @r#"
        {
          "version": 1,
          "jobs": [
            {
              "job_id": "score-1a2b3c4d",
              "name": "score",
              "state": "Running",
              "coordinator": "gone",
              "mini_batches": 276,
              "mini_batches_settled": 120,
              "items_failed": 3,
              "created": "2026-11-21T02:38:55.226929Z",
              "job_dir": "/score-1a2b3c4d"
            }
          ]
        }
        "#);

        let mut out = Vec::new();
        write_table(&lines(&registry, "no"), "fanfold run JOB.yaml", THEN, &mut out).unwrap();
        assert_eq!(out, b"No jobs. `fanfold run JOB.yaml` starts one.\n");
    }
}
