//! What the end-to-end tests share: a place of their own, the real program in it, and a checker that knows no mercy.
//!
//! A [`Place`] has its own state and cache directories, and its jobs are marked in the environment of everything they start; when it is
//! dropped, no process with that mark may be left.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for anything a healthy program does in these tests; a test that needs all of it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The program under test.
pub const FANFOLD: &str = env!("CARGO_BIN_EXE_fanfold");

/// The variable that marks everything a place starts. Not called `FANFOLD_…`: such variables are kept from scripts, whose processes
/// would then be overlooked.
const MARK: &str = "PLACE_OF_A_TEST";

/// A temporary directory with everything a job needs.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// An empty place.
    pub fn new() -> Place {
        Place { dir: tempfile::Builder::new().prefix("fanfold-test-").tempdir().expect("a temporary directory") }
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in it, folders included, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the place")).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the list file `items.txt` with `item-000`, `item-001`, …
    pub fn write_items(&self, count: usize) -> Vec<String> {
        let items: Vec<String> = (0..count).map(|i| format!("item-{i:03}")).collect();
        self.write("items.txt", items.iter().map(|item| format!("{item}\n")).collect::<String>());
        items
    }

    /// The program, in this place. Its Python is the system's `python3`.
    pub fn fanfold(&self) -> Command {
        self.command(FANFOLD)
    }

    /// Another program, in this place as well; what it starts is marked. It finds no GPU, wherever the tests run: the first library that
    /// goes by the name of NVIDIA's can't be loaded.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("FANFOLD_DEVICE_LOCKS", self.path("devices"))
            .env("LD_LIBRARY_PATH", no_nvml())
            .env(MARK, self.mark().1)
            .env_remove("CUDA_VISIBLE_DEVICES")
            .env_remove("FANFOLD_FAILPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.fanfold().args(args).spawn().expect("the program starts"), LIMIT)
    }

    /// The directory of the job that the tests call `job`.
    pub fn job(&self) -> PathBuf {
        self.path("job")
    }

    /// The lines of the output file; it must end in a newline if it is not empty.
    pub fn rows(&self) -> Vec<String> {
        lines(&self.job().join("output/parallel_run_step.txt"))
    }

    /// `status.json`.
    pub fn status(&self) -> serde_json::Value {
        let text = fs::read(self.job().join("status.json")).expect("status.json");
        serde_json::from_slice(&text).expect("status.json is JSON")
    }

    /// The lines of `errors.jsonl`.
    pub fn errors(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.job().join("errors.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Waits until nothing that this place started is left, and says what is if something stays.
    pub fn nothing_left(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("processes are left: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The environment variable that marks everything that is started here, and its value.
    pub fn mark(&self) -> (&'static str, String) {
        (MARK, self.dir.path().display().to_string())
    }

    /// The living processes that this place started, and theirs: pid and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let needle = format!("{MARK}={}", self.mark().1).into_bytes();
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
            !zombie && environ.split(|byte| *byte == 0).any(|variable| variable == needle)
        })
        .map(|pid: u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&command).replace('\0', " "))
        })
        .collect()
    }
}

/// A directory with libraries of NVIDIA's names that are none.
fn no_nvml() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-nvml");
    fs::create_dir_all(&dir).unwrap();
    for name in ["libnvidia-ml.so", "libnvidia-ml.so.1"] {
        fs::OpenOptions::new().append(true).create(true).open(dir.join(name)).unwrap();
    }
    dir
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.nothing_left();
        for (pid, _) in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
        }
        if !std::thread::panicking() {
            left.unwrap();
        }
    }
}

/// How a run of the program ended.
pub struct Ran {
    /// Its exit code; None: a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless it ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Waits for the program, `limit` at most; then it is killed and the test fails.
#[track_caller]
pub fn finish(mut child: Child, limit: Duration) -> Ran {
    use std::io::Read;
    let mut out = child.stdout.take().expect("piped");
    let mut err = child.stderr.take().expect("piped");
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let read_err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("our child");
            child.wait().expect("our child");
            let err = read_err.join().unwrap().unwrap_or_default();
            panic!("the program did not end within {} s; stderr:\n{err}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let stdout = read.join().unwrap().expect("UTF-8");
    let stderr = read_err.join().unwrap().expect("UTF-8");
    Ran { code: status.code(), stdout, stderr }
}

/// Waits until `look` gives something, [`LIMIT`] at most, and says what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a file whose last line is whole.
#[track_caller]
pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "{}: the last line is torn", path.display());
    text.lines().map(str::to_string).collect()
}

/// Compares as sets of rows, never as counts: each item once, nothing else.
#[track_caller]
pub fn assert_each_once(rows: &[String], items: &[String]) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in rows {
        *counts.entry(row).or_default() += 1;
    }
    for item in items {
        *counts.entry(item).or_default() -= 1;
    }
    counts.retain(|_, count| *count != 0);
    assert!(counts.is_empty(), "rows too many (+) or missing (-): {:?}", counts.iter().take(20).collect::<Vec<_>>());
}

/// A Python that has pandas and pyarrow: `FANFOLD_TABLES_PYTHON`, or that of the virtual environment that `tests/run.sh` makes.
pub fn python_with_pandas() -> PathBuf {
    let asked = std::env::var_os("FANFOLD_TABLES_PYTHON").map(PathBuf::from);
    let built = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tables-venv/bin/python");
    std::path::absolute(asked.unwrap_or_else(built)).expect("a path")
}

/// Whether tests over tables can run. `tests/run.sh` says so (`FANFOLD_NO_PANDAS`) where pandas could not be installed; the test is then left out,
/// aloud. Missing for any other reason it is a failure.
pub fn has_pandas() -> bool {
    let python = python_with_pandas();
    if python.exists() {
        return true;
    }
    assert!(
        std::env::var_os("FANFOLD_NO_PANDAS").is_some(),
        "{} is not there: `tests/run.sh` makes it, with pandas and pyarrow",
        python.display()
    );
    eprintln!("SKIPPED: pandas can't be installed here");
    false
}

/// The output of a finished command, for tests that start others than the program.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
