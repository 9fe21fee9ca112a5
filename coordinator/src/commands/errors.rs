//! `fanfold errors JOB`: what failed, grouped; or every failure as JSON. Where nothing failed for good, the attempts that did.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use fanfold_shared::clock::rfc3339;
use fanfold_shared::items::ItemReader;
use fanfold_shared::layout::JobDir;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::report::{During, ExitCode, IoError, Result};
use fanfold_shared::text::{counted, grouped, harmless};
use serde::{Deserialize, Serialize};

use super::args::JobArgs;
use super::client::Client;
use super::target::Target;
use super::{piped, written};
use crate::ledger::{LedgerError, LedgerReader};
use crate::report::{ErrorLine, ErrorSummary, Example, last_lines};
use crate::run::item_names;

/// Distinct errors that are told apart; what is beyond is counted together.
const DISTINCT: usize = 100_000;
/// Lines of stderr of each, the last ones.
const STDERR: usize = 50;

/// What `errors` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// With the traceback of each distinct error
    #[arg(long)]
    pub full: bool,
    /// Only failures of this kind
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ErrorKind::ALL.map(ErrorKind::name)))]
    pub kind: Option<String>,
    /// Distinct errors to show, the most frequent first; 0: all
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Write the failures themselves: the lines of errors.jsonl
    #[arg(long)]
    pub json: bool,
}

/// Shows the job's failures.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let kind = args.kind.as_deref();
    let dir = match args.job.find()? {
        Target::Dir(dir) => dir,
        Target::Service(client, job) => return remote(args, &client, &job, out),
    };
    match args.json {
        true => piped(write_lines(&dir, kind, out).map_err(Into::into)),
        false => Ok(written(write_groups(&groups_of(&dir, kind)?, args, out))?),
    }
}

/// [`run`] on a job of a service.
fn remote(args: &Args, client: &Client, job: &str, out: &mut dyn Write) -> Result<ExitCode> {
    let path = ["v1", "jobs", job, "errors"];
    let kind = args.kind.as_deref().map(|kind| ("kind", kind));
    let outcome = if args.json {
        std::io::copy(&mut client.stream(&path, kind.as_slice())?, out).map(drop)
    } else {
        let query: Vec<(&str, &str)> = kind.into_iter().chain([("grouped", "true")]).collect();
        write_groups(&client.get(&path, &query)?, args, out)
    };
    Ok(written(outcome)?)
}

/// The failures that count; where there are none, the attempts that failed and were tried again.
pub(crate) fn groups_of(dir: &JobDir, kind: Option<&str>) -> Result<Groups> {
    let mut groups = groups(dir, kind)?;
    if groups.failures == 0 {
        return tried_again(dir, kind);
    }
    // What only the ledger has; if it can't be read, what failed is told all the same.
    if let Ok(ledger) = LedgerReader::open(dir)
        && let Ok(all) = ledger.error_groups(DISTINCT)
    {
        let of_kind = all.iter().filter(|group| kind.is_none_or(|kind| kind == group.kind.name()));
        groups.tried_again_beside = of_kind.map(|group| group.count).sum::<u64>().saturating_sub(groups.failures);
    }
    Ok(groups)
}

/// Calls `each` with every line of the job's errors.jsonl of that kind; a job that has none yet has no failures.
fn for_each_line(
    dir: &JobDir,
    kind: Option<&str>,
    mut each: impl FnMut(&str, ErrorLine) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let path = dir.errors_jsonl();
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.during("open", &path)?,
    };
    let (mut reader, mut line) = (BufReader::with_capacity(256 << 10, file), String::new());
    loop {
        line.clear();
        // A line without its end is being written just now.
        if reader.read_line(&mut line).during("read", &path)? == 0 || !line.ends_with('\n') {
            return Ok(());
        }
        let parsed: ErrorLine = serde_json::from_str(&line).during("understand", &path)?;
        if kind.is_none_or(|kind| kind == parsed.kind) {
            each(&line, parsed)?;
        }
    }
}

pub(crate) fn write_lines(dir: &JobDir, kind: Option<&str>, out: &mut dyn Write) -> Result<(), IoError> {
    for_each_line(dir, kind, |line, _| out.write_all(line.as_bytes()).during("write", "standard output"))
}

/// The failures, grouped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// The most frequent first.
    errors: Vec<ErrorSummary>,
    failures: u64,
    /// Failures whose distinct error was not told apart.
    beyond: u64,
    /// They are attempts that were tried again, not failures that count.
    tried_again: bool,
    /// Items that are lost to them.
    #[serde(default)]
    items_lost: u64,
    /// Beside them, attempts that failed and were tried again.
    #[serde(default)]
    tried_again_beside: u64,
}

