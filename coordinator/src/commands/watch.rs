//! `fanfold watch`: how a job gets on, until it has come to rest.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use fanfold_shared::clock::duration;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, grouped, one_line, rate};

use super::args::JobArgs;
use super::target::{LOOK, Target, is_at_rest};
use super::written;
use crate::view::StatusView;

/// Between two lines where there is no terminal, while the state stays the same.
const LINE: Duration = Duration::from_secs(10);
/// How long a service may be away before following it is given up.
const AWAY: Duration = Duration::from_secs(60);

/// Follow a job until it is over, and exit as `fanfold run` would.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Write the status as one line of JSON whenever it changes
    #[arg(long)]
    json: bool,
}

/// Follows the job.
///
/// # Errors
/// Its status can't be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    follow(&args.job.find()?, args.json, out)
}

/// Writes how the job gets on until it has come to rest; the exit code says how it ended.
pub(super) fn follow(target: &Target, json: bool, out: &mut dyn Write) -> Result<ExitCode> {
    let terminal = !json && io::stdout().is_terminal();
    let (mut told, mut state, mut at) = (String::new(), None, Instant::now());
    let mut away: Option<Instant> = None;
    loop {
        let view = match target.status() {
            Ok(view) => view,
            // It restarts by itself, and so does this look at it.
            Err(failure) if failure.exit_code() == ExitCode::Unreachable && state.is_some() => {
                if away.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    return Err(failure);
                }
                std::thread::sleep(LOOK);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = None;
        let over = is_at_rest(&view);
        let line = if json { view.to_json().to_string() } else { in_words(&view) };
        let changed = state.replace(view.status.state) != Some(view.status.state);
        let due = json || terminal || changed || over || at.elapsed() >= LINE;
        if (line != told || over) && due {
            let outcome = match terminal {
                // The line of a moment before goes.
                true if !changed && !told.is_empty() => write!(out, "\r\x1b[2K{line}"),
                true => write!(out, "{}{line}", if told.is_empty() { "" } else { "\n" }),
                false => writeln!(out, "{line}"),
            };
            if let Err(error) = outcome.and_then(|()| out.flush()) {
                return Ok(written(Err(error))?);
            }
            (told, at) = (line, Instant::now());
        }
        if over {
            if terminal {
                let _ = writeln!(out);
            }
            return Ok(exit_of(&view));
        }
        std::thread::sleep(LOOK);
    }
}

/// `score-1a2b3c4d Running: 120 of 276 mini-batches (43 %), 3 items failed, 24 items/s, 13 s to go`
fn in_words(view: &StatusView) -> String {
    let (status, counts) = (&view.status, &view.status.counts);
    let mut parts = Vec::new();
    if let Some(percent) = (counts.settled() * 100).checked_div(counts.mini_batches) {
        parts.push(format!(
            "{} of {} ({percent} %)",
            grouped(counts.settled()),
            counted(counts.mini_batches, "mini-batch")
        ));
    }
    if counts.items_failed > 0 {
        parts.push(format!("{} failed", counted(counts.items_failed, "item")));
    }
    if status.state == JobState::Running {
        match (status.nodes, &status.blocked) {
            // Why nothing moves says more.
            (0, Some(_)) => (),
            (0, None) => parts.push("waits for nodes".into()),
            (nodes, _) => {
                parts.push(format!("{} items/s on {}", rate(status.items_per_second), counted(nodes.into(), "node")))
            }
        }
        parts.extend(status.eta_seconds.map(|eta| format!("{} to go", duration(eta))));
    }
    parts.extend(status.blocked.iter().map(|blocked| one_line(blocked, 200).into_owned()));
    parts.extend(status.cause.iter().map(|cause| one_line(cause, 300).into_owned()));
    let rest = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!(
        "{} {}{rest}",
        status.job_id,
        super::ls::state_in_words(status.state, view.coordinator == crate::report::Coordinator::Gone)
    )
}

/// The exit code that `fanfold run` would have had.
pub(super) fn exit_of(view: &StatusView) -> ExitCode {
    let (status, counts) = (&view.status, &view.status.counts);
    match status.state {
        JobState::Completed if !status.thresholds_set && counts.items_failed + counts.mini_batches_failed > 0 => {
            ExitCode::ItemsFailed
        }
        JobState::Failed => ExitCode::Failed,
        JobState::Canceled => ExitCode::Canceled,
        JobState::Completed | JobState::Paused => ExitCode::Completed,
        // Its coordinator is gone.
        _ => ExitCode::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Coordinator, NodeLine, Pace, Status, fixtures::*};

    fn line(nodes: Vec<NodeLine>, blocked: Option<&str>, coordinator: Coordinator) -> String {
        let mut snapshot = running();
        (snapshot.nodes, snapshot.blocked) = (nodes, blocked.map(str::to_string));
        let status = Status::new(&facts(Path::new("/j")), &snapshot, &Pace::default());
        in_words(&StatusView { status, coordinator, age: 0.0 })
    }

    #[test]
    fn a_line_says_once_what_the_job_waits_for() {
        let nodes = running().nodes;
        insta::assert_snapshot!(line(nodes.clone(), None, Coordinator::Alive), @"score-1a2b3c4d Running: 120 of 276 mini-batches (43 %), 3 items failed, 0.00 items/s on 1 node");
        insta::assert_snapshot!(line(vec![], None, Coordinator::Alive), @"score-1a2b3c4d Running: 120 of 276 mini-batches (43 %), 3 items failed, waits for nodes");
        let blocked = "waits for nodes: 2 wanted in pool `gpu`, none has come";
        insta::assert_snapshot!(line(vec![], Some(blocked), Coordinator::Alive), @"score-1a2b3c4d Running: 120 of 276 mini-batches (43 %), 3 items failed, waits for nodes: 2 wanted in pool `gpu`, none has come");
        let full = "disk full: cannot write `/out`";
        insta::assert_snapshot!(line(nodes, Some(full), Coordinator::Gone), @"score-1a2b3c4d Running (stopped: coordinator is gone): 120 of 276 mini-batches (43 %), 3 items failed, 0.00 items/s on 1 node, disk full: cannot write `/out`");
    }
}
