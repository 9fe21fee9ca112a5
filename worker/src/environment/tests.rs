//! Builds: one with a real `venv` and `pip` and no network, the others with a stand-in for Python that waits and fails on demand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfold_shared::report::{ExitCode, Report};

use super::*;
use build::Wanted;

/// Writes an executable shell script. Another process writes it: while any process has it open for writing, copies of this
/// one between fork and exec included, it can't be executed.
pub(crate) fn executable(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Command::new("sh")
        .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder with a stand-in for Python, whose pip notes that it runs in `pip`, waits while there is `hold`, and fails if there is
/// `fail`.
struct Stage {
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
            dir=DIR
            case "$*" in
            "-c "*) printf '3.11.7\n/fake/python\n/fake\ncpython-311\nLinux x86_64\n1\n' ;;
            "-I -c import "*) [ ! -e "$dir/no_ensurepip" ] || [ "$3" = "import venv" ] ;;
            "-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
            *" pip install "*)
                setsid sleep 1000 >/dev/null 2>&1 &
                echo $! >>"$dir/helpers"
                echo "Collecting things"
                echo $$ >>"$dir/pip"
                while [ -e "$dir/hold" ]; do sleep 0.01; done
                if [ -e "$dir/fail" ]; then seq 1 20 >&2; echo "ERROR: no such thing" >&2; exit 1; fi
                kill $! ;;
            *) exit 99 ;;
            esac
        "#;
        executable(&dir.path().join("python"), &script.replace("DIR", dir.path().to_str().unwrap()));
        Stage { dir }
    }

    fn set(&self, flag: &str) {
        fs::write(self.dir.path().join(flag), "").unwrap();
    }

    fn clear(&self, flag: &str) {
        fs::remove_file(self.dir.path().join(flag)).unwrap();
    }

    fn pids(&self, file: &str) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn prepare(&self, cancel: &AtomicBool, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, EnvironmentError> {
        prepare_on(self.dir.path(), cancel, progress)
    }

    /// Without a word and to the end.
    fn build(&self) -> Result<PathBuf, EnvironmentError> {
        self.prepare(&AtomicBool::new(false), &mut |_| {})
    }

    fn start_builder(&self, failpoint: Option<&str>) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .env("TEST_GUARD_ROLE", "builder")
            .env("DIR", self.dir.path())
            .envs(failpoint.map(|point| ("FANFOLD_FAILPOINT", point)))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// What the cache holds, by the end of the name: the folder itself has none.
    fn cached(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("cache")).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().to_str().unwrap()[32..].to_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/build.txt")).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in self.pids("helpers") {
            // SAFETY: takes two integers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

fn prepare_on(dir: &Path, cancel: &AtomicBool, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, EnvironmentError> {
    let (cache, python, log) = (dir.join("cache"), dir.join("python"), dir.join("logs/build.txt"));
    let lines = ["things".to_string()];
    build::prepare(&Wanted { cache: &cache, lines: &lines, python: &python, base: dir, log: &log }, cancel, progress)
}

/// A program that builds, for tests to kill.
pub(crate) fn role_builder(dir: &Path) {
    prepare_on(dir, &AtomicBool::new(false), &mut |_| {}).unwrap();
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn an_environment_is_built_once_with_pips_words_live_and_kept() {
    let stage = Stage::new();
    let mut heard = Vec::new();
    let python = stage.prepare(&AtomicBool::new(false), &mut |line| heard.push(line.to_string())).unwrap();
    assert!(python.ends_with("bin/python") && python.exists());
    assert!(heard[0].starts_with("building an environment for Python 3.11.7 in "));
    assert_eq!(heard[1], "Collecting things");
    assert_eq!(stage.log(), heard.join("\n") + "\n");
    let root = python.parent().unwrap().parent().unwrap();
    assert_eq!(fs::read_to_string(root.join("build.log")).unwrap(), stage.log());
    assert_eq!(fs::read_to_string(root.join("requirements.txt")).unwrap(), "things\n");

    let mut heard_again = 0;
    assert_eq!(stage.prepare(&AtomicBool::new(false), &mut |_| heard_again += 1).unwrap(), python);
    assert_eq!((stage.pids("pip").len(), heard_again), (1, 0));
    assert!(stage.log().ends_with(&format!("using the environment {}\n", root.display())));
}

#[test]
fn of_two_builders_the_second_waits_and_says_so() {
    let stage = Stage::new();
    stage.set("hold");
    let mut first = stage.start_builder(None);
    until("pip runs", || !stage.pids("pip").is_empty());
    let mut heard = Vec::new();
    let python = stage.prepare(&AtomicBool::new(false), &mut |line| {
        heard.push(line.to_string());
        stage.clear("hold");
    });
    assert!(python.unwrap().exists());
    assert_eq!(heard.len(), 1, "{heard:?}");
    let expected = format!("waiting for process {}, which builds the same environment ", first.id());
    assert!(heard[0].starts_with(&expected), "{heard:?}");
    assert!(first.wait().unwrap().success());
    assert_eq!(stage.pids("pip").len(), 1);
}

#[test]
fn a_builder_killed_in_the_middle_leaves_nothing_that_counts() {
    let stage = Stage::new();
    stage.set("hold");
    let mut first = stage.start_builder(None);
    until("pip runs", || !stage.pids("pip").is_empty());
    first.kill().unwrap();
    first.wait().unwrap();
    until("pip dies with its builder", || !is_alive(stage.pids("pip")[0]));
    let helper = stage.pids("helpers")[0];
    assert!(is_alive(helper), "it left pip's group");

    stage.clear("hold");
    assert!(stage.build().unwrap().exists());
    assert!(!is_alive(helper));
    assert_eq!(stage.pids("pip").len(), 2);
    assert_eq!(stage.cached(), ["", ".lock"]);
}

#[test]
fn a_failed_build_keeps_its_log_and_nothing_else() {
    let stage = Stage::new();
    stage.set("fail");
    let error = stage.build().unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Failed);
    assert_eq!(error.to_string(), "`pip install` exited with code 1 while building the job's environment");
    let EnvironmentError::Build { said, log, .. } = &error else { panic!("{error:?}") };
    assert_eq!((said.0.len(), said.0[0].as_str(), said.0[14].as_str()), (15, "7", "ERROR: no such thing"));
    assert!(fs::read_to_string(log).unwrap().contains("Collecting things\n1\n2\n"));
    assert_eq!(stage.cached(), [".failed.log", ".lock"]);

    stage.clear("fail");
    assert!(stage.build().unwrap().exists());
}

#[test]
fn cancelling_kills_pip_and_removes_what_was_begun() {
    let stage = Stage::new();
    stage.set("hold");
    let cancel = AtomicBool::new(false);
    let outcome = stage.prepare(&cancel, &mut |line| cancel.store(line == "Collecting things", Ordering::Relaxed));
    assert!(matches!(outcome, Err(EnvironmentError::Interrupted)));
    assert!(!stage.pids("helpers").iter().any(|&pid| is_alive(pid)));
    assert_eq!(stage.cached(), [".lock"]);
}

#[test]
fn a_python_without_ensurepip_is_told_what_to_install() {
    let stage = Stage::new();
    stage.set("no_ensurepip");
    let error = stage.build().unwrap_err();
    assert!(error.to_string().ends_with("has no module `ensurepip`, which virtual environments need"), "{error}");
    assert!(error.hint().unwrap().contains("apt install python3.11-venv"));
    assert_eq!(stage.cached(), [".lock"]);
}

#[test]
fn an_environment_whose_interpreter_is_gone_is_built_anew() {
    let stage = Stage::new();
    let python = stage.build().unwrap();
    fs::remove_file(&python).unwrap();
    std::os::unix::fs::symlink("/nonexistent/python", &python).unwrap();
    assert_eq!(stage.build().unwrap(), python);
    assert!(python.exists());
    assert_eq!(stage.pids("pip").len(), 2);
}

#[cfg(feature = "failpoints")]
#[test]
fn killed_at_any_point_it_is_built_again() {
    for point in ["environment_venv_made:1", "environment_pip_done:1", "environment_before_marker:1"] {
        let stage = Stage::new();
        let status = stage.start_builder(Some(point)).wait().unwrap();
        assert_eq!(crate::guard::die_reason(status), "killed by SIGKILL (signal 9)", "{point} was not reached");
        let before = stage.pids("pip").len();
        assert!(stage.build().unwrap().exists());
        assert_eq!(stage.pids("pip").len(), before + 1, "{point}: half an environment was used");
    }
}

#[test]
fn the_cache_is_where_the_xdg_rules_put_it() {
    let with = |xdg: Option<&'static str>, home: Option<&'static str>| {
        cache_directory(move |name| if name == "HOME" { home } else { xdg }.map(PathBuf::from)).unwrap()
    };
    assert_eq!(with(Some("/x"), Some("/h")), Path::new("/x/fanfold"));
    assert_eq!(with(Some("relative"), Some("/h")), Path::new("/h/.cache/fanfold"));
    assert_eq!(with(None, Some("/h")), Path::new("/h/.cache/fanfold"));
    assert!(with(None, None).is_absolute());
}

/// A wheel is a zip file of the modules and three files about them.
const MAKE_WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "def hello():\n    return 'hello'\n")
    wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n")
"#;

#[test]
fn a_real_environment_has_what_the_list_names() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-c", MAKE_WHEEL]).arg(dir.path()).status().unwrap();
    assert!(made.success());
    fs::write(dir.path().join("nested.txt"), "# ours\n./tiny-1.0-py3-none-any.whl\n").unwrap();
    let (cache, log) = (dir.path().join("cache"), dir.path().join("build.txt"));
    let lines = ["--no-index".to_string(), "-r nested.txt".to_string()];
    let python = Path::new("python3");
    let wanted = Wanted { cache: &cache, lines: &lines, python, base: dir.path(), log: &log };
    let python = build::prepare(&wanted, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("Successfully installed tiny-1.0"), "{said}");
    let hello = Command::new(python).args(["-c", "import tiny; print(tiny.hello())"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&hello.stdout), "hello\n");
}
