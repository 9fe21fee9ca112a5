//! Writing the contents of logs: whole, their ends, or as they grow.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, IoError, Result};
use fanfold_shared::text::harmless;

use crate::commands::client::ClientError;
use crate::commands::target::{LOOK, Target, is_at_rest};
use crate::report::{Coordinator, coordinator_of};

/// Bytes from the end of a file in which `--tail` looks for its lines.
const TAIL_BYTES: u64 = 16 << 20;

/// Where logs lie.
pub(super) trait Source {
    /// What there is of the log from there on, and where it ends. None: there is no such log (any more).
    fn open(&self, file: &Path, from: Start) -> Result<Option<(Box<dyn Read>, u64)>>;

    /// Whether nothing will be added any more.
    fn is_over(&self) -> Result<bool>;
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// At this byte; of a log that was cut at its cap, at its end: what follows is new.
    Byte(u64),
    /// With so many lines from the end.
    Tail(usize),
}

impl Source for JobDir {
    fn open(&self, file: &Path, from: Start) -> Result<Option<(Box<dyn Read>, u64)>> {
        let path = self.root().join(file);
        let mut log = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            outcome => outcome.during("open", &path)?,
        };
        let end = log.metadata().during("look at", &path)?.len();
        let start = match from {
            Start::Byte(byte) => byte.min(end),
            Start::Tail(lines) => tail_start(&path, lines).during("read", &path)?.min(end),
        };
        log.seek(SeekFrom::Start(start)).during("read", &path)?;
        Ok(Some((Box::new(log.take(end - start)), end)))
    }

    fn is_over(&self) -> Result<bool> {
        // Longer than its state says: its last words come after that.
        Ok(coordinator_of(self) == Coordinator::Gone)
    }
}

