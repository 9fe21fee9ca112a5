//! An append-only log file that never fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fanfold_shared::clock::Stamper;
use fanfold_shared::job::LoggingLevel;
use fanfold_shared::text::{push_decimal, size};

/// Bytes after which a log is complete no longer.
pub const FILE_CAP: u64 = 64 << 20;

/// Bytes that wait in memory before they are written without being asked for.
const BUFFER: usize = 64 << 10;

/// How bad a line is, as Python's `logging` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details.
    Debug,
    /// What happens.
    Info,
    /// What should not happen but was dealt with.
    Warning,
    /// What failed.
    Error,
}

impl Level {
    /// As it stands in the line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }

    /// Whether a job with `logging_level` wants lines of this level.
    pub fn wanted(self, logging_level: LoggingLevel) -> bool {
        let least = match logging_level {
            LoggingLevel::Debug => Level::Debug,
            LoggingLevel::Info => Level::Info,
            LoggingLevel::Warning => Level::Warning,
        };
        self >= least
    }
}

/// See the module documentation. The file and its directories appear with the first line: a log that nobody had
/// anything to say to does not exist. An existing file is continued.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    cap: u64,
    file: Option<File>,
    /// Bytes in the file, as far as we know.
    len: u64,
    buffer: Vec<u8>,
    lines_buffered: u64,
    /// Lines that could not be written since the last one that could, and why.
    lost: u64,
    refusal: Option<io::Error>,
    /// The last write left part of a line behind.
    torn: bool,
    full: bool,
}

impl LogFile {
    /// A log at `path` that takes `cap` bytes. Touches nothing yet.
    pub fn new(path: impl Into<PathBuf>, cap: u64) -> LogFile {
        let path = path.into();
        // What an earlier run of the job left counts towards the cap.
        let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        LogFile {
            path,
            cap,
            file: None,
            len,
            buffer: Vec::new(),
            lines_buffered: 0,
            lost: 0,
            refusal: None,
            torn: false,
            full: false,
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes taken so far, those in memory included.
    pub fn len(&self) -> u64 {
        self.len + self.buffer.len() as u64
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines dropped since the last successful write because the system refused them.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Appends one line (or several that belong together), made by `write` without its last newline. It is in memory
    /// until [`LogFile::flush`], or until 64 KiB wait. Beyond the cap nothing is taken any more, and the file's last line says so.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.full {
            return;
        }
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        self.lines_buffered += 1;
        if self.len() > self.cap {
            self.full = true;
            let note = format!("[fanfold: this file has reached its cap of {}; nothing follows]\n", size(self.cap));
            self.buffer.extend_from_slice(note.as_bytes());
        }
        if self.buffer.len() >= BUFFER || self.full {
            self.flush();
        }
    }

    /// Hands what waits to the system. Never fails: what is refused is dropped and counted.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.write_out() {
            Ok(()) => {}
            Err((error, written)) => {
                // A part of the buffer may be in. Which lines it holds does not matter: all count as lost.
                self.torn = written > 0;
                self.len += written;
                self.lost += self.lines_buffered;
                self.refusal = Some(error);
                // The path may be another file's by now, or its directory may be gone: open anew next time.
                self.file = None;
            }
        }
        self.buffer.clear();
        self.lines_buffered = 0;
    }

    /// The error, and how many bytes went in before it.
    fn write_out(&mut self) -> Result<(), (io::Error, u64)> {
        if self.lost > 0 {
            let mut note = Vec::new();
            if self.torn {
                note.push(b'\n');
            }
            let why = self.refusal.as_ref().map(ToString::to_string).unwrap_or_default();
            note.extend_from_slice(
                format!("[fanfold: {} lines could not be written here: {why}]\n", self.lost).as_bytes(),
            );
            note.append(&mut self.buffer);
            self.buffer = note;
        }
        if self.file.is_none() {
            let file = open(&self.path).map_err(|error| (error, 0))?;
            self.len = file.metadata().map_or(self.len, |metadata| metadata.len());
            self.file = Some(file);
        }
        let file = self.file.as_mut().expect("opened above");
        let mut written = 0;
        while written < self.buffer.len() {
            match file.write(&self.buffer[written..]) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written as u64)),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, written as u64)),
            }
        }
        self.len += written as u64;
        (self.lost, self.refusal, self.torn) = (0, None, false);
        Ok(())
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(path: &Path) -> io::Result<File> {
    let append = || OpenOptions::new().create(true).append(true).open(path);
    append().or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => {
            fs::create_dir_all(parent)?;
            append()
        }
        _ => Err(error),
    })
}

/// Appends `2026-11-21 02:38:55,049|INFO|334|`: how the original begins a line.
pub(super) fn prefix(out: &mut Vec<u8>, stamper: &mut Stamper, us: u64, level: Level, pid: u32) {
    stamper.write_log(out, us);
    out.push(b'|');
    out.extend_from_slice(level.name().as_bytes());
    out.push(b'|');
    push_decimal(out, pid.into());
    out.push(b'|');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(log: &mut LogFile, text: &str) {
        log.line(|out| out.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn a_log_appears_with_its_first_line_and_is_continued_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sys/node/0/process000.txt");
        drop(LogFile::new(&path, FILE_CAP));
        assert!(!path.exists());
        for text in ["first run", "second run"] {
            let mut log = LogFile::new(&path, FILE_CAP);
            say(&mut log, text);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first run\nsecond run\n");
    }

    #[test]
    fn beyond_the_cap_nothing_is_taken_and_the_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::new(&path, 1024);
        for i in 0..1000 {
            say(&mut log, &format!("line {i:04}"));
        }
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.ends_with("line 0102\n[fanfold: this file has reached its cap of 1.0 KiB; nothing follows]\n"),
            "{text}"
        );
        // Another run of the job adds no more than the note.
        let mut log = LogFile::new(&path, 1024);
        say(&mut log, "again");
        drop(log);
        assert!(fs::metadata(&path).unwrap().len() < 1200);
    }

    #[test]
    fn a_full_disk_is_counted_and_noted_when_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = LogFile::new(&path, FILE_CAP);
        for _ in 0..3 {
            say(&mut log, "lost");
            log.flush();
        }
        assert_eq!(log.lost(), 3);
        fs::remove_file(&path).unwrap();
        say(&mut log, "there is room");
        log.flush();
        assert_eq!(log.lost(), 0);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "[fanfold: 3 lines could not be written here: No space left on device (os error 28)]\nthere is room\n"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_stops_nobody() {
        let mut log = LogFile::new("/proc/no/such/place.txt", FILE_CAP);
        say(&mut log, "lost");
        log.flush();
        assert_eq!(log.lost(), 1);
    }
}
