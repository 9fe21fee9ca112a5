//! `fanfold status JOB`: where a job stands. Made from `status.json`, so it works wherever the job directory can be read.

mod processes;

use std::io::{self, Write};

use fanfold_shared::clock::duration;
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::report::{ExitCode, Result};
use fanfold_shared::text::{counted, grouped, harmless, one_line, rate};

use super::args::JobArgs;
use super::ls::state_in_words;
use super::written;
use crate::report::{Coordinator, cost_in_words, output_in_words};
use crate::run::Orders;
use crate::terminal::{Align, Table};
use crate::view::StatusView;

/// What `status` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// What each process does, and for how long, instead of the job's figures; `--json` has that in any case
    #[arg(long)]
    pub processes: bool,
    /// Write the job's status.json, with the coordinator's fate and the age of the figures
    #[arg(long)]
    pub json: bool,
}

/// Shows the job's state and figures.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let view = args.job.find()?.status()?;
    let outcome = match (args.json, args.processes) {
        (true, _) => write_json(&view, out),
        (false, true) => processes::write(&view, out),
        (false, false) => write_text(&view, out),
    };
    Ok(written(outcome)?)
}

pub(super) fn write_json(view: &StatusView, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &view.to_json())?;
    writeln!(out)
}

/// What a verb that ran a job to its end writes with `--json`: how the job ended. One that did not get so far as to be a job has no status.
pub(super) fn at_the_end(orders: &Orders, json: bool, exit: ExitCode, out: &mut dyn Write) -> Result<ExitCode> {
    if json && let Some(view) = orders.job().and_then(|dir| StatusView::of(dir).ok()) {
        written(write_json(&view, out))?;
    }
    Ok(exit)
}

