//! Builds a virtual environment, once.
//!
//! The order: lock, leftover away, folder, `venv`, `pip`, everything to disk, marker. Whatever dies, the marker is missing and the
//! lock is free; processes that a dead builder left are killed before its folder is removed from under them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfold_shared::failpoint;
use fanfold_shared::report::{During, IoError};

use super::EnvironmentError;
use super::error::LastLines;
use super::interpreter::{self, Interpreter};
use super::requirements::{self, Requirements};
use super::run::{Ended, Transcript, run};
use crate::devices::without_secrets;
use crate::guard;

/// Part of every environment's name: to be changed when environments are built in another way.
const GENERATION: &str = "fanfold environment 1";
const MARKER: &str = "complete";

/// The environment that a job wants, and where things are.
pub(super) struct Wanted<'a> {
    pub cache: &'a Path,
    pub lines: &'a [String],
    pub python: &'a Path,
    pub base: &'a Path,
    pub log: &'a Path,
}

/// Returns the interpreter of the complete environment.
pub(super) fn prepare(
    wanted: &Wanted<'_>,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, EnvironmentError> {
    let interpreter = interpreter::ask(interpreter::find(wanted.python)?)?;
    let requirements = requirements::read(wanted.lines, wanted.base)?;
    let name = name(&interpreter, &requirements);
    let place = Place { root: wanted.cache.join(&name), name, cache: wanted.cache };
    let mut log = open_log(wanted.log);
    if place.is_complete() {
        say(&mut log, &format!("using the environment {}", place.root.display()));
        return Ok(place.python());
    }
    fs::create_dir_all(place.cache).during("create", place.cache)?;
    let _lock = place.lock(cancel, &mut |text| {
        say(&mut log, text);
        progress(text);
    })?;
    // Another one may have built it while we waited.
    if !place.is_complete() {
        place.remove_leftover()?;
        let outcome = build(&place, &interpreter, &requirements, wanted.base, log, cancel, progress);
        if outcome.is_err() {
            // The marker is missing, so that what can't be removed now is removed by the next builder.
            let _ = place.remove_leftover();
        }
        outcome?;
    }
    Ok(place.python())
}

fn name(interpreter: &Interpreter, requirements: &Requirements) -> String {
    let all = [GENERATION, &interpreter.identity, &requirements.content].join("\0");
    blake3::hash(all.as_bytes()).to_hex()[..32].to_string()
}

/// Where one environment lies.
struct Place<'a> {
    name: String,
    cache: &'a Path,
    root: PathBuf,
}

