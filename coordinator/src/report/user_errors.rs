//! `logs/user/error.txt`: the errors of the script, grouped; and the value it shares with `fanfold errors`.

use std::io;
use std::path::Path;

use fanfold_shared::clock::rfc3339;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::text::{counted, cut, grouped, harmless};

use super::{Names, replace_file};
use crate::ledger::{ErrorGroup, FailureRow};

/// Distinct errors in the file, the most frequent first.
const SHOWN: usize = 200;
/// Bytes of one traceback in the file.
const TRACEBACK: usize = 64 << 10;
/// Lines of stderr of one instance, the last ones.
const STDERR: usize = 50;
/// Bytes of the file.
const CAP: usize = 8 << 20;

/// A distinct error and one instance of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ErrorSummary {
    /// Its class: `exception`.
    pub kind: String,
    /// The message of its first instance.
    pub message: String,
    /// Its traceback; empty where there is none.
    pub traceback: String,
    /// How often it came up: attempts that were tried again are counted by some, and not by others.
    pub count: u64,
    /// Items that failed for good with it.
    #[serde(default)]
    pub items_lost: u64,
    /// An instance.
    pub example: Option<Example>,
}

/// One instance of an error.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Example {
    /// The mini-batch; None: a process did not start.
    pub mini_batch: Option<u64>,
    /// Names of its first items.
    pub items: Vec<String>,
    /// How many items it has.
    pub item_count: u64,
    /// Counted from 1.
    pub attempt: Option<u32>,
    /// `0`
    pub node: String,
    /// `process000`
    pub process: Option<String>,
    /// RFC 3339.
    pub time: String,
    /// The last lines of its stderr.
    pub stderr: String,
}

impl ErrorSummary {
    /// The summary of `group`.
    pub fn new(group: ErrorGroup, example: Option<Example>) -> ErrorSummary {
        ErrorSummary {
            kind: group.kind.name().into(),
            message: group.message,
            traceback: group.traceback,
            count: group.count,
            items_lost: 0,
            example,
        }
    }

    /// The message, made harmless; several lines of it are indented by `indent`.
    pub fn message_indented(&self, indent: &str) -> String {
        harmless(self.message.trim_end()).replace('\n', &format!("\n{indent}"))
    }

    /// What is lost to it, as a line; empty where nothing is.
    pub fn lost_indented(&self, indent: &str) -> String {
        match self.items_lost {
            0 => String::new(),
            lost => format!("{indent}lost: {}\n", counted(lost, "item")),
        }
    }

    /// What to do about its kind, as a line; empty where the message says all.
    pub fn hint_indented(&self, indent: &str) -> String {
        let hint = ErrorKind::from_name(&self.kind).and_then(ErrorKind::hint);
        hint.map_or(String::new(), |hint| format!("{indent}hint: {hint}\n"))
    }

    /// What the example wrote to stderr, in lines that begin with `indent`, where no traceback says what happened; else empty.
    pub fn stderr_indented(&self, indent: &str) -> String {
        let told = if self.traceback.is_empty() { self.example.as_ref().map(|example| &example.stderr) } else { None };
        told.map_or(String::new(), |stderr| {
            harmless(stderr).lines().map(|line| format!("{indent}stderr: {line}\n")).collect()
        })
    }
}

impl Example {
    /// The instance that `row` is; `names` gives the names of items.
    pub fn new(row: &FailureRow, names: Names<'_>) -> Example {
        let name = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        Example {
            mini_batch: row.mini_batch,
            items: names(row.items.start..row.items.end.min(row.items.start + 3)).iter().map(name).collect(),
            item_count: row.items.end - row.items.start,
            attempt: row.mini_batch.map(|_| row.attempt),
            node: row.node.0.clone(),
            process: row.process.map(|process| process.to_string()),
            time: rfc3339(row.time_us),
            stderr: last_lines(&row.stderr, STDERR),
        }
    }

