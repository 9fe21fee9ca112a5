//! `errors.jsonl`: one line for each failure that settled something, and for each process whose import or `init()` failed (without
//! item, mini-batch and attempt). A projection of the ledger: written anew at every start, then appended to after each commit.
//!
//! A line is an [`ErrorLine`]. A traceback is in full for the first instances of each distinct error
//! ([`FULL_TRACEBACKS`](crate::ledger::FULL_TRACEBACKS), attempts that were tried again included); `error` is the id under which later
//! lines refer to it. A name that is not UTF-8 is shown with replacement characters in `items`, and its bytes are in
//! `items_hex` at the same place (lone surrogates, as Python would write them, are refused by most JSON readers).
//!
//! If an append is refused (full disk), the file is cut back to its last whole line and goes stale: [`ErrorsJsonl::is_stale`] asks
//! for the next [`ErrorsJsonl::rewrite`], and until then nothing is appended, so that no line is ever missing in the middle.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;

use fanfold_shared::clock::serde_us;
use fanfold_shared::report::{During, IoError};
use serde::{Deserialize, Serialize};

use super::replace::beside;
use crate::ledger::FailureRow;

/// The version in [`ErrorLine::v`].
pub const ERRORS_VERSION: u32 = 1;
/// Names of items in one line.
const NAMES: u64 = 10;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// [`ERRORS_VERSION`].
    pub v: u32,
    /// When, RFC 3339.
    #[serde(with = "serde_us")]
    pub time: u64,
    /// The item, if it is exactly one.
    pub item: Option<String>,
    /// The mini-batch; null: a process did not start.
    pub mini_batch: Option<u64>,
    /// The attempt that settled it, counted from 1.
    pub attempt: Option<u32>,
    /// `0`
    pub node: String,
    /// `process000`; null if it never ran in one.
    pub process: Option<String>,
    /// The class of the failure (closed: spec section 5).
    pub kind: String,
    /// One line for the user.
    pub message: String,
    /// The distinct error this is an instance of.
    pub error: i64,
    /// The traceback; null where there is none, and beyond the first 100 instances of its `error`.
    pub traceback: Option<String>,
    /// The last lines of the process's stderr.
    pub stderr: String,
    /// How many items failed (of a short return: some of those named, nobody knows which).
    pub failed_items: u64,
    /// The ordinal of the first item concerned.
    pub first_item: u64,
    /// How many items are concerned.
    pub item_count: u64,
    /// The names of the first ten.
    pub items: Vec<String>,
    /// The bytes of those names that are not UTF-8, in hexadecimal; absent if all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_hex: Option<Vec<Option<String>>>,
}

/// Gives the names of items; never asked for more than ten at once.
pub type Names<'a> = &'a dyn Fn(Range<u64>) -> Vec<Vec<u8>>;

/// The writer; see the module documentation.
#[derive(Debug)]
pub struct ErrorsJsonl {
    path: PathBuf,
    /// None: stale.
    file: Option<File>,
    len: u64,
}

impl ErrorsJsonl {
    /// The file at `path` ([`fanfold_shared::layout::JobDir::errors_jsonl`]), stale until it is written anew.
    pub fn new(path: PathBuf) -> ErrorsJsonl {
        ErrorsJsonl { path, file: None, len: 0 }
    }

    /// Whether lines are missing and [`ErrorsJsonl::rewrite`] is due.
    pub fn is_stale(&self) -> bool {
        self.file.is_none()
    }

    /// Writes the whole file anew, replacing it in one step. `feed` hands the ledger's failures, in their order, to the function
    /// that it is given. On an error the file stays as it is, and stale.
    pub fn rewrite<E: From<IoError>>(
        &mut self,
        names: Names<'_>,
        feed: impl FnOnce(&mut dyn FnMut(&FailureRow) -> Result<(), E>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.file = None;
        let tmp = beside(&self.path);
        let write = || -> Result<(File, u64), E> {
            let file = File::create(&tmp).during("create", &tmp)?;
            let mut out = BufWriter::with_capacity(64 << 10, file);
            let (mut line, mut len) = (Vec::new(), 0);
            feed(&mut |row| {
                line.clear();
                push_line(&mut line, row, names);
                len += line.len() as u64;
                Ok(out.write_all(&line).during("write", &tmp)?)
            })?;
            let file = out.into_inner().map_err(|error| error.into_error()).during("write", &tmp)?;
            fs::rename(&tmp, &self.path).during("replace", &self.path)?;
            Ok((file, len))
        };
        match write() {
            Ok((file, len)) => {
                (self.file, self.len) = (Some(file), len);
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&tmp);
                Err(error)
            }
        }
    }

    /// Appends those of `rows` that settled something. Never fails: see [`ErrorsJsonl::is_stale`].
    pub fn append(&mut self, rows: &[FailureRow], names: Names<'_>) {
        let Some(file) = &mut self.file else { return };
        let mut lines = Vec::new();
        for row in rows {
            push_line(&mut lines, row, names);
        }
        if lines.is_empty() {
            return;
        }
        match file.write_all(&lines) {
            Ok(()) => self.len += lines.len() as u64,
            Err(_) => {
                let _ = file.set_len(self.len);
                self.file = None;
            }
        }
    }
}