impl Place<'_> {
    fn python(&self) -> PathBuf {
        self.root.join("bin/python")
    }

    /// What marks the processes that build here: the same environment may be being built in another cache.
    fn mark(&self) -> String {
        blake3::hash(self.root.as_os_str().as_encoded_bytes()).to_hex()[..32].to_string()
    }

    fn beside(&self, end: &str) -> PathBuf {
        self.cache.join(format!("{}.{end}", self.name))
    }

    /// A marker without a working link to its interpreter is what remains when that interpreter was removed and came back.
    fn is_complete(&self) -> bool {
        self.root.join(MARKER).exists() && self.python().exists()
    }

    /// Waits until nobody else builds this environment. The lock ends with the descriptor, however that ends.
    fn lock(&self, cancel: &AtomicBool, told: &mut dyn FnMut(&str)) -> Result<File, EnvironmentError> {
        let path = self.beside("lock");
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).during("open", &path)?;
        let mut has_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => Err(error).during("lock", &path)?,
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(EnvironmentError::Interrupted);
            }
            if !std::mem::replace(&mut has_told, true) {
                let mut holder = String::new();
                let _ = (&mut file).take(20).read_to_string(&mut holder);
                told(&format!(
                    "waiting for process {holder}, which builds the same environment {}",
                    self.root.display()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Only for the message above.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(file)
    }

    fn remove_leftover(&self) -> Result<(), EnvironmentError> {
        if !self.root.exists() {
            return Ok(());
        }
        guard::sweep_build(&self.mark());
        // First what makes it count: a removal that is cut short must not leave a marker on half an environment.
        match fs::remove_file(self.root.join(MARKER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).during("remove", &self.root)?,
            _ => {}
        }
        Ok(fs::remove_dir_all(&self.root).during("remove", &self.root)?)
    }
}

fn build(
    place: &Place<'_>,
    interpreter: &Interpreter,
    requirements: &Requirements,
    base: &Path,
    log: Option<File>,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<(), EnvironmentError> {
    if let Some(module) = interpreter.missing_module() {
        let (python, version) = (interpreter.path.clone(), interpreter.version.clone());
        return Err(EnvironmentError::MissingModule { python, version, module });
    }
    fs::create_dir(&place.root).during("create", &place.root)?;
    let build_log = place.root.join("build.log");
    let list = place.root.join("requirements.txt");
    fs::write(&list, &requirements.text).during("write", &list)?;
    let files = [Some(File::create(&build_log).during("create", &build_log)?), log];
    let mut transcript = Transcript::new(files.into_iter().flatten().collect(), progress);
    transcript.line(&format!("building an environment for Python {} in {}", interpreter.version, place.root.display()));

    let mut run_step = |step: &'static str, mut command: Command| {
        let (name, mark) = guard::mark_of_build(&place.mark()).during("read", "/dev/urandom")?;
        command.env(name, mark);
        let ended = run(&mut command, cancel, &mut |line| transcript.line(line));
        match ended.during("run", command.get_program())? {
            Ended::Exited(status) if status.success() => Ok(()),
            Ended::Exited(status) => {
                let kept = place.beside("failed.log");
                fs::rename(&build_log, &kept).during("rename", &build_log)?;
                let (how, said) = (guard::die_reason(status), LastLines(transcript.last_lines()));
                Err(EnvironmentError::Build { step, how, said, log: kept })
            }
            Ended::Canceled => Err(EnvironmentError::Interrupted),
        }
    };
    run_step("`python -m venv`", venv(interpreter, place))?;
    failpoint!("environment_venv_made");
    if !requirements.text.is_empty() {
        run_step("`pip install`", pip(place, &list, base))?;
    }
    failpoint!("environment_pip_done");
    Ok(complete(place)?)
}

fn venv(interpreter: &Interpreter, place: &Place<'_>) -> Command {
    let mut command = python(&interpreter.path);
    command.args(["-I", "-m", "venv"]).arg(&place.root);
    command
}

fn pip(place: &Place<'_>, list: &Path, base: &Path) -> Command {
    let mut command = python(&place.python());
    command.args(["-I", "-u", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"]).arg(list);
    // Paths of packages in the list start where pip runs.
    command.current_dir(if base.is_dir() { base } else { place.cache });
    command
}

/// Packages run code of their own while they are built: they see no more of our environment than the job's scripts do.
fn python(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(without_secrets(std::env::vars_os()));
    // These would make pip take what lies elsewhere as installed, or install it elsewhere.
    for name in ["PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"] {
        command.env_remove(name);
    }
    command
}

/// Everything to disk, then the marker, then the names of both: a power cut leaves all of it, or no marker.
fn complete(place: &Place<'_>) -> Result<(), IoError> {
    let root = File::open(&place.root).during("open", &place.root)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::syncfs(root.as_raw_fd()) } == -1 {
        Err(io::Error::last_os_error()).during("sync", &place.root)?;
    }
    failpoint!("environment_before_marker");
    let marker = place.root.join(MARKER);
    let written = File::create(&marker).and_then(|file| file.sync_all());
    written.and_then(|()| root.sync_all()).during("write", &marker)?;
    File::open(place.cache).and_then(|cache| cache.sync_all()).during("sync", place.cache)
}

/// The job's log. A job runs without it: a log disk may be full.
fn open_log(path: &Path) -> Option<File> {
    fs::create_dir_all(path.parent()?).ok()?;
    OpenOptions::new().append(true).create(true).open(path).ok()
}

fn say(log: &mut Option<File>, text: &str) {
    if let Some(log) = log {
        let _ = writeln!(log, "{text}");
    }
}
