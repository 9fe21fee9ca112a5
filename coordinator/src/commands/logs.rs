//! `fanfold logs JOB [WHICH]`: the files of the log tree and what they are; or what is in them, also as it comes.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfold_shared::layout::JobDir;
use fanfold_shared::report::{During, ExitCode, IoError, Report, Result};
use fanfold_shared::text::{harmless, size};

use super::{is_broken_pipe, written};
use crate::registry::Registry;
use crate::report::{Coordinator, coordinator_of};
use crate::terminal::{Align, Table};

/// Between two looks at the files that are followed.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes from the end of a file in which `--tail` looks for its lines.
const TAIL_BYTES: u64 = 16 << 20;

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A job id, the beginning of one, or a job directory
    #[arg(value_name = "JOB")]
    pub job: String,
    /// `overview`, `result`, `errors`, `master`, `driver`, a process (`process000`, `<node>/process000`), or a part of a file's
    /// path in the log tree; without it, the files are listed
    #[arg(value_name = "WHICH")]
    pub which: Option<String>,
    /// Of a process: what it wrote to standard output
    #[arg(long)]
    pub stdout: bool,
    /// Of a process: what it wrote to standard error
    #[arg(long)]
    pub stderr: bool,
    /// Only the last N lines of each file
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Go on with what is written until the job is over
    #[arg(long, short)]
    pub follow: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// No file is meant.
    #[error("no log of the job matches `{which}`")]
    NoMatch {
        /// What was asked for.
        which: String,
        /// The job, as it was given.
        job: String,
    },
}

impl Report for LogsError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        let LogsError::NoMatch { job, .. } = self;
        Some(format!("`fanfold logs {job}` lists them; a log appears with its first line"))
    }
}

/// Lists or shows the job's logs.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let dir = Registry::of_user().find(&args.job)?;
    let Some(which) = &args.which else { return Ok(written(list(&dir, out))?) };
    let files = select(&dir, which, args.stdout, args.stderr);
    if files.is_empty() {
        return Err(LogsError::NoMatch { which: which.clone(), job: args.job.clone() }.into());
    }
    // What scripts print may steer a terminal; a file or a pipe gets the bytes as they are.
    let raw = !io::stdout().is_terminal();
    match show(&dir, &files, args, raw, out) {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::Completed),
        outcome => Ok(outcome.map(|()| ExitCode::Completed)?),
    }
}

/// The files of the job's log tree, and the driver's log: paths relative to the job directory, sorted.
fn files(dir: &JobDir) -> Vec<PathBuf> {
    let roots = [dir.logs().root().to_path_buf(), dir.driver_log()];
    let mut files: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| walkdir::WalkDir::new(root).sort_by_file_name())
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        // Nothing outside: the link to the newest overview is not followed, its target is listed itself.
        .filter_map(|entry| entry.path().strip_prefix(dir.root()).map(Path::to_path_buf).ok())
        .collect();
    files.sort();
    files
}

fn list(dir: &JobDir, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[("SIZE", Align::Right), ("FILE", Align::Left), ("WHAT", Align::Left)]);
    for file in files(dir) {
        let len = fs::metadata(dir.root().join(&file)).map_or(0, |metadata| metadata.len());
        let name = file.to_string_lossy();
        table.row([&size(len), &*name, describe(&name)]);
    }
    writeln!(out, "{}", dir.root().display())?;
    table.write(out)
}

