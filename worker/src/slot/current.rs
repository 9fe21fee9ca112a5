//! The process that a slot has at the moment, and the mini-batches that were handed to it.

use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::layout::Stream;
use fanfold_shared::message::{AttemptError, ItemError};

use super::child::Process;
use super::page::Page;
use super::protocol::Decoder;
use super::stack::{self, Dirs};
use crate::cloud::Local;
use crate::guard::die_reason;
use crate::host;
use crate::logs::{FILE_CAP, ProcessLog, UserErrorLog, cap_file, tail_lines};
use crate::node::Node;
use crate::work::{Hold, Piece};

/// Lines, and bytes, of stderr that go with an error. The ledger keeps no more, and would cut the end.
const STDERR_LINES: usize = 50;
const STDERR_BYTES: usize = 8000;
/// Lines, and bytes, among which they are looked for: the stacks of all threads come before what is said last.
const READ_LINES: usize = 4000;
const READ_BYTES: u64 = 256 << 10;
/// How long a process that hangs may take to write where it hangs; and how often that is looked for.
const STACKS: Duration = Duration::from_millis(200);
const STACKS_LOOK: Duration = Duration::from_millis(2);

/// What a process wrote to stderr before it failed.
pub struct LastWords {
    /// The last lines; the stack, if there is one, at the end.
    pub stderr: String,
    /// Where the script was when the process died or was asked; empty if nobody knows.
    pub stack: String,
}

/// A mini-batch that was handed to a process and not answered.
pub struct Held {
    /// Its id.
    pub mini_batch: u64,
    /// Its items.
    pub items: Range<u64>,
    /// Items that were not handed over because they can't be read.
    pub unreadable: Vec<ItemError>,
    /// Its task.
    pub hold: Arc<Hold>,
    /// Another slot may be running a copy.
    pub copied: bool,
    /// Its files, where they were brought here: they stay as long as it runs.
    pub local: Option<Arc<Local>>,
}

impl Held {
    /// As work for anybody.
    pub fn piece(&self) -> Piece {
        Piece { hold: self.hold.clone(), mini_batches: self.mini_batch..self.mini_batch + 1 }
    }

    /// Work for another slot, while this one keeps it as well: whoever answers first wins.
    pub fn copy(&mut self) -> Piece {
        self.copied = true;
        self.piece()
    }

    /// The answers are safe.
    pub fn let_go(held: Vec<Held>) {
        let mut rest = held.as_slice();
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|held| Arc::ptr_eq(&held.hold, &first.hold)).count();
            first.hold.answered(rest[..same].iter().map(|held| held.mini_batch));
            rest = &rest[same..];
        }
    }
}

/// See the module documentation.
pub struct Current {
    /// Its number on the node.
    pub number: ProcessNumber,
    /// The process.
    pub process: Process,
    /// What it does.
    pub page: Page,
    /// Bytes of frames that are not whole yet.
    pub decoder: Decoder,
    /// Its `init()` has returned.
    pub ready: bool,
    /// In the order in which they were handed over, which is that of the answers.
    pub held: VecDeque<Held>,
    /// Mini-batches answered so far.
    pub answered: u64,
    /// How long a mini-batch takes here, nanoseconds; None until the first is answered.
    pub estimate_ns: Option<f64>,
    /// The header line of its DataFrames, once it is known: it goes with every message, as the first may come second.
    pub header: Option<Vec<u8>>,
    /// The host closed its pipe, or nothing it says can be trusted any more.
    pub ended_speaking: bool,
    /// It was stopped before it was ready, because its work is not wanted any more.
    pub unneeded: bool,
    /// How it broke the protocol.
    pub broken: Option<String>,
    /// What the host said of its import or `init()`, until it is reported.
    pub init_error: Option<AttemptError>,
    /// `logs/sys/node/<node>/<process>.txt`
    pub log: ProcessLog,
    /// `logs/user/error/<node>/<process>.txt`
    pub errors: UserErrorLog,
    /// Files that the process writes by itself.
    captured: [PathBuf; 5],
    /// `sys.stderr` and descriptor 2, and how much of them was quoted already.
    stderr: [(PathBuf, u64); 2],
    /// Where the host lies, and where the script runs.
    dirs: Dirs,
}

