//! Why a process died, and which mini-batch is charged with it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use fanfold_shared::message::{AttemptError, ErrorKind};

use super::current::Current;
use super::state::{Exceeded, Limits, State, StopReason};
use crate::guard::die_reason;
use crate::node::Node;

/// The mini-batch that is charged with an uninvited death. Only one that had begun: what was waiting is innocent.
///
/// That is the one the page names. If the page names none, the process died between two: then the one it ran last, if it
/// has not been answered for (a thread it left behind, descriptors it closed). A process that died before it began
/// anything it holds has no culprit.
pub fn culprit(current: &Current) -> Option<u64> {
    let look = current.page.look();
    look.mini_batch.or_else(|| {
        let unanswered = current.page.finished().saturating_sub(current.answered);
        let last = (unanswered as usize).checked_sub(1)?;
        current.held.get(last.min(current.held.len().checked_sub(1)?)).map(|held| held.mini_batch)
    })
}

/// What an uninvited death is: its class and its text.
pub fn death(node: &Node, current: &mut Current) -> AttemptError {
    let phase = current.page.look().phase;
    let (kind, how) = how(node, current);
    let mut message = format!("process {how} {}", phase.describe());
    if let Some(broken) = &current.broken {
        message = format!("{message}: {broken}; the entry script wrote to descriptors that are not its own");
    }
    AttemptError { kind, message, traceback: String::new(), stderr: current.stderr_tail() }
}

/// Import or `init()` ended without a word, or not at all.
pub fn init_died(node: &Node, current: &mut Current, state: State, limits: &Limits) -> AttemptError {
    let phase = current.page.look().phase;
    let stuck = matches!(state, State::Stopping { reason: StopReason::InitStuck, .. });
    let stderr = current.stderr_tail();
    let message = match stuck {
        true => format!(
            "import and init() did not end within {} s (3 × run_invocation_timeout + 30); the process was killed {}",
            limits.init.as_secs(),
            phase.describe()
        ),
        // It could not speak for itself; what it last wrote is the best there is.
        false => {
            let last = stderr.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
            format!("process {} {}{last}", how(node, current).1, phase.describe())
        }
    };
    AttemptError { kind: ErrorKind::Init, message, traceback: String::new(), stderr }
}

/// A limit was exceeded.
pub fn too_long(exceeded: Exceeded, limits: &Limits) -> AttemptError {
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
    AttemptError { kind, message, traceback: String::new(), stderr: String::new() }
}

/// The process can't be started at all.
pub fn not_started(python: &Path, error: &io::Error) -> AttemptError {
    AttemptError {
        kind: ErrorKind::Init,
        message: format!("cannot start `{}`: {error}", python.display()),
        traceback: String::new(),
        stderr: String::new(),
    }
}

/// What the host reported of import or `init()`.
pub fn in_stage(stage: &str, message: &str) -> String {
    match stage {
        "init" => format!("init() raised {message}"),
        _ => message.to_string(),
    }
}

/// `shutdown()` raised: it is noted, and fails nothing.
pub fn shutdown_raised(traceback: String) -> AttemptError {
    let message = traceback.trim_end().lines().last().unwrap_or("an exception").to_string();
    AttemptError { kind: ErrorKind::Exception, message, traceback, stderr: String::new() }
}

fn how(node: &Node, current: &Current) -> (ErrorKind, String) {
    let Some(status) = current.process.end() else { return (ErrorKind::Exit, "ended".into()) };
    match status.signal() {
        None => (ErrorKind::Exit, die_reason(status)),
        Some(libc::SIGKILL) if node.out_of_memory(current.process.pid()) => {
            (ErrorKind::Oom, "was killed by the kernel: out of host memory".into())
        }
        Some(_) => (ErrorKind::Signal, format!("was {}", die_reason(status))),
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
        assert!(too_long(Exceeded::Run, &limits).message.contains("60 s (run_invocation_timeout)"));
        assert_eq!(too_long(Exceeded::Overhead, &limits).kind, ErrorKind::OverheadTimeout);
        assert_eq!(in_stage("init", "ValueError: no model"), "init() raised ValueError: no model");
    }
}
