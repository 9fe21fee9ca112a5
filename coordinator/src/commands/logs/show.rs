//! Writing the contents of logs: whole, their ends, or as they grow.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, IoError};
use fanfold_shared::text::harmless;

use crate::report::{Coordinator, coordinator_of};

/// Between two looks at the files that are followed.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes from the end of a file in which `--tail` looks for its lines.
const TAIL_BYTES: u64 = 16 << 20;

/// Writes the files, their last `tail` lines if it is given, and with `follow` what comes until the job is over. Not `raw`:
/// control characters are shown as escapes.
pub(super) fn show(
    dir: &JobDir,
    files: &[PathBuf],
    tail: Option<usize>,
    follow: bool,
    raw: bool,
    out: &mut dyn Write,
) -> Result<(), IoError> {
    let mut last_shown = None;
    let mut at: Vec<u64> = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let path = dir.root().join(file);
        let start = tail.map_or(Ok(0), |lines| tail_start(&path, lines)).during("read", &path)?;
        if files.len() > 1 {
            heading(file, &mut last_shown, i, out)?;
        }
        at.push(copy(&path, start, raw, out)?);
    }
    if follow {
        follow_on(dir, files, raw, last_shown, at, out)?;
    }
    out.flush().during("write", "standard output")
}

/// Writes what is appended to the files behind the positions `at`, until the job's coordinator is gone.
fn follow_on(
    dir: &JobDir,
    files: &[PathBuf],
    raw: bool,
    mut last_shown: Option<usize>,
    mut at: Vec<u64>,
    out: &mut dyn Write,
) -> Result<(), IoError> {
    loop {
        out.flush().during("write", "standard output")?;
        // Asked before the last look, so that what was written before the end is shown.
        let over = coordinator_of(dir) == Coordinator::Gone;
        for (i, file) in files.iter().enumerate() {
            let path = dir.root().join(file);
            let len = fs::metadata(&path).map_or(at[i], |metadata| metadata.len());
            if len > at[i] {
                if files.len() > 1 {
                    heading(file, &mut last_shown, i, out)?;
                }
                at[i] = copy(&path, at[i], raw, out)?;
            } else if len < at[i] {
                // Cut at its cap: what follows is new.
                at[i] = len;
            }
        }
        if over {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// `==> logs/… <==`, as `tail` does, where the file changes.
pub(super) fn heading(file: &Path, last: &mut Option<usize>, this: usize, out: &mut dyn Write) -> Result<(), IoError> {
    if *last == Some(this) {
        return Ok(());
    }
    let gap = if last.is_some() { "\n" } else { "" };
    *last = Some(this);
    writeln!(out, "{gap}==> {} <==", file.display()).during("write", "standard output")
}

/// Writes the file from `start` on, and returns where it ended.
fn copy(path: &Path, start: u64, raw: bool, out: &mut dyn Write) -> Result<u64, IoError> {
    let mut file = File::open(path).during("open", path)?;
    file.seek(SeekFrom::Start(start)).during("read", path)?;
    let (mut buffer, mut at) = (vec![0; 256 << 10], start);
    // The end of a buffer may be in the middle of a character, which is shown with the next one.
    let mut rest = 0;
    loop {
        let read = file.read(&mut buffer[rest..]).during("read", path)?;
        at += read as u64;
        let filled = rest + read;
        if filled == 0 {
            return Ok(at);
        }
        let whole = match raw || read == 0 {
            true => filled,
            false => filled - incomplete(&buffer[..filled]),
        };
        let outcome = match raw {
            true => out.write_all(&buffer[..whole]),
            false => out.write_all(harmless(&String::from_utf8_lossy(&buffer[..whole])).as_bytes()),
        };
        outcome.during("write", "standard output")?;
        buffer.copy_within(whole..filled, 0);
        rest = filled - whole;
        if read == 0 {
            return Ok(at);
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

    #[test]
    fn a_character_on_the_edge_of_a_buffer_is_shown_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text = format!("x{}", "żółw€𝄞".repeat(60_000));
        fs::write(&path, &text).unwrap();
        let mut out = Vec::new();
        assert_eq!(copy(&path, 0, false, &mut out).unwrap(), text.len() as u64);
        assert!(String::from_utf8(out).unwrap() == text);
        fs::write(&path, b"cut \xe2\x82").unwrap();
        let mut out = Vec::new();
        copy(&path, 0, false, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "cut \u{fffd}");
    }
}
