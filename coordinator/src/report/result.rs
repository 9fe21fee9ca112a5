//! `logs/job_result.txt`: the verdict, its cause, and what to do next.

use std::fs;
use std::io;
use std::path::Path;

use fanfold_shared::clock::{duration, iso};
use fanfold_shared::layout::Logs;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::report::ExitCode;
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, cut, grouped, harmless, size};
use fanfold_shared::uri::Uri;

use super::{Comeback, JobFacts, Snapshot, StatusScript, replace_file};

/// Distinct errors in the file.
const ERRORS: usize = 10;
/// Bytes of one traceback in the file.
const TRACEBACK: usize = 16 << 10;

/// What the user would do next, as whole commands with what they are for; best first. Only commands that exist.
pub fn next_steps(facts: &JobFacts, snapshot: &Snapshot) -> Vec<(String, &'static str)> {
    let mut steps = Vec::new();
    let id = &facts.id;
    if !snapshot.state.is_final() {
        let purpose = match facts.comeback {
            // They are no part of the command, because they hold passwords.
            Comeback::Fleet { .. } => "go on where it stopped, with the same broker and Redis",
            Comeback::Here | Comeback::Service => "go on where it stopped",
        };
        steps.push((facts.go_on(), purpose));
    }
    if snapshot.failures_stand {
        steps.push((format!("fanfold errors {id}"), "what failed, grouped; --full with tracebacks"));
    } else if snapshot.distinct_errors > 0 && snapshot.state != JobState::Completed {
        steps.push((format!("fanfold errors {id}"), "what was tried again, grouped; --full with tracebacks"));
    }
    if snapshot.state == JobState::Failed || snapshot.state == JobState::Completed && snapshot.out_of_tries {
        steps.push((format!("fanfold retry --failed {id}"), "try again what is out of tries, and go on"));
        steps.push((format!("fanfold retry --failed --new-script {id}"), "the same with the script as it is by then"));
        // Of one item each they stand alone already.
        if !facts.bisects && snapshot.totals.items_failed > snapshot.totals.mini_batches_failed {
            let command = format!("fanfold retry --failed --set on_failure=bisect {id}");
            steps.push((command, "find the items that are to blame, and have the others"));
        }
    }
    if snapshot.state == JobState::Failed {
        steps.push((format!("fanfold logs {id}"), "the logs and what is in them"));
    }
    steps
}

/// Where an output is.
#[derive(Clone, Copy)]
pub struct OutputPlace<'a> {
    /// Its final name; None: the script stores it itself.
    pub file: Option<&'a Path>,
    /// The output directory.
    pub dir: &'a Path,
    /// Its address in the cloud, where it goes at the end.
    pub uri: Option<&'a Uri>,
}

/// Where the output is and how much of it there is: `/out/parallel_run_step.txt (551 results, 1.2 MiB)`.
pub fn output_in_words(place: OutputPlace<'_>, state: JobState, rows: u64, bytes: u64) -> String {
    let OutputPlace { file, dir, uri } = place;
    let uploaded = uri.filter(|_| state == JobState::Completed);
    let Some(file) = file else {
        return match uploaded {
            Some(uri) => format!("what the script stored, at {uri}"),
            None => format!("what the script stored under {}", dir.display()),
        };
    };
    let much = format!("({}, {})", counted(rows, "result"), size(bytes));
    match (uploaded, uri) {
        (Some(uri), _) => return format!("{uri} {much}"),
        // It has its name here already.
        (None, Some(_)) if state == JobState::Finalizing && file.exists() => {
            return format!("{} {much}, not uploaded yet", file.display());
        }
        _ => (),
    }
    let partial = match state {
        JobState::Completed => "",
        _ if bytes == 0 => return "none yet".to_string(),
        _ => ".partial",
    };
    format!("{}{partial} {much}", file.display())
}

/// What a distinct error cost: `1 item lost in 2 failed attempts`. Of attempts that were tried again nothing is lost.
pub fn cost_in_words(kind: ErrorKind, count: u64, items_lost: u64) -> String {
    let attempts = counted(count, "failed attempt");
    match (kind, items_lost) {
        (ErrorKind::Init, _) if count == 1 => "once".into(),
        (ErrorKind::Init, _) => format!("{} times", grouped(count)),
        (_, 0) => format!("no item lost in {attempts}"),
        // It was no attempt that failed.
        (ErrorKind::ShortReturn | ErrorKind::Input, lost) => format!("{} lost", counted(lost, "item")),
        (_, lost) => format!("{} lost in {attempts}", counted(lost, "item")),
    }
}

