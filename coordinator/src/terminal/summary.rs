//! The last word of `fanfold run`.

use fanfold_shared::clock::duration;
use fanfold_shared::report::ExitCode;
use fanfold_shared::text::{counted, grouped, harmless, one_line, rate};

use crate::report::{JobFacts, Pace, Snapshot, next_steps, output_in_words};

/// Errors by kind are at most eleven lines, so only the first few distinct ones are shown beside them.
const ERRORS: usize = 5;

/// `exit` is the exit code of the run. State and cause; counts; duration and rate; output; errors; what to run next. Several lines, each ended.
pub fn summary(facts: &JobFacts, snapshot: &Snapshot, exit: ExitCode) -> String {
    let totals = &snapshot.totals;
    let seconds = snapshot.now_us.saturating_sub(facts.started_us) as f64 / 1e6;
    let mut text = format!("\n{} {} after {}\n", facts.id, snapshot.state, duration(seconds));
    let mut row = |name: &str, value: String| text += &format!("  {name:<14}{value}\n");
    if let Some(cause) = &snapshot.cause {
        row("cause", harmless(cause.trim_end()).replace('\n', "\n                "));
    }

    let mut mini_batches = format!(
        "{} planned, {} run, {} run again, {} committed",
        grouped(totals.mini_batches),
        grouped(totals.attempts),
        grouped(crate::report::rerun(totals)),
        grouped(totals.mini_batches_succeeded),
    );
    let mut also = |value: u64, what: &str| {
        if value > 0 {
            mini_batches += &format!(", {} {what}", grouped(value));
        }
    };
    also(totals.mini_batches_failed, "failed");
    also(totals.mini_batches_remaining(), "not done");
    also(facts.settled_before, "settled in earlier runs");
    row("mini-batches", mini_batches);
    if totals.items > 0 {
        row("items", format!("{} succeeded, {} failed", grouped(totals.items_succeeded), grouped(totals.items_failed)));
    }
    if exit == ExitCode::ItemsFailed {
        row("exit code", format!("{}: items failed, and the job sets no threshold for them", exit as u8));
    }
    if totals.surplus_results > 0 {
        row("surplus", format!("{} more than one for each item", counted(totals.surplus_results, "result")));
    }
    let pace = Pace::overall(facts, snapshot);
    if pace.mini_batches_per_second > 0.0 {
        row("rate", format!("{} mini-batches/s", rate(pace.mini_batches_per_second)));
    }
    row("output", output_in_words(facts.output(), snapshot.state, totals.returned, totals.committed_len));

    if !snapshot.errors.is_empty() {
        for (i, error) in snapshot.first_errors(ERRORS).into_iter().enumerate() {
            let name = if i == 0 { "errors" } else { "" };
            let message = one_line(&error.message, 160);
            row(name, format!("{}: {message} ({})", error.kind.name(), snapshot.cost_of(error)));
        }
        let shown = snapshot.errors.len().min(ERRORS) as u64;
        if snapshot.distinct_errors > shown {
            row("", format!("{} more", counted(snapshot.distinct_errors - shown, "distinct error")));
        }
    }
    if snapshot.failures_stand {
        row("", format!("each failure is in {}", facts.dir.errors_jsonl().display()));
    }
    row("logs", facts.dir.logs().root().display().to_string());
    for (i, (command, purpose)) in next_steps(facts, snapshot).into_iter().enumerate() {
        row(if i == 0 { "next" } else { "" }, format!("{command}    # {purpose}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fanfold_shared::state::JobState;

    use super::*;
    use crate::report::fixtures::*;

    #[test]
    fn an_interrupted_job_says_how_to_go_on() {
        let mut snapshot = running();
        (snapshot.state, snapshot.cause) = (JobState::Paused, Some("interrupted (SIGINT)".into()));
        let facts = JobFacts { settled_before: 20, ..facts(Path::new("/jobs/score-1a2b3c4d")) };
        insta::assert_snapshot!(summary(&facts, &snapshot, ExitCode::Interrupted), @r#"
        score-1a2b3c4d Paused after 30 s
          cause         interrupted (SIGINT)
          mini-batches  276 planned, 123 run, 3 run again, 119 committed, 1 failed, 156 not done, 20 settled in earlier runs
          items         237 succeeded, 3 failed
          rate          3.3 mini-batches/s
          output        /data/out/parallel_run_step.txt.partial (237 results, 1.2 MiB)
          errors        exception: ValueError: bad pixel (3 items lost in 4 failed attempts)
                        each failure is in /jobs/score-1a2b3c4d/errors.jsonl
          logs          /jobs/score-1a2b3c4d/logs
          next          fanfold run /jobs/score-1a2b3c4d/job.yaml --job-dir /jobs/score-1a2b3c4d    # go on where it stopped
                        fanfold errors score-1a2b3c4d    # what failed, grouped; --full with tracebacks
        "#);
    }

    #[test]
    fn what_is_tried_again_is_in_no_file_of_failures() {
        let mut snapshot = running();
        (snapshot.state, snapshot.failures_stand) = (JobState::Failed, false);
        let text = summary(&facts(Path::new("/jobs/score-1a2b3c4d")), &snapshot, ExitCode::Failed);
        assert!(!text.contains("errors.jsonl"), "{text}");
        assert!(text.contains("fanfold errors score-1a2b3c4d    # what was tried again, grouped;"), "{text}");
        snapshot.state = JobState::Completed;
        let text = summary(&facts(Path::new("/jobs/score-1a2b3c4d")), &snapshot, ExitCode::Completed);
        assert!(!text.contains("fanfold errors"), "it went well in the end: {text}");
    }

    #[test]
    fn a_clean_job_says_where_its_output_is_and_little_more() {
        let mut snapshot = running();
        snapshot.state = JobState::Completed;
        (snapshot.errors, snapshot.distinct_errors, snapshot.failures_stand) = (vec![], 0, false);
        snapshot.out_of_tries = false;
        let totals = &mut snapshot.totals;
        (totals.mini_batches_succeeded, totals.mini_batches_failed, totals.mini_batches_short) = (276, 0, 0);
        (totals.items_succeeded, totals.items_failed, totals.returned) = (551, 0, 551);
        (totals.attempts, totals.attempts_failed) = (276, 0);
        insta::assert_snapshot!(summary(&facts(Path::new("/jobs/score-1a2b3c4d")), &snapshot, ExitCode::Completed), @r#"
        score-1a2b3c4d Completed after 30 s
          mini-batches  276 planned, 276 run, 0 run again, 276 committed
          items         551 succeeded, 0 failed
          rate          9.2 mini-batches/s
          output        /data/out/parallel_run_step.txt (551 results, 1.2 MiB)
          logs          /jobs/score-1a2b3c4d/logs
        "#);
    }
}
