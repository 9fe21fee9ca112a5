//! What each process of a job does.

use std::io::{self, Write};

use fanfold_shared::clock::duration;
use fanfold_shared::text::{counted, grouped};

use crate::commands::ls::state_in_words;
use crate::report::{Coordinator, StatusProcess};
use crate::terminal::{Align, Table};
use crate::view::StatusView;

/// A line for each process that lives, those that have been at theirs for longest first.
pub(super) fn write(view: &StatusView, out: &mut dyn Write) -> io::Result<()> {
    let status = &view.status;
    let gone = view.coordinator == Coordinator::Gone;
    write!(out, "{} {}", status.job_id, state_in_words(status.state, gone))?;
    if gone || status.processes.is_empty() {
        return writeln!(out, ": no process");
    }
    let (processes, nodes) = (counted(status.processes.len() as u64, "process"), counted(status.nodes.into(), "node"));
    writeln!(out, ": {processes} on {nodes}, {} ago\n", duration(view.age))?;
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("PROCESS", Align::Left),
        ("PID", Align::Right),
        ("DEVICE", Align::Left),
        ("STATE", Align::Left),
        ("MINI-BATCH", Align::Right),
        ("FOR", Align::Right),
        ("DONE", Align::Right),
        ("FAILED", Align::Right),
    ]);
    let now = status.updated + (view.age * 1e6) as u64;
    let since = |process: &StatusProcess| process.since.unwrap_or(process.started);
    let mut processes: Vec<_> = status.processes.iter().collect();
    processes.sort_by_key(|process| (process.mini_batch.is_none(), since(process)));
    for process in processes {
        table.row([
            process.node.clone(),
            process.process.clone(),
            process.pid.to_string(),
            process.device.clone().unwrap_or_else(|| "-".into()),
            process.activity.name().into(),
            process.mini_batch.map_or("-".into(), |mini_batch| mini_batch.to_string()),
            duration(now.saturating_sub(since(process)) as f64 / 1e6),
            grouped(process.done),
            grouped(process.failed),
        ]);
    }
    table.write(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Pace, Status, fixtures::*};

    #[test]
    fn each_process_has_a_line() {
        let told = |coordinator| {
            let status = Status::new(&facts(Path::new("/j")), &running(), &Pace::default());
            let mut out = Vec::new();
            write(&StatusView { status, coordinator, age: 0.5 }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!(told(Coordinator::Alive), @"
        score-1a2b3c4d Running: 2 processes on 1 node, 0.5 s ago

        NODE  PROCESS     PID  DEVICE  STATE    MINI-BATCH    FOR  DONE  FAILED
        0     process000  500  0       running         121  3.7 s   123       0
        0     process001  501  -       init              -   29 s     0       0
        ");
        let gone = told(Coordinator::Gone);
        assert_eq!(gone, "score-1a2b3c4d Running (stopped: coordinator is gone): no process\n");
    }
}
