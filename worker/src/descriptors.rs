//! Open files: a node needs some for each of its processes, and the system allows so many.
//!
//! It is settled before the first process starts. A node that ran into the limit while it works would fail wherever it
//! happens to open the next file: in the ledger, the logs, the spool.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What coordinator and node have open whatever the number of processes, and what starting one takes for a moment.
const OF_ALL: u64 = 48;
/// Two pipes, the process, its waker, its logs.
const OF_EACH: u64 = 6;

/// Makes room for the open files of `processes` (at least 1), raising the soft limit where that is allowed. Returns how many there
/// is room for, at least 1, and what to tell the user if that is fewer.
pub fn affordable(processes: u32) -> (u32, Option<String>) {
    // Without an answer nothing is known to be wrong.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return (processes, None) };
    let needed = OF_ALL + OF_EACH * u64::from(processes);
    if needed <= soft {
        return (processes, None);
    }
    let granted = needed.min(hard);
    let limit =
        if setrlimit(Resource::RLIMIT_NOFILE, granted.max(soft), hard).is_ok() { granted.max(soft) } else { soft };
    let possible = within(limit).min(processes);
    let advice = (possible < processes).then(|| {
        format!(
            "only {limit} files may be open: {possible} of {processes} processes run; allow {needed} (`ulimit -n`) for all"
        )
    });
    (possible, advice)
}

fn within(limit: u64) -> u32 {
    u32::try_from(limit.saturating_sub(OF_ALL) / OF_EACH).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_one_process_at_least() {
        assert_eq!((within(0), within(64), within(1024), within(u64::MAX)), (1, 2, 162, u32::MAX));
    }

    #[test]
    fn a_few_processes_need_nothing() {
        assert_eq!(affordable(2), (2, None));
    }
}