/// `path` as one word of a shell command.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Replaces the file of a job that is over, or was stopped. `exit` is the exit code of the run.
pub fn write_job_result(facts: &JobFacts, snapshot: &Snapshot, exit: ExitCode) -> io::Result<()> {
    replace_file(&facts.dir.logs().job_result(), job_result(facts, snapshot, exit).as_bytes())
}

/// Whether the result that lies in `logs` is that of a job in `state`.
pub fn job_result_tells(logs: &Logs, state: JobState) -> bool {
    let text = fs::read_to_string(logs.job_result()).unwrap_or_default();
    text.starts_with(&first_line(state))
}

fn first_line(state: JobState) -> String {
    format!("State: {state} ")
}

fn job_result(facts: &JobFacts, snapshot: &Snapshot, exit: ExitCode) -> String {
    let totals = &snapshot.totals;
    let mut text = first_line(snapshot.state) + &format!("(exit code {})\n", exit as u8);
    let cause = snapshot.cause.as_deref().unwrap_or(match snapshot.state {
        JobState::Completed => "every mini-batch is settled",
        _ => "not stated",
    });
    text += &format!("Cause: {}\n", harmless(cause.trim_end()).replace('\n', "\n       "));
    text += &format!("Job: {} in {}\n", facts.id, facts.dir.root().display());
    let seconds = snapshot.now_us.saturating_sub(facts.started_us) as f64 / 1e6;
    text += &format!("Time: {} to {} ({})\n", iso(facts.started_us), iso(snapshot.now_us), duration(seconds));

    text += "\nCounts\n";
    let mut row = |name: &str, values: &[(u64, &str)]| {
        let values: Vec<_> = values.iter().map(|(value, what)| format!("{} {what}", grouped(*value))).collect();
        text += &format!("  {name:<14}{}\n", values.join(", "));
    };
    row(
        "mini-batches",
        &[
            (totals.mini_batches, "planned"),
            (totals.mini_batches_succeeded, "succeeded"),
            (totals.mini_batches_failed, "failed"),
            (totals.mini_batches_remaining(), "remaining"),
        ],
    );
    row(
        "items",
        &[
            (totals.items, "planned"),
            (totals.items_succeeded, "succeeded"),
            (totals.items_failed, "failed"),
            (totals.items.saturating_sub(totals.items_settled()), "remaining"),
        ],
    );
    row("attempts", &[(totals.attempts, "run"), (totals.attempts_failed, "failed"), (rerun(totals), "run again")]);
    if totals.mini_batches_short > 0 {
        row(
            "short returns",
            &[(totals.mini_batches_short, "of the succeeded mini-batches returned fewer results than items")],
        );
    }
    if totals.surplus_results > 0 {
        row("surplus", &[(totals.surplus_results, "results beyond one per item")]);
    }
    if totals.duplicates > 0 {
        row("duplicates", &[(totals.duplicates, "results dropped because they were in already")]);
    }
    if facts.settled_before > 0 {
        row("continued", &[(facts.settled_before, "mini-batches were settled before this run")]);
    }

    if let Some(script) = &facts.script {
        text += &format!("\nScript: {}\n", StatusScript::from(script).in_words());
    }
    let output = output_in_words(facts.output(), snapshot.state, totals.returned, totals.committed_len);
    text += &format!("\nOutput: {output}\n");

    if !snapshot.errors.is_empty() {
        text += &format!("\nErrors ({} distinct, the first ones here)\n", grouped(snapshot.distinct_errors));
        for error in snapshot.first_errors(ERRORS) {
            let message = harmless(error.message.trim_end()).replace('\n', "\n    ");
            text += &format!("  {}: {message}\n    {}\n", error.kind.name(), snapshot.cost_of(error));
            for line in harmless(cut(error.traceback.trim_end(), TRACEBACK)).lines() {
                text += &format!("    {line}\n");
            }
            if let Some(hint) = error.kind.hint() {
                text += &format!("    hint: {hint}\n");
            }
        }
    }

    let root = facts.dir.root().display();
    text += "\nWhere to look\n";
    if snapshot.failures_stand {
        text += &format!("  {root}/errors.jsonl: each failure\n");
    }
    if snapshot.distinct_errors > 0 {
        text += &format!("  {root}/logs/user/error.txt: errors, grouped\n");
    }
    text += &format!("  {root}/logs/readme.txt: what the other logs are\n");
    let steps = next_steps(facts, snapshot);
    if !steps.is_empty() {
        text += "\nWhat to run next\n";
        for (command, purpose) in steps {
            text += &format!("  {command}    # {purpose}\n");
        }
    }
    text
}