impl Source for Target {
    fn open(&self, file: &Path, from: Start) -> Result<Option<(Box<dyn Read>, u64)>> {
        let (client, job) = match self {
            Target::Dir(dir) => return dir.open(file, from),
            Target::Service(client, job) => (client, job),
        };
        let parts = file.iter().filter_map(|part| part.to_str());
        let path: Vec<&str> = ["v1", "jobs", job, "logs"].into_iter().chain(parts).collect();
        let query = match from {
            Start::Byte(byte) => ("from", byte.to_string()),
            Start::Tail(lines) => ("tail", lines.to_string()),
        };
        match client.stream_to_end(&path, &[(query.0, &query.1)]) {
            Ok((log, end)) => Ok(Some((Box::new(log), end))),
            Err(ClientError::Refused { code, .. }) if code == "log_not_found" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_over(&self) -> Result<bool> {
        match self {
            Target::Dir(dir) => dir.is_over(),
            Target::Service(..) => Ok(is_at_rest(&self.status()?)),
        }
    }
}

/// Writes the files, their last `tail` lines if it is given, and with `follow` what comes until the job is over. Not `raw`:
/// control characters are shown as escapes.
pub(super) fn show(
    source: &dyn Source,
    files: &[PathBuf],
    tail: Option<usize>,
    follow: bool,
    raw: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let begin = tail.map_or(Start::Byte(0), Start::Tail);
    let mut from = vec![begin; files.len()];
    let mut last_shown = None;
    let mut first = true;
    loop {
        // Asked before the last look, so that what was written before the end is shown.
        let over = !follow || source.is_over()?;
        for (i, file) in files.iter().enumerate() {
            // One that is gone has said all: what the resource monitor writes is removed when it is old.
            let Some((mut log, end)) = source.open(file, from[i])? else { continue };
            let mut head = |out: &mut dyn Write| match files.len() {
                1 => Ok(()),
                _ => heading(file, &mut last_shown, i, out),
            };
            if first {
                head(out)?;
            }
            let held = copy(&mut *log, file, raw, over, &mut head, out)?;
            from[i] = Start::Byte(end.saturating_sub(held));
        }
        out.flush().during("write", "standard output")?;
        if over {
            return Ok(());
        }
        first = false;
        std::thread::sleep(LOOK);
    }
}

/// `==> logs/… <==`, as `tail` does, where the file changes.
fn heading(file: &Path, last: &mut Option<usize>, this: usize, out: &mut dyn Write) -> Result<(), IoError> {
    if *last == Some(this) {
        return Ok(());
    }
    let gap = if last.is_some() { "\n" } else { "" };
    *last = Some(this);
    writeln!(out, "{gap}==> {} <==", file.display()).during("write", "standard output")
}

/// Writes what comes from `log`, after `head` if there is any. Returns how many bytes at the end of it begin a character that is not
/// complete: they are left out and belong to what follows, unless it is `over` and nothing does.
fn copy(
    log: &mut dyn Read,
    name: &Path,
    raw: bool,
    over: bool,
    head: &mut dyn FnMut(&mut dyn Write) -> Result<(), IoError>,
    out: &mut dyn Write,
) -> Result<u64, IoError> {
    let mut buffer = vec![0; 256 << 10];
    // The end of a buffer may be in the middle of a character, which is shown with the next one.
    let mut rest = 0;
    loop {
        let read = log.read(&mut buffer[rest..]).during("read", name)?;
        let filled = rest + read;
        let whole = match raw || (read == 0 && over) {
            true => filled,
            false => filled - incomplete(&buffer[..filled]),
        };
        if whole > 0 {
            head(out)?;
            let outcome = match raw {
                true => out.write_all(&buffer[..whole]),
                false => out.write_all(harmless(&String::from_utf8_lossy(&buffer[..whole])).as_bytes()),
            };
            outcome.during("write", "standard output")?;
        }
        buffer.copy_within(whole..filled, 0);
        rest = filled - whole;
        if read == 0 {
            return Ok(rest as u64);
        }
    }
}

/// How many bytes at the end begin a character that is not complete.
fn incomplete(bytes: &[u8]) -> usize {
    for (i, byte) in bytes.iter().rev().take(3).enumerate() {
        let len = match byte {
            // Inside a character: its first byte is before this one.
            0x80..0xc0 => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if len > i + 1 { i + 1 } else { 0 };
    }
    0
}

/// Where the last `lines` lines begin.
pub(crate) fn tail_start(path: &Path, lines: usize) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let begin = len.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    if lines == 0 {
        return Ok(len);
    }
    // The starts of the last lines; one more than wanted never stays.
    let mut starts = VecDeque::from([begin]);
    let (mut buffer, mut at) = (vec![0; 256 << 10], begin);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(starts[0]);
        }
        for i in buffer[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i as u64) {
            // Nothing begins behind the last newline.
            if at + i + 1 < len {
                starts.push_back(at + i + 1);
            }
            if starts.len() > lines {
                starts.pop_front();
            }
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let root = tempfile::tempdir().unwrap();
        let (dir, log) = (JobDir::new(root.path()), root.path().join("log"));
        let tail = |lines| {
            let mut out = Vec::new();
            show(&dir, &["log".into()], Some(lines), false, true, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        for (lines, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            assert_eq!(tail(lines), expected);
        }
        fs::write(&log, "no newline at the\nend").unwrap();
        assert_eq!(tail(1), "end");
    }

    #[test]
    fn following_ends_with_the_job_and_shows_what_came_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let (dir, log) = (JobDir::new(root.path()), root.path().join("log"));
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        let lock = crate::ledger::JobLock::acquire(&dir).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        struct Out(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Out {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let followed = dir.clone();
        let follower = std::thread::spawn(move || {
            show(&followed, &["log".into()], None, true, true, &mut Out(sender)).unwrap();
        });
        let limit = Duration::from_secs(20);
        assert_eq!(receiver.recv_timeout(limit).unwrap(), b"one\ntwo\nthree\n");
        let mut log = fs::OpenOptions::new().append(true).open(&log).unwrap();
        log.write_all(b"four\n").unwrap();
        assert_eq!(receiver.recv_timeout(limit).unwrap(), b"four\n");
        log.write_all(b"last words\n").unwrap();
        drop(lock);
        assert_eq!(receiver.recv_timeout(limit).unwrap(), b"last words\n");
        follower.join().unwrap();
    }

    /// A log that is given in pieces of a few bytes, and grows by one of its parts with each look.
    struct Grows {
        parts: Vec<&'static [u8]>,
        looks: std::cell::Cell<usize>,
    }

    impl Source for Grows {
        fn open(&self, _: &Path, from: Start) -> Result<Option<(Box<dyn Read>, u64)>> {
            let Start::Byte(from) = from else { panic!("not asked for") };
            let there = self.parts[..self.looks.get()].concat();
            let end = there.len() as u64;
            let pieces = there[from as usize..].chunks(2).map(|piece| io::Cursor::new(piece.to_vec()));
            let pieces: Box<dyn Read> = pieces.fold(Box::new(io::empty()), |all, piece| Box::new(all.chain(piece)));
            Ok(Some((pieces, end)))
        }

        fn is_over(&self) -> Result<bool> {
            self.looks.set(self.looks.get() + 1);
            Ok(self.looks.get() == self.parts.len())
        }
    }

    #[test]
    fn a_character_on_the_edge_of_a_look_is_shown_whole() {
        let shown = |raw| {
            let grows =
                Grows { parts: vec![b"5 \xe2\x82", b"", b"\xac, \xf0\x9d", b"\x84\x9e\x1b", b"\xe2"], looks: 0.into() };
            let mut out = Vec::new();
            show(&grows, &["log".into()], None, true, raw, &mut out).unwrap();
            out
        };
        assert_eq!(String::from_utf8(shown(false)).unwrap(), "5 €, 𝄞\\x1b\u{fffd}");
        assert_eq!(shown(true), "5 €, 𝄞\x1b".bytes().chain([0xe2]).collect::<Vec<_>>());
    }

    #[test]
    fn a_character_on_the_edge_of_a_buffer_is_shown_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = format!("x{}", "żółw€𝄞".repeat(60_000));
        let shown = || {
            let mut out = Vec::new();
            show(&JobDir::new(dir.path()), &["log".into()], None, false, false, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        fs::write(&path, &text).unwrap();
        assert!(shown() == text);
        fs::write(&path, b"cut \xe2\x82").unwrap();
        assert_eq!(shown(), "cut \u{fffd}");
    }
}