pub(super) fn write_text(view: &StatusView, out: &mut dyn Write) -> io::Result<()> {
    let StatusView { status, coordinator, age } = view;
    let (coordinator, age, dir) = (*coordinator, *age, JobDir::new(&status.job_dir));
    let state = state_in_words(status.state, coordinator == Coordinator::Gone);
    // What the user came for is on the first line.
    match status.errors.first() {
        Some(error) => {
            let kind = ErrorKind::from_name(&error.kind).unwrap_or(ErrorKind::Exception);
            let cost = cost_in_words(kind, error.count, error.items_lost);
            writeln!(out, "error: {} ({}: {cost})", one_line(&error.message, 300), error.kind)?;
            for line in harmless(error.traceback.trim_end()).lines() {
                writeln!(out, "  {line}")?;
            }
            writeln!(out, "{} {state}", status.job_id)?;
        }
        None => writeln!(out, "{} {state}", status.job_id)?,
    }
    if let Some(cause) = &status.cause {
        writeln!(out, "  cause: {}", harmless(cause).replace('\n', "\n         "))?;
    }
    if let Some(blocked) = &status.blocked {
        writeln!(out, "  blocked: {}", harmless(blocked))?;
    }

    let counts = &status.counts;
    writeln!(out)?;
    // Rates, processes and the age of the figures are of interest while somebody works on the job.
    let at_work = status.ended.is_none() && coordinator != Coordinator::Gone;
    let mut columns = vec![
        ("", Align::Left),
        ("ALL", Align::Right),
        ("SUCCEEDED", Align::Right),
        ("FAILED", Align::Right),
        ("REMAINING", Align::Right),
    ];
    if at_work {
        columns.push(("PER SECOND", Align::Right));
    }
    let mut table = Table::new(&columns);
    let per_second = |value: f64| at_work.then(|| rate(value));
    let mut row = |cells: [String; 5], per_second: Option<String>| table.row(cells.into_iter().chain(per_second));
    let figures = [
        "mini-batches".to_string(),
        grouped(counts.mini_batches),
        grouped(counts.mini_batches_succeeded),
        grouped(counts.mini_batches_failed),
        grouped(counts.mini_batches_remaining),
    ];
    row(figures, per_second(status.mini_batches_per_second));
    let figures = [
        "items".to_string(),
        grouped(counts.items),
        grouped(counts.items_succeeded),
        grouped(counts.items_failed),
        grouped(counts.items.saturating_sub(counts.items_succeeded + counts.items_failed)),
    ];
    row(figures, per_second(status.items_per_second));
    table.write(out)?;

    writeln!(out)?;
    let mut table = Table::without_headings(&[Align::Left, Align::Left]);
    if let Some(eta) = status.eta_seconds.filter(|_| at_work) {
        table.row(["time to go", &duration(eta)]);
    }
    if let Some(part) = status.splitting {
        table.row(["split", &format!("{:.0} % of the data so far: there will be more", part * 100.0)]);
    }
    let until = status.ended.unwrap_or(status.updated);
    let ran = duration(until.saturating_sub(status.started) as f64 / 1e6);
    table.row([if at_work { "running for" } else { "ran for" }, &ran]);
    table.row([
        "attempts".to_string(),
        format!("{} run, {} failed", grouped(counts.attempts), grouped(counts.attempts_failed)),
    ]);
    let ready = status.processes.iter().filter(|process| process.ready).count();
    if at_work {
        let processes = counted(status.processes.len() as u64, "process");
        table.row([
            "processes".to_string(),
            format!("{processes} ({ready} ready) on {}; --processes shows each", counted(status.nodes.into(), "node")),
        ]);
    }
    if !status.datasets.is_empty() {
        let told = status.datasets.iter().map(|(input, dataset)| format!("{dataset} as {input}"));
        table.row(["datasets".to_string(), told.collect::<Vec<_>>().join(", ")]);
    }
    if let Some(script) = &status.script {
        table.row(["script".to_string(), script.in_words()]);
    }
    let output = &status.output;
    let output = output_in_words(output.place(), status.state, output.rows, output.bytes);
    table.row(["output", &output]);
    table.row(["job dir", &dir.root().display().to_string()]);
    if status.distinct_errors > 0 {
        let errors = counted(status.distinct_errors, "distinct error");
        table.row(["errors", &format!("{errors}; see `fanfold errors {}`", status.job_id)]);
    }
    if at_work {
        table.row(["figures", &format!("{} old", duration(age))]);
    }
    if coordinator == Coordinator::Gone && !status.state.is_final() {
        table.row(["go on", &status.go_on()]);
    }
    table.write(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Comeback, Pace, Snapshot, Status, fixtures::*};

    fn text(snapshot: &Snapshot, coordinator: Coordinator) -> String {
        let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.1, eta_seconds: Some(13.0) };
        let facts = facts(Path::new("/jobs/score-1a2b3c4d"));
        let mut out = Vec::new();
        write_text(&StatusView { status: Status::new(&facts, snapshot, &pace), coordinator, age: 0.7 }, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_first_line_is_the_first_distinct_error() {
        insta::assert_snapshot!(text(&running(), Coordinator::Alive), @r#"
        error: ValueError: bad pixel (exception: 3 items lost in 4 failed attempts)
          Traceback (most recent call last):
            File "score.py", line 9, in run
              raise ValueError("bad pixel")
          ValueError: bad pixel
        score-1a2b3c4d Running

                      ALL  SUCCEEDED  FAILED  REMAINING  PER SECOND
        mini-batches  276        119       1        156          12
        items         551        237       3        311          24

        time to go   13 s
        running for  30 s
        attempts     123 run, 4 failed
        processes    2 processes (1 ready) on 1 node; --processes shows each
        output       /data/out/parallel_run_step.txt.partial (237 results, 1.2 MiB)
        job dir      /jobs/score-1a2b3c4d
        errors       1 distinct error; see `fanfold errors score-1a2b3c4d`
        figures      0.7 s old
        "#);
    }

    #[test]
    fn without_errors_the_first_line_is_the_state() {
        let mut snapshot = running();
        (snapshot.errors, snapshot.distinct_errors) = (vec![], 0);
        snapshot.blocked = Some("disk full".into());
        let text = text(&snapshot, Coordinator::Gone);
        let begin = "score-1a2b3c4d Running (stopped: coordinator is gone)\n  blocked: disk full\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(!text.contains("time to go"), "nobody is going anywhere: {text}");
    }

    #[test]
    fn what_stands_still_goes_on_where_it_was() {
        let go_on = |comeback: Option<Comeback>| {
            let mut facts = facts(Path::new("/jobs/score-1a2b3c4d"));
            facts.comeback = comeback.clone().unwrap_or(Comeback::Here);
            let mut status = Status::new(&facts, &running(), &Pace::default());
            if comeback.is_none() {
                // As an earlier version wrote it.
                status.go_on = None;
            }
            let mut out = Vec::new();
            write_text(&StatusView { status, coordinator: Coordinator::Gone, age: 0.0 }, &mut out).unwrap();
            String::from_utf8(out).unwrap().lines().last().unwrap().to_string()
        };
        let here = "go on     fanfold run /jobs/score-1a2b3c4d/job.yaml --job-dir /jobs/score-1a2b3c4d";
        assert_eq!(go_on(None), here);
        assert_eq!(go_on(Some(Comeback::Here)), here);
        assert_eq!(go_on(Some(Comeback::Fleet { shared: "/mnt/a b".into() })), format!("{here} --shared '/mnt/a b'"));
        assert_eq!(go_on(Some(Comeback::Service)), "go on     fanfold resume score-1a2b3c4d");
    }

    #[test]
    fn the_json_is_the_file_and_what_only_a_reader_can_know() {
        let status = Status::new(&facts(Path::new("/j")), &running(), &Pace::default());
        let mut out = Vec::new();
        write_json(&StatusView { status: status.clone(), coordinator: Coordinator::Gone, age: 12.34 }, &mut out)
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&value["version"], &value["coordinator"], &value["age_seconds"]),
            (&1.into(), &"gone".into(), &12.3.into())
        );
        assert_eq!(serde_json::from_value::<Status>(value).unwrap(), status);
    }
}
