//! The process that a slot has at the moment, and the mini-batches that were handed to it.

use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::layout::Stream;
use fanfold_shared::message::{AttemptError, ItemError};

use super::child::Process;
use super::page::Page;
use super::protocol::Decoder;
use crate::guard::die_reason;
use crate::logs::{FILE_CAP, ProcessLog, UserErrorLog, cap_file, tail_lines};
use crate::node::Node;
use crate::work::{Hold, Piece};

/// Lines, and bytes, of stderr that go with an error.
const STDERR_LINES: usize = 50;
const STDERR_BYTES: u64 = 16 << 10;

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
    /// In the order in which they were handed over, which is that of the answers.
    pub held: VecDeque<Held>,
    /// Mini-batches answered so far.
    pub answered: u64,
    /// How long a mini-batch takes here, nanoseconds; None until the first is answered.
    pub estimate_ns: Option<f64>,
    /// The host closed its pipe, or nothing it says can be trusted any more.
    pub ended_speaking: bool,
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
    /// How frames of the host and of the script begin in what Python prints when it dies.
    frames: Frames,
}

/// See [`Current::frames`].
struct Frames {
    of_host: String,
    of_script: String,
}

impl Frames {
    fn new(host: &Path, working_dir: &Path) -> Frames {
        let begin = |dir: &Path| format!("  File \"{}/", dir.display());
        Frames { of_host: begin(host.parent().unwrap_or(host)), of_script: begin(working_dir) }
    }

    /// `text` as the host tells tracebacks: without its own frames, and with files named relative to the working directory.
    fn told(&self, text: &str) -> String {
        let lines = text.lines().filter(|line| !line.starts_with(&self.of_host));
        let shorter = |line: &str| match line.strip_prefix(&self.of_script) {
            Some(rest) => format!("  File \"{rest}"),
            None => line.to_string(),
        };
        lines.map(shorter).collect::<Vec<_>>().join("\n")
    }
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
            held: VecDeque::new(),
            answered: 0,
            estimate_ns: None,
            ended_speaking: false,
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
            frames: Frames::new(&node.host, &node.plan.working_dir),
        }
    }

    /// The last lines that the process wrote to stderr since this was asked last.
    pub fn stderr_tail(&mut self) -> String {
        let mut text = String::new();
        for (path, quoted) in &mut self.stderr {
            let from = std::mem::replace(quoted, fs::metadata(&*path).map_or(0, |metadata| metadata.len()));
            if *quoted == from {
                continue;
            }
            let tail = tail_lines(path, from, STDERR_LINES, STDERR_BYTES);
            if !text.is_empty() && !tail.is_empty() {
                text.push('\n');
            }
            text.push_str(&tail);
        }
        self.frames.told(&text)
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
        self.process.end().map_or_else(|| "ended".to_string(), die_reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_prints_when_it_dies_is_about_the_script() {
        let frames = Frames::new(Path::new("/job/nodes/0/python/fanfold_host.py"), Path::new("/job/nodes/0/work"));
        let text = "Fatal Python error: Segmentation fault\n  File \"/job/nodes/0/work/src/score.py\", line 4 in run\n  \
                    File \"/job/nodes/0/python/_fanfold/loop.py\", line 113 in _run_frame\n  \
                    File \"/job/nodes/0/python/fanfold_host.py\", line 27 in <module>\nthe end";
        assert_eq!(
            frames.told(text),
            "Fatal Python error: Segmentation fault\n  File \"src/score.py\", line 4 in run\nthe end"
        );
    }
}