fn groups(dir: &JobDir, kind: Option<&str>) -> Result<Groups, IoError> {
    let mut groups = Groups::default();
    let mut by_id: HashMap<i64, usize> = HashMap::new();
    for_each_line(dir, kind, |_, line| {
        groups.failures += 1;
        groups.items_lost += line.failed_items;
        if let Some(&known) = by_id.get(&line.error) {
            groups.errors[known].count += 1;
            groups.errors[known].items_lost += line.failed_items;
        } else if by_id.len() < DISTINCT {
            by_id.insert(line.error, groups.errors.len());
            groups.errors.push(ErrorSummary {
                kind: line.kind,
                message: line.message,
                traceback: line.traceback.unwrap_or_default(),
                count: 1,
                items_lost: line.failed_items,
                example: Some(Example {
                    mini_batch: line.mini_batch,
                    items: line.items.into_iter().take(3).collect(),
                    item_count: line.item_count,
                    attempt: line.attempt,
                    node: line.node,
                    process: line.process,
                    time: rfc3339(line.time),
                    stderr: last_lines(&line.stderr, STDERR),
                }),
            });
        } else {
            groups.beyond += 1;
        }
        Ok(())
    })?;
    groups.errors.sort_by_key(|error| std::cmp::Reverse(error.count));
    Ok(groups)
}

/// Failed attempts of a job in which no failure counts (yet): they are in the ledger only.
fn tried_again(dir: &JobDir, kind: Option<&str>) -> Result<Groups> {
    let ledger = match LedgerReader::open(dir) {
        Err(LedgerError::Absent { .. }) => return Ok(Groups::default()),
        ledger => ledger?,
    };
    let mut groups = Groups { tried_again: true, ..Groups::default() };
    // Names only help: without them the rest is told all the same.
    let items = ItemReader::open(&dir.items()).ok();
    let names = |range| items.as_ref().map_or_else(Vec::new, |items| item_names(items, range));
    for group in ledger.error_groups(DISTINCT)? {
        if kind.is_some_and(|kind| kind != group.kind.name()) {
            continue;
        }
        let first = ledger.first_failure(group.id)?.map(|first| Example::new(&first, &names));
        groups.failures += group.count;
        groups.errors.push(ErrorSummary::new(group, first));
    }
    Ok(groups)
}