impl Current {
    /// A process just started; `descriptors` are where its descriptors 1 and 2 go.
    pub fn new(
        node: &Node,
        number: ProcessNumber,
        process: Process,
        page: Page,
        [stdout, stderr]: [PathBuf; 2],
    ) -> Current {
        let logs = node.job.logs();
        let user = |stream| logs.user_stream(stream, &node.id, number);
        let pid = process.pid();
        Current {
            number,
            process,
            page,
            decoder: Decoder::default(),
            ready: false,
            held: VecDeque::new(),
            answered: 0,
            estimate_ns: None,
            header: None,
            ended_speaking: false,
            unneeded: false,
            broken: None,
            init_error: None,
            log: ProcessLog::new(logs.process(&node.id, number), &node.host_name, pid, FILE_CAP),
            errors: UserErrorLog::new(logs.user_error(&node.id, number), &number.to_string()),
            captured: [
                user(Stream::Stdout),
                user(Stream::Stderr),
                stdout,
                stderr.clone(),
                logs.entry_script(&node.id, number),
            ],
            stderr: [(user(Stream::Stderr), 0), (stderr, 0)],
            dirs: Dirs::new(&node.host, &node.plan.working_dir),
        }
    }

    /// The last lines that the process wrote to stderr since this was asked last.
    pub fn last_words(&mut self) -> LastWords {
        let mut text = String::new();
        for (path, quoted) in &mut self.stderr {
            let from = std::mem::replace(quoted, length(path));
            if *quoted == from {
                continue;
            }
            for line in tail_lines(path, from, READ_LINES, READ_BYTES).lines() {
                // What the host says of itself goes to both: one of them may not exist any more.
                if !(line.starts_with(host::SAYS) && text.lines().any(|said| said == line)) {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        let (text, stack) = stack::tidy(text.trim_end(), &self.dirs);
        LastWords { stderr: tail(&text), stack }
    }

    /// Lets a process that hangs write to its stderr where it does, for [`Current::last_words`] (`docs/design/host-protocol.md`).
    /// Returns when it has, or soon: a process that is stopped, or took the signal for itself, says nothing.
    pub fn show_stacks(&self) {
        let path = &self.stderr[1].0;
        let (before, deadline) = (length(path), Instant::now() + STACKS);
        self.process.show_stacks();
        let mut last = before;
        while Instant::now() < deadline && self.process.end().is_none() {
            thread::sleep(STACKS_LOOK);
            let now = length(path);
            if now > before && now == last {
                return;
            }
            last = now;
        }
    }

    /// Cuts what the process wrote by itself where it grew beyond the cap.
    pub fn cap_captured(&self) {
        for path in &self.captured {
            // What can't be cut now is cut at the next look.
            cap_file(path, FILE_CAP);
        }
    }

    /// How the process ended, for people: `exited with code 3`.
    pub fn exit_text(&self) -> String {
        if self.unneeded {
            return "stopped before it was ready; no longer needed".to_string();
        }
        self.process.end().map_or_else(|| "ended".to_string(), die_reason)
    }
}

/// The length of the file at `path`; 0 if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The end of `text`: whole lines, as long as they fit.
fn tail(text: &str) -> String {
    let from = text.ceil_char_boundary(text.len().saturating_sub(STDERR_BYTES));
    let cut = if from == 0 { text } else { text[from..].split_once('\n').map_or(&text[from..], |(_, rest)| rest) };
    let lines: Vec<&str> = cut.lines().collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_stderr_is_kept_whole_lines_of_it() {
        assert_eq!(tail("one\ntwo"), "one\ntwo");
        let many: String = (0..100).map(|i| format!("line {i}\n")).collect();
        assert_eq!(tail(&many).lines().next(), Some("line 50"));
        assert_eq!(tail(&format!("{}\nthe end", "ä".repeat(STDERR_BYTES))), "the end");
        assert_eq!(tail(&"ä".repeat(STDERR_BYTES)).len(), STDERR_BYTES, "one line that does not fit is cut");
    }
}
