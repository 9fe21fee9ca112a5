//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// `exited with code 0`, `killed by SIGSEGV (signal 11)`.
pub fn die_reason(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exited with code {code}");
    }
    let Some(signal) = status.signal() else {
        return format!("ended with {status}");
    };
    let core = if status.core_dumped() { ", core dumped" } else { "" };
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(name) => format!("killed by {name} (signal {signal}{core})"),
        Err(_) => format!("killed by signal {signal}{core}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_named() {
        let reason = |wait_status| die_reason(ExitStatus::from_raw(wait_status));
        assert_eq!(reason(0), "exited with code 0");
        assert_eq!(reason(3 << 8), "exited with code 3");
        assert_eq!(reason(libc::SIGSEGV), "killed by SIGSEGV (signal 11)");
        assert_eq!(reason(libc::SIGABRT | 0x80), "killed by SIGABRT (signal 6, core dumped)");
        assert_eq!(reason(40), "killed by signal 40");
    }
}