/// Attempts beyond the first of each mini-batch.
pub(crate) fn rerun(totals: &crate::ledger::Totals) -> u64 {
    totals.attempts.saturating_sub(totals.mini_batches_settled())
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::fixtures::{facts, running};
    use super::*;

    #[test]
    fn a_failed_job_states_its_cause_and_what_to_do() {
        let facts = JobFacts { settled_before: 20, ..facts(Path::new("/jobs/score-1a2b3c4d")) };
        let mut snapshot = running();
        snapshot.state = JobState::Failed;
        snapshot.cause = Some("3 items failed, error_threshold is 2".into());
        insta::assert_snapshot!(job_result(&facts, &snapshot, ExitCode::Failed), @r#"
        State: Failed (exit code 1)
        Cause: 3 items failed, error_threshold is 2
        Job: score-1a2b3c4d in /jobs/score-1a2b3c4d
        Time: 2026-11-21T02:38:55.226929 to 2026-11-21T02:39:25.226929 (30 s)

        Counts
          mini-batches  276 planned, 119 succeeded, 1 failed, 156 remaining
          items         551 planned, 237 succeeded, 3 failed, 311 remaining
          attempts      123 run, 4 failed, 3 run again
          short returns 1 of the succeeded mini-batches returned fewer results than items
          continued     20 mini-batches were settled before this run

        Output: /data/out/parallel_run_step.txt.partial (237 results, 1.2 MiB)

        Errors (1 distinct, the first ones here)
          exception: ValueError: bad pixel
            3 items lost in 4 failed attempts
            Traceback (most recent call last):
              File "score.py", line 9, in run
                raise ValueError("bad pixel")
            ValueError: bad pixel

        Where to look
          /jobs/score-1a2b3c4d/errors.jsonl: each failure
          /jobs/score-1a2b3c4d/logs/user/error.txt: errors, grouped
          /jobs/score-1a2b3c4d/logs/readme.txt: what the other logs are

        What to run next
          fanfold errors score-1a2b3c4d    # what failed, grouped; --full with tracebacks
          fanfold retry --failed score-1a2b3c4d    # try again what is out of tries, and go on
          fanfold retry --failed --new-script score-1a2b3c4d    # the same with the script as it is by then
          fanfold retry --failed --set on_failure=bisect score-1a2b3c4d    # find the items that are to blame, and have the others
          fanfold logs score-1a2b3c4d    # the logs and what is in them
        "#);
    }

    #[test]
    fn a_clean_job_is_short() {
        let mut snapshot = running();
        snapshot.state = JobState::Completed;
        (snapshot.totals.items_failed, snapshot.totals.mini_batches_failed) = (0, 0);
        (snapshot.errors, snapshot.distinct_errors, snapshot.failures_stand) = (vec![], 0, false);
        snapshot.out_of_tries = false;
        let text = job_result(&facts(Path::new("/j")), &snapshot, ExitCode::Completed);
        assert!(text.starts_with("State: Completed (exit code 0)\nCause: every mini-batch is settled\n"), "{text}");
        assert!(!text.contains("What to run next") && !text.contains("Errors ("), "{text}");
    }

    #[test]
    fn a_paused_job_names_the_command_that_continues_it() {
        let mut facts = facts(Path::new("/jobs/it's here"));
        let mut snapshot = running();
        snapshot.state = JobState::Paused;
        let here = r"fanfold run '/jobs/it'\''s here/job.yaml' --job-dir '/jobs/it'\''s here'";
        let steps = |facts: &JobFacts| next_steps(facts, &snapshot).swap_remove(0);
        assert_eq!(steps(&facts), (here.into(), "go on where it stopped"));
        facts.comeback = Comeback::Fleet { shared: "/mnt/my fleet".into() };
        let with = "go on where it stopped, with the same broker and Redis";
        assert_eq!(steps(&facts), (format!("{here} --shared '/mnt/my fleet'"), with));
        facts.comeback = Comeback::Service;
        assert_eq!(steps(&facts), ("fanfold resume score-1a2b3c4d".into(), "go on where it stopped"));
    }
}