/// What a file is, by its path in the job directory.
fn describe(path: &str) -> &'static str {
    let path = path.strip_prefix("logs/").unwrap_or(path);
    let what = [
        ("azureml-logs/70_driver_log.txt", "", "the process that started the job"),
        ("readme.txt", "", "explains this layout"),
        ("job_progress_overview.", "", "progress and result"),
        ("job_result.txt", "", "state, cause, first errors"),
        ("user/error.txt", "", "errors of the script, grouped"),
        ("user/error/", "", "errors of the script, one by one"),
        ("user/entry_script_log/", ".log.txt", "EntryScript().logger"),
        ("user/entry_script_log/", "", "a file of the script's own"),
        ("user/stdout/", "", "sys.stdout, logging"),
        ("user/stderr/", "", "sys.stderr"),
        ("sys/master_role.txt", "", "the coordinator"),
        ("sys/environment_build.txt", "", "pip"),
        ("sys/error/", "", "errors of fanfold"),
        ("sys/node/", ".stdout.txt", "descriptor 1: C code, subprocesses"),
        ("sys/node/", ".stderr.txt", "descriptor 2: C code, subprocesses"),
        ("sys/node/", ".profile", "Python profile"),
        ("sys/node/", "", "a line for each mini-batch"),
        ("sys/job_report/", "", "table"),
        ("perf/", "", "resources in use"),
    ];
    let found = what.into_iter().find(|(begin, end, _)| path.starts_with(begin) && path.ends_with(end));
    found.map_or("", |(_, _, what)| what)
}

