//! Why a process died, and which mini-batch is charged with it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use fanfold_shared::message::{AttemptError, ErrorKind};

use super::current::{Current, LastWords};
use super::page::Phase;
use super::state::{Exceeded, Limits, State, StopReason};
use crate::guard::die_reason;
use crate::host::{self, SAYS};
use crate::node::Node;

/// The mini-batch that is charged with an uninvited death. Only one that had begun: what was waiting is innocent.
///
/// That is the one the page names. If the page names none, the process died between two: then the one it ran last, if it
/// has not been answered for (a thread it left behind, descriptors it closed). A process that died before it began
/// anything it holds has no culprit.
pub fn culprit(current: &Current) -> Option<u64> {
    if !current.page.is_sound() {
        // Answers come in order, so of what it holds it was at the first, or a few that were too short to be answered beyond.
        return current.held.front().map(|held| held.mini_batch);
    }
    current.page.look().mini_batch.or_else(|| {
        let unanswered = current.page.finished().saturating_sub(current.answered);
        let last = (unanswered as usize).checked_sub(1)?;
        current.held.get(last.min(current.held.len().checked_sub(1)?)).map(|held| held.mini_batch)
    })
}

/// What an uninvited death is: its class and its text. `charged`: some mini-batch is charged with it.
pub fn death(node: &Node, current: &mut Current, charged: bool) -> AttemptError {
    let words = current.last_words();
    let (kind, message) = how(node, current, &words, charged);
    AttemptError { kind, message, traceback: String::new(), stderr: words.stderr, of_all: false }
}

/// Import or `init()` ended without a word, or not at all.
pub fn init_died(node: &Node, current: &mut Current, state: State, limits: &Limits) -> AttemptError {
    let words = current.last_words();
    let phase = current.page.look().phase.describe();
    let message = match state {
        State::Stopping { reason: StopReason::InitStuck, .. } => format!(
            "import and init() did not end within {} s (3 × run_invocation_timeout + 30); the process was killed {phase}",
            limits.init.as_secs(),
        ),
        State::Stopping { reason: StopReason::InitGivenUp, .. } => {
            format!("import and init() had not ended when the job was given up; the process was killed {phase}")
        }
        _ => {
            let message = how(node, current, &words, false).1;
            // It could not speak for itself; what it last wrote is the best there is.
            let last = words.stderr.lines().last().filter(|line| words.stack.is_empty() && !line.starts_with(SAYS));
            last.map_or(message.clone(), |line| format!("{message}: {line}"))
        }
    };
    AttemptError { kind: ErrorKind::Init, message, traceback: words.stack, stderr: words.stderr, of_all: false }
}

/// A limit was exceeded.
pub fn too_long(exceeded: Exceeded, limits: &Limits, stderr: String) -> AttemptError {
    let (kind, message) = match exceeded {
        Exceeded::Run => (
            ErrorKind::Timeout,
            format!(
                "run() did not return within {} s (run_invocation_timeout); the process was killed",
                limits.run.as_secs()
            ),
        ),
        Exceeded::Overhead => (
            ErrorKind::OverheadTimeout,
            format!(
                "loading the mini-batch or writing its results took more than {} s (task_overhead_timeout); \
                 the process was killed",
                limits.overhead.as_secs()
            ),
        ),
    };
    AttemptError { kind, message, traceback: String::new(), stderr, of_all: false }
}

/// The process can't be started at all.
pub fn not_started(python: &Path, error: &io::Error) -> AttemptError {
    AttemptError {
        kind: ErrorKind::Init,
        message: format!("cannot start `{}`: {error}", python.display()),
        traceback: String::new(),
        stderr: String::new(),
        of_all: false,
    }
}

/// What the host reported of import or `init()`.
pub fn not_ready(stage: &str, message: &str, python: &Path) -> String {
    let raised = if stage == "init" && !message.starts_with("init() ") { "init() raised " } else { "" };
    let hint = match message.starts_with("ModuleNotFoundError: ") {
        true => format!(
            " (`{}` does not have it: name its package in the job's `environment`, or put the module beside the entry script)",
            python.display()
        ),
        false => String::new(),
    };
    format!("{raised}{message}{hint}")
}

/// `shutdown()` raised: it is noted, and fails nothing.
pub fn shutdown_raised(traceback: String) -> AttemptError {
    let message = traceback.trim_end().lines().last().unwrap_or("an exception").to_string();
    AttemptError { kind: ErrorKind::Exception, message, traceback, stderr: String::new(), of_all: false }
}

/// How a process ended, where it was, and what it or we know beyond that.
fn how(node: &Node, current: &Current, words: &LastWords, charged: bool) -> (ErrorKind, String) {
    let phase = match (current.page.is_sound(), current.page.look().phase) {
        (false, _) => String::new(),
        (true, Phase::Waiting) if charged => " after run()".into(),
        (true, phase) => format!(" {}", phase.describe()),
    };
    if let Some(broken) = &current.broken {
        let why = "the entry script wrote to descriptors that are not its own";
        return (ErrorKind::Exit, format!("process was killed{phase}: {broken}; {why}"));
    }
    let Some(status) = current.process.end() else { return (ErrorKind::Exit, format!("process ended{phase}")) };
    match status.signal() {
        None => {
            // The host leaves with a word of its own where it can't go on.
            let says = words.stderr.lines().rev().find_map(|line| line.strip_prefix(SAYS));
            let says = says.filter(|_| status.code().is_some_and(|code| host::EXIT_CODES.contains(&code)));
            let says = says.map(|says| format!(": {says}")).unwrap_or_default();
            (ErrorKind::Exit, format!("process {}{phase}{says}", die_reason(status)))
        }
        Some(libc::SIGKILL) if node.out_of_memory(current.process.pid()) => {
            (ErrorKind::Oom, format!("process was killed by the kernel{phase}: out of host memory"))
        }
        Some(_) => (ErrorKind::Signal, format!("process was {}{phase}", die_reason(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn messages_name_the_limit_and_the_key() {
        let second = Duration::from_secs(1);
        let limits =
            Limits { run: 60 * second, overhead: 30 * second, init: 210 * second, shutdown: second, grace: second };
        assert!(too_long(Exceeded::Run, &limits, String::new()).message.contains("60 s (run_invocation_timeout)"));
        assert_eq!(too_long(Exceeded::Overhead, &limits, String::new()).kind, ErrorKind::OverheadTimeout);
        let python = Path::new("/opt/python3");
        assert_eq!(not_ready("init", "ValueError: no model", python), "init() raised ValueError: no model");
        assert_eq!(not_ready("init", "init() called sys.exit(2)", python), "init() called sys.exit(2)");
        assert_eq!(not_ready("import", "SyntaxError: no", python), "SyntaxError: no");
        let missing = not_ready("import", "ModuleNotFoundError: No module named 'torch'", python);
        assert!(missing.starts_with("ModuleNotFoundError: No module named 'torch' (`/opt/python3` does not have it: "));
    }
}
