//! Files that the children write by themselves: standard output and error, captured at the descriptor.
//!
//! They are opened with O_APPEND for the child. So the file may be cut while the child goes on writing: its next write
//! lands at the new end, and no hole appears.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fanfold_shared::text::{harmless, size};

/// Cuts the file at `path` to `cap` bytes if it is larger, and notes it at its end. True: it was cut. A file that is
/// missing or can't be cut is left as it is; the next look tries again.
pub fn cap_file(path: &Path, cap: u64) -> bool {
    let note = format!("\n[fanfold: this file has reached its cap of {}; what came after is cut off]\n", size(cap));
    // A child that writes on pushes the file over this again, is cut again, and the note stands again at the end.
    let full = cap + note.len() as u64;
    if fs::metadata(path).map_or(0, |metadata| metadata.len()) <= full {
        return false;
    }
    let cut = || -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.set_len(cap)?;
        file.write_all(note.as_bytes())
    };
    cut().is_ok()
}

/// The last `lines` lines that were written to the file at `path` at or after `from`, out of its last `max_bytes` bytes; made
/// harmless. Of a line that was overwritten with carriage returns (a progress bar), what was last to be seen.
///
/// `from` beyond the end means that the file was cut since ([`cap_file`]): then the last of what is there counts. Empty if
/// there is nothing, or no such file.
pub fn tail_lines(path: &Path, from: u64, lines: usize, max_bytes: u64) -> String {
    read_tail(path, from, max_bytes).map_or(String::new(), |(bytes, whole)| {
        let text = String::from_utf8_lossy(&bytes);
        // The first line of an excerpt is most likely a part of one.
        let text = if whole { &text } else { text.split_once('\n').map_or(&*text, |(_, rest)| rest) };
        let mut last: Vec<&str> = text.lines().map(last_seen).filter(|line| !line.trim().is_empty()).collect();
        let last = last.split_off(last.len().saturating_sub(lines));
        harmless(&last.join("\n")).into_owned()
    })
}

fn last_seen(line: &str) -> &str {
    line.trim_end_matches('\r').rsplit('\r').next().unwrap_or(line)
}

/// The bytes, and whether they begin where the reader wanted them to.
fn read_tail(path: &Path, from: u64, max_bytes: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut file = fs::File::open(path)?;
    let len = file.metadata()?.len();
    let from = if from > len { 0 } else { from };
    let start = from.max(len.saturating_sub(max_bytes));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok((bytes, start == from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_writes_on_after_its_file_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.stdout.txt");
        let mut child = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        child.write_all(&[b'a'; 1000]).unwrap();
        assert!(!cap_file(&path, 1000), "a file at its cap is whole");
        for _ in 0..3 {
            child.write_all(&[b'b'; 500]).unwrap();
            assert!(cap_file(&path, 1000));
            assert!(!cap_file(&path, 1000), "cut once is enough");
        }
        let text = fs::read_to_string(&path).unwrap();
        let (kept, note) = text.split_at(1000);
        assert_eq!(kept, "a".repeat(1000));
        assert_eq!(note, "\n[fanfold: this file has reached its cap of 1000 B; what came after is cut off]\n");
        assert!(!cap_file(&dir.path().join("missing"), 1));
    }

    #[test]
    fn the_last_lines_are_those_of_this_mini_batch_and_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr");
        let before = "of the mini-batch before\n";
        fs::write(&path, format!("{before}one\n\n10%\r 50%\r100%\r\n\x1b[31mfatal: \u{fffd}\n")).unwrap();
        let from = before.len() as u64;
        assert_eq!(tail_lines(&path, from, 10, 4096), "one\n100%\n\\x1b[31mfatal: \u{fffd}");
        assert_eq!(tail_lines(&path, from, 1, 4096), "\\x1b[31mfatal: \u{fffd}");
        assert_eq!(tail_lines(&path, from, 10, 20), "\\x1b[31mfatal: \u{fffd}", "no part of a line");
        assert_eq!(tail_lines(&path, 1 << 30, 1, 4096), "\\x1b[31mfatal: \u{fffd}", "the file was cut");
        assert_eq!(tail_lines(&dir.path().join("missing"), 0, 10, 4096), "");
    }
}