/// The files that are meant, relative to the job directory.
fn select(dir: &JobDir, which: &str, stdout: bool, stderr: bool) -> Vec<PathBuf> {
    let logs = dir.logs();
    let named = match which {
        "overview" => Some(fs::canonicalize(logs.overview(None)).unwrap_or(logs.overview(None))),
        "result" => Some(logs.job_result()),
        "errors" | "error" => Some(logs.user_errors()),
        "master" => Some(logs.master_role()),
        "driver" => Some(dir.driver_log()),
        "readme" => Some(logs.readme()),
        _ => None,
    };
    if let Some(path) = named {
        // Canonical where the link was, so both are.
        let root = fs::canonicalize(dir.root()).unwrap_or(dir.root().to_path_buf());
        let path = fs::canonicalize(&path).unwrap_or(path);
        return path.strip_prefix(root).ok().filter(|_| path.is_file()).map(Path::to_path_buf).into_iter().collect();
    }
    let process = which.rsplit('/').next().is_some_and(|name| {
        name.strip_prefix("process").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let wanted = |path: &PathBuf| {
        let text = path.to_string_lossy();
        let stream = [(stdout, ".stdout.txt"), (stderr, ".stderr.txt")];
        match process {
            true if stdout || stderr => stream.iter().any(|(on, end)| *on && text.ends_with(&format!("/{which}{end}"))),
            true => text.starts_with("logs/sys/node/") && text.ends_with(&format!("/{which}.txt")),
            false => {
                text.contains(which)
                    && (!(stdout || stderr) || stream.iter().any(|(on, end)| *on && text.ends_with(end)))
            }
        }
    };
    files(dir).into_iter().filter(wanted).collect()
}

fn show(dir: &JobDir, files: &[PathBuf], args: &Args, raw: bool, out: &mut dyn Write) -> Result<(), IoError> {
    let mut last_shown = None;
    let mut at: Vec<u64> = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let path = dir.root().join(file);
        let start = args.tail.map_or(Ok(0), |lines| tail_start(&path, lines)).during("read", &path)?;
        if files.len() > 1 {
            heading(file, &mut last_shown, i, out)?;
        }
        at.push(copy(&path, start, raw, out)?);
    }
    while args.follow {
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
            break;
        }
        std::thread::sleep(LOOK);
    }
    out.flush().during("write", "standard output")
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
fn tail_start(path: &Path, lines: usize) -> io::Result<u64> {
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

    fn job() -> (tempfile::TempDir, JobDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = JobDir::new(root.path());
        for (path, text) in [
            ("logs/readme.txt", "read me\n"),
            ("logs/job_progress_overview.2026112102.txt", "one\ntwo\nthree\n"),
            ("logs/sys/node/0/process000.txt", "mini-batches of 0\n"),
            ("logs/sys/node/0/process000.stderr.txt", "C says \x1b[31mno\n"),
            ("logs/sys/node/1/process000.txt", "mini-batches of 1\n"),
            ("logs/user/stderr/0/process000.stderr.txt", "Python says no\n"),
            ("logs/user/stdout/0/process000.stdout.txt", "Python says yes\n"),
            ("azureml-logs/70_driver_log.txt", "driver\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("job_progress_overview.2026112102.txt", dir.logs().overview(None)).unwrap();
        (root, dir)
    }

    fn args(tail: Option<usize>, follow: bool) -> Args {
        Args { job: "j".into(), which: None, stdout: false, stderr: false, tail, follow }
    }

    fn shown(dir: &JobDir, which: &str, streams: (bool, bool), args: &Args, raw: bool) -> String {
        let mut out = Vec::new();
        show(dir, &select(dir, which, streams.0, streams.1), args, raw, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_list_says_what_each_file_is() {
        let (root, dir) = job();
        let mut out = Vec::new();
        list(&dir, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap().replace(root.path().to_str().unwrap(), "/j");
        insta::assert_snapshot!(text, @r#"
        /j
        SIZE  FILE                                       WHAT
         7 B  azureml-logs/70_driver_log.txt             the process that started the job
        14 B  logs/job_progress_overview.2026112102.txt  progress and result
         8 B  logs/readme.txt                            explains this layout
        15 B  logs/sys/node/0/process000.stderr.txt      descriptor 2: C code, subprocesses
        18 B  logs/sys/node/0/process000.txt             a line for each mini-batch
        18 B  logs/sys/node/1/process000.txt             a line for each mini-batch
        15 B  logs/user/stderr/0/process000.stderr.txt   sys.stderr
        16 B  logs/user/stdout/0/process000.stdout.txt   sys.stdout, logging
        "#);
    }

    #[test]
    fn names_and_parts_of_paths_select_files() {
        let (_root, dir) = job();
        let plain = args(None, false);
        let none = (false, false);
        assert_eq!(shown(&dir, "overview", none, &plain, true), "one\ntwo\nthree\n");
        assert_eq!(shown(&dir, "driver", none, &plain, true), "driver\n");
        assert_eq!(shown(&dir, "1/process000", none, &plain, true), "mini-batches of 1\n");
        assert_eq!(
            shown(&dir, "process000", none, &plain, true),
            "==> logs/sys/node/0/process000.txt <==\nmini-batches of 0\n\n==> logs/sys/node/1/process000.txt <==\nmini-batches of 1\n"
        );
        assert_eq!(shown(&dir, "process000", (true, false), &plain, true), "Python says yes\n");
        assert_eq!(
            shown(&dir, "0/process000", (false, true), &plain, false),
            "==> logs/sys/node/0/process000.stderr.txt <==\nC says \\x1b[31mno\n\n==> logs/user/stderr/0/process000.stderr.txt <==\nPython says no\n"
        );
        assert_eq!(select(&dir, "user/std", false, false).len(), 2);
        assert!(select(&dir, "result", false, false).is_empty(), "it is not there yet");
        assert!(select(&dir, "process001", false, false).is_empty());
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let (_root, dir) = job();
        for (lines, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            assert_eq!(shown(&dir, "overview", (false, false), &args(Some(lines), false), true), expected);
        }
        let path = dir.logs().overview(Some("2026112102"));
        fs::write(&path, "no newline at the\nend").unwrap();
        assert_eq!(shown(&dir, "overview", (false, false), &args(Some(1), false), true), "end");
    }

    #[test]
    fn following_ends_with_the_job_and_shows_what_came_meanwhile() {
        let (_root, dir) = job();
        fs::create_dir_all(dir.internal()).unwrap();
        let lock = File::create(dir.lock()).unwrap();
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole)).unwrap();
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
            let files = select(&followed, "overview", false, false);
            show(&followed, &files, &args(None, true), true, &mut Out(sender)).unwrap();
        });
        let limit = Duration::from_secs(20);
        assert_eq!(receiver.recv_timeout(limit).unwrap(), b"one\ntwo\nthree\n");
        let mut log = fs::OpenOptions::new().append(true).open(dir.logs().overview(None)).unwrap();
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