fn write_groups(groups: &Groups, args: &Args, out: &mut dyn Write) -> std::io::Result<()> {
    if groups.failures == 0 {
        let of_kind = args.kind.as_ref().map(|kind| format!(" of kind `{kind}`")).unwrap_or_default();
        return writeln!(out, "No failures{of_kind}.");
    }
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let all = match groups.tried_again {
        true => format!("No failure counts; {}, tried again", counted(groups.failures, "failed attempt")),
        false if groups.items_lost > 0 => {
            format!("{}, {} lost", counted(groups.failures, "failure"), counted(groups.items_lost, "item"))
        }
        false => counted(groups.failures, "failure"),
    };
    let distinct = counted(groups.errors.len() as u64, "distinct error");
    writeln!(out, "{all}, {distinct}")?;
    for error in groups.errors.iter().take(limit) {
        writeln!(out, "\n{} × {}: {}", grouped(error.count), error.kind, error.message_indented("    "))?;
        write!(out, "{}", error.lost_indented("    "))?;
        if let Some(example) = &error.example {
            writeln!(out, "    example: {}", example.in_words())?;
        }
        if args.full {
            for line in harmless(error.traceback.trim_end()).lines() {
                writeln!(out, "    {line}")?;
            }
            write!(out, "{}", error.stderr_indented("    "))?;
        }
        write!(out, "{}", error.hint_indented("    "))?;
    }
    let hidden = groups.errors.len().saturating_sub(limit) as u64;
    if hidden > 0 {
        writeln!(out, "\n{} more; --limit 0 shows all", counted(hidden, "distinct error"))?;
    }
    if groups.tried_again_beside > 0 {
        let attempts = counted(groups.tried_again_beside, "failed attempt");
        writeln!(out, "\nbeside that {attempts} that cost no item: tried again")?;
    }
    if groups.beyond > 0 {
        writeln!(out, "\n{} of still other errors; see --json", counted(groups.beyond, "failure"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
    use fanfold_shared::message::{AttemptError, Outcome, OutcomeEnd, Results};
    use fanfold_shared::split::{Split, SplitInput};

    use super::*;
    use crate::aggregate::{Aggregate, AggregateConfig, Part};
    use crate::ledger::{FailureRow, JobLock};
    use crate::report::{ErrorsJsonl, failure_fixture as failure};

    fn job() -> (tempfile::TempDir, JobDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        let names = |items: Range<u64>| items.map(|i| format!("img/{i}.png").into_bytes()).collect();
        let mut rows: Vec<FailureRow> = (0..12).map(|i| failure(i, 10 + i as u64)).collect();
        rows.insert(
            0,
            FailureRow {
                kind: ErrorKind::Signal,
                message: "killed by SIGSEGV (signal 11)".into(),
                group: 2,
                traceback: None,
                ..failure(99, 3)
            },
        );
        let mut errors = ErrorsJsonl::new(dir.errors_jsonl());
        errors.rewrite::<IoError>(&names, |push| rows.iter().try_for_each(push)).unwrap();
        (root, dir)
    }

    fn args(full: bool, limit: usize, kind: Option<&str>) -> Args {
        Args { job: JobArgs::default(), full, kind: kind.map(Into::into), limit, json: false }
    }

    fn text(dir: &JobDir, args: &Args) -> String {
        let mut out = Vec::new();
        write_groups(&groups(dir, args.kind.as_deref()).unwrap(), args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn failures_are_grouped_the_most_frequent_first() {
        let (_root, dir) = job();
        insta::assert_snapshot!(text(&dir, &args(true, 20, None)), @r#"
        13 failures, 52 items lost, 2 distinct errors

        12 × exception: ValueError: bad pixel
            lost: 48 items
            example: mini-batch 10 (img/40.png, img/41.png, img/42.png and 1 more), attempt 3, node 0, process002, 2026-11-21T02:38:55.226929Z
            Traceback: the long story

        1 × signal: killed by SIGSEGV (signal 11)
            lost: 4 items
            example: mini-batch 3 (img/12.png, img/13.png, img/14.png and 1 more), attempt 3, node 0, process002, 2026-11-21T02:38:55.226929Z
            hint: SIGSEGV, SIGABRT and SIGBUS come from C code, the stack in its stderr says from where; SIGKILL comes from outside, mostly for want of memory
        "#);
        assert!(text(&dir, &args(false, 1, None)).ends_with("\n1 distinct error more; --limit 0 shows all\n"));
        assert!(
            text(&dir, &args(false, 20, Some("signal"))).starts_with("1 failure, 4 items lost, 1 distinct error\n")
        );
        assert_eq!(text(&dir, &args(false, 20, Some("oom"))), "No failures of kind `oom`.\n");
    }

    #[test]
    fn attempts_that_were_tried_again_are_shown_where_nothing_failed_for_good() {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        assert_eq!(tried_again(&dir, None).unwrap().failures, 0, "no ledger yet");
        let input = SplitInput::of_items("a", "", 0..6);
        let config = AggregateConfig {
            job: dir.clone(),
            lock: JobLock::acquire(&dir).unwrap(),
            job_id: JobId("test-00000001".into()),
            fingerprint: "f".into(),
            split: Split { inputs: vec![input], ..Split::even(2) },
            output: Some(dir.default_output().join("out.txt")),
            table: false,
            ordered: false,
            header: false,
            tries: crate::aggregate::Tries { most: 3, bisect: false },
        };
        let (mut aggregate, _) = Aggregate::open(config).unwrap();
        let error = AttemptError {
            kind: ErrorKind::Exception,
            message: "ValueError: bad pixel".into(),
            traceback: "Traceback: the long story\n".into(),
            stderr: String::new(),
            of_all: false,
        };
        let outcomes = (0..3).map(|mini_batch| Outcome {
            mini_batch,
            items: mini_batch * 2..mini_batch * 2 + 2,
            attempt: 1,
            started_us: 1_795_228_735_226_929,
            elapsed_us: 30,
            run_us: 20,
            cpu_us: 10,
            end: OutcomeEnd::Failed(Box::new(error.clone())),
        });
        let results =
            Results { process: ProcessNumber(0), outcomes: outcomes.collect(), rows: Vec::new(), header: None };
        aggregate.commit(&[Part::Results { node: &NodeId("0".into()), results: &results }]).unwrap();
        assert_eq!(groups(&dir, None).unwrap().failures, 0, "nothing stands");
        let shown = |kind| {
            let mut out = Vec::new();
            write_groups(&tried_again(&dir, kind).unwrap(), &args(true, 20, kind), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!(shown(None), @r#"
        No failure counts; 3 failed attempts, tried again, 1 distinct error

        3 × exception: ValueError: bad pixel
            example: mini-batch 0, attempt 1, node 0, process000, 2026-11-21T02:38:55.226959Z
            Traceback: the long story
        "#);
        assert_eq!(shown(Some("oom")), "No failures of kind `oom`.\n");
    }

    #[test]
    fn json_is_the_lines_of_the_file() {
        let (_root, dir) = job();
        let mut out = Vec::new();
        write_lines(&dir, None, &mut out).unwrap();
        assert!(out == std::fs::read(dir.errors_jsonl()).unwrap());
        let mut out = Vec::new();
        write_lines(&dir, Some("signal"), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_job_without_failures_and_a_line_in_the_making_are_no_errors() {
        let (_root, dir) = job();
        let mut file = std::fs::OpenOptions::new().append(true).open(dir.errors_jsonl()).unwrap();
        file.write_all(b"{\"v\":1,\"time\"").unwrap();
        assert_eq!(groups(&dir, None).unwrap().failures, 13);
        std::fs::remove_file(dir.errors_jsonl()).unwrap();
        assert_eq!(text(&dir, &args(false, 20, None)), "No failures.\n");
    }
}