fn push_line(out: &mut Vec<u8>, row: &FailureRow, names: Names<'_>) {
    if !row.settled {
        return;
    }
    let names = names(row.items.start..row.items.end.min(row.items.start + NAMES));
    let items: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let hex: Vec<Option<String>> = names.iter().map(|name| str::from_utf8(name).is_err().then(|| hex(name))).collect();
    let item_count = row.items.end - row.items.start;
    let line = ErrorLine {
        v: ERRORS_VERSION,
        time: row.time_us,
        item: if item_count == 1 { items.first().cloned() } else { None },
        mini_batch: row.mini_batch,
        attempt: row.mini_batch.map(|_| row.attempt),
        node: row.node.0.clone(),
        process: row.process.map(|process| process.to_string()),
        kind: row.kind.name().into(),
        message: row.message.clone(),
        error: row.group,
        traceback: row.traceback.clone().filter(|traceback| !traceback.is_empty()),
        stderr: row.stderr.clone(),
        failed_items: row.failed_items,
        first_item: row.items.start,
        item_count,
        items,
        items_hex: hex.iter().any(Option::is_some).then_some(hex),
    };
    serde_json::to_writer(&mut *out, &line).expect("strings and numbers go into a vector");
    out.push(b'\n');
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::user_errors::tests::failure;
    use super::*;

    fn names(items: Range<u64>) -> Vec<Vec<u8>> {
        items
            .map(|i| match i {
                8 => b"caf\xe9.png".to_vec(),
                i => format!("img/{i}.png").into_bytes(),
            })
            .collect()
    }

    fn rewrite(errors: &mut ErrorsJsonl, rows: impl IntoIterator<Item = FailureRow>) -> Result<(), IoError> {
        errors.rewrite(&names, |push| rows.into_iter().try_for_each(|row| push(&row)))
    }

    fn read(path: &PathBuf) -> Vec<ErrorLine> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_have_the_documented_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.jsonl");
        let mut errors = ErrorsJsonl::new(path.clone());
        rewrite(&mut errors, [failure(1, 1)]).unwrap();
        let mut single = failure(2, 2);
        (single.items, single.traceback, single.process) = (8..9, None, None);
        errors.append(&[FailureRow { settled: false, ..failure(3, 9) }, single], &names);
        insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
        {"v":1,"time":"2026-11-21T02:38:55.226929Z","item":null,"mini_batch":1,"attempt":3,"node":"0","process":"process002","kind":"exception","message":"ValueError: bad pixel","error":1,"traceback":"Traceback: the long story","stderr":"","failed_items":4,"first_item":4,"item_count":4,"items":["img/4.png","img/5.png","img/6.png","img/7.png"]}
        {"v":1,"time":"2026-11-21T02:38:55.226929Z","item":"caf�.png","mini_batch":2,"attempt":3,"node":"0","process":null,"kind":"exception","message":"ValueError: bad pixel","error":1,"traceback":null,"stderr":"","failed_items":4,"first_item":8,"item_count":1,"items":["caf�.png"],"items_hex":["636166e92e706e67"]}
        "#);
        assert_eq!(read(&path).len(), 2, "an attempt that was tried again is no line");
    }

    #[test]
    fn what_was_appended_is_what_the_next_start_writes_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.jsonl");
        let mut errors = ErrorsJsonl::new(path.clone());
        rewrite(&mut errors, (0..80).map(|i| failure(i, i as u64))).unwrap();
        errors.append(&(80..150).map(|i| failure(i, i as u64)).collect::<Vec<_>>(), &names);
        let appended = fs::read(&path).unwrap();
        rewrite(&mut ErrorsJsonl::new(path.clone()), (0..150).map(|i| failure(i, i as u64))).unwrap();
        assert!(appended == fs::read(&path).unwrap());
    }

    #[test]
    fn a_refused_append_leaves_whole_lines_and_the_next_rewrite_makes_up_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.jsonl");
        let mut errors = ErrorsJsonl::new(path.clone());
        assert!(errors.is_stale());
        errors.append(&[failure(0, 0)], &names);
        assert!(!path.exists(), "nothing is appended to what was never written");
        rewrite(&mut errors, [failure(1, 0)]).unwrap();
        // The disk fills up.
        errors.file = Some(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        errors.append(&[failure(2, 0)], &names);
        assert!(errors.is_stale());
        errors.append(&[failure(3, 0)], &names);
        assert_eq!(read(&path).len(), 1);
        rewrite(&mut errors, (1..4).map(|i| failure(i, 0))).unwrap();
        errors.append(&[failure(4, 0)], &names);
        assert_eq!(read(&path).len(), 4);
        assert!(rewrite(&mut ErrorsJsonl::new("/proc/errors.jsonl".into()), []).is_err());
    }
}