    /// `mini-batch 16 (a.png and 9 more), attempt 3, node 0, process000, 2026-11-21T02:38:55.226929Z`
    pub fn in_words(&self) -> String {
        let mut text = self.mini_batch.map(|mini_batch| format!("mini-batch {mini_batch}")).unwrap_or_default();
        let shown: Vec<_> = self.items.iter().map(|item| fanfold_shared::text::one_line(item, 200)).collect();
        match (shown.is_empty(), self.item_count.saturating_sub(shown.len() as u64)) {
            (true, _) => {}
            (false, 0) => text += &format!(" ({})", shown.join(", ")),
            (false, more) => text += &format!(" ({} and {} more)", shown.join(", "), grouped(more)),
        }
        if let Some(attempt) = self.attempt {
            text += &format!(", attempt {attempt}, ");
        }
        text += &format!("node {}", self.node);
        if let Some(process) = &self.process {
            text += &format!(", {process}");
        }
        text + ", " + &self.time
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Replaces the file at `path`. `errors` are the most frequent first; `distinct` is how many there are, if not all are given.
pub fn write_user_errors(path: &Path, errors: &[ErrorSummary], distinct: u64) -> io::Result<()> {
    replace_file(path, user_errors(errors, distinct).as_bytes())
}

fn user_errors(errors: &[ErrorSummary], distinct: u64) -> String {
    if errors.is_empty() {
        return "No errors.\n".into();
    }
    let mut text = format!("{}, the most frequent first.\n", counted(distinct, "distinct error"));
    let mut shown = 0;
    for error in errors.iter().take(SHOWN) {
        if text.len() > CAP {
            break;
        }
        shown += 1;
        text += &format!("\n{} × {}: {}\n", grouped(error.count), error.kind, error.message_indented("    "));
        text += &error.lost_indented("    ");
        if let Some(example) = &error.example {
            text += &format!("    example: {}\n", example.in_words());
            if let Some(process) = &example.process {
                text += &format!("    log: user/error/{}/{process}.txt\n", example.node);
            }
        }
        let traceback = error.traceback.trim_end();
        for line in harmless(cut(traceback, TRACEBACK)).lines() {
            text += &format!("    {line}\n");
        }
        if traceback.len() > TRACEBACK {
            text += "    [cut here]\n";
        }
        text += &error.stderr_indented("    ");
        text += &error.hint_indented("    ");
    }
    if distinct > shown {
        text += &format!("\n{} more; all failures are in errors.jsonl.\n", counted(distinct - shown, "distinct error"));
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use fanfold_shared::ids::{NodeId, ProcessNumber};
    use fanfold_shared::message::ErrorKind;

    use super::super::snapshot::fixtures::{THEN, bad_pixel};
    use super::*;
    use std::ops::Range;

    pub(crate) fn failure(id: i64, mini_batch: u64) -> FailureRow {
        FailureRow {
            id,
            mini_batch: Some(mini_batch),
            items: mini_batch * 4..mini_batch * 4 + 4,
            failed_items: 4,
            attempt: 3,
            settled: true,
            kind: ErrorKind::Exception,
            message: "ValueError: bad pixel".into(),
            group: 1,
            instance: id as u64,
            traceback: Some("Traceback: the long story".into()),
            stderr: String::new(),
            node: NodeId("0".into()),
            process: Some(ProcessNumber(2)),
            time_us: THEN,
        }
    }

    #[test]
    fn errors_are_grouped_with_count_example_and_traceback() {
        let names = |items: Range<u64>| items.map(|i| format!("img/{i}.png").into_bytes()).collect();
        let errors = [
            ErrorSummary::new(bad_pixel(), Some(Example::new(&failure(1, 16), &names))),
            ErrorSummary {
                kind: "signal".into(),
                message: "killed by \x1b[1mSIGSEGV\nin run()".into(),
                traceback: String::new(),
                count: 1,
                items_lost: 2,
                example: None,
            },
        ];
        insta::assert_snapshot!(user_errors(&errors, 3), @r#"
        3 distinct errors, the most frequent first.

        4 × exception: ValueError: bad pixel
            example: mini-batch 16 (img/64.png, img/65.png, img/66.png and 1 more), attempt 3, node 0, process002, 2026-11-21T02:38:55.226929Z
            log: user/error/0/process002.txt
            Traceback (most recent call last):
              File "score.py", line 9, in run
                raise ValueError("bad pixel")
            ValueError: bad pixel

        1 × signal: killed by \x1b[1mSIGSEGV
            in run()
            lost: 2 items
            hint: SIGSEGV, SIGABRT and SIGBUS come from C code, the stack in its stderr says from where; SIGKILL comes from outside, mostly for want of memory

        1 distinct error more; all failures are in errors.jsonl.
        "#);
        assert_eq!(user_errors(&[], 0), "No errors.\n");
    }

    #[test]
    fn the_file_is_capped() {
        let error = ErrorSummary { traceback: "x".repeat(100_000), ..ErrorSummary::new(bad_pixel(), None) };
        let text = user_errors(&vec![error; 500], 500);
        assert!(text.len() < CAP + 2 * TRACEBACK, "{}", text.len());
        assert!(text.ends_with("more; all failures are in errors.jsonl.\n"));
    }
}
