//! How long things may take, in seconds.

use std::ops::RangeInclusive;

use crate::job::reader::Reader;

/// Up to a year: more is a slip, and a deadline must not overflow a clock.
const SECONDS: RangeInclusive<i64> = 1..=31_536_000;

pub(super) struct Timeouts {
    pub(super) run_invocation: u64,
    pub(super) task_overhead: u64,
    pub(super) progress_update: u64,
    pub(super) first_task_creation: u64,
    pub(super) resource_monitor: u64,
}

/// Reads the timeouts and `resource_monitor_interval`.
pub(super) fn read(reader: &mut Reader) -> Timeouts {
    let mut seconds = |key, range| reader.whole(key, range).map(|seconds| seconds as u64);
    let run_invocation = seconds("run_invocation_timeout", SECONDS).unwrap_or(60);
    Timeouts {
        run_invocation,
        task_overhead: seconds("task_overhead_timeout", SECONDS).unwrap_or(30),
        progress_update: seconds("progress_update_timeout", SECONDS)
            .unwrap_or((3 * run_invocation + 30).min(*SECONDS.end() as u64)),
        first_task_creation: seconds("first_task_creation_timeout", SECONDS).unwrap_or(600),
        resource_monitor: seconds("resource_monitor_interval", 0..=*SECONDS.end()).unwrap_or(600),
    }
}
