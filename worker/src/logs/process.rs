//! `logs/sys/node/<node>/<process>.txt`: one line for each mini-batch that the process ran.
//!
//! `2026-11-21 02:38:55,049|INFO|334|done mini_batch=16 attempt=1 total=2 succeeded=2 failed=0 start=… duration=0.822071
//! process_time=0.790000 run_method_time=0.810000 host=gpu-01`: the prefix is the original's, the rest `key=value` in a fixed
//! order, so that `grep mini_batch=16\ ` and `awk` work. Words in a value that is free text are quoted as in JSON, last in the line.
//!
//! Complete up to the cap; then one `summary` line a second and every failure, up to twice the cap. The time in the
//! prefix is when the mini-batch ended: it is already known, so a line costs no clock reading.

use std::path::PathBuf;

use fanfold_shared::clock::Stamper;
use fanfold_shared::message::ErrorKind;
use fanfold_shared::text::{push_decimal, push_seconds};

use super::file::{Level, LogFile, prefix};

/// What a line tells about one attempt of one mini-batch.
#[derive(Clone, Copy, Debug)]
pub struct MiniBatchLine<'a> {
    /// The mini-batch's id.
    pub mini_batch: u64,
    /// Counted from 1.
    pub attempt: u32,
    /// Its items.
    pub total: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// When it was taken up, microseconds since the epoch.
    pub started_us: u64,
    /// Microseconds around and including `run()`.
    pub elapsed_us: u64,
    /// Microseconds of CPU time.
    pub cpu_us: u64,
    /// Microseconds of `run()`.
    pub run_us: u64,
    /// What failed the attempt, if it failed.
    pub error: Option<(ErrorKind, &'a str)>,
}

/// Sums over the mini-batches that got no line of their own.
#[derive(Debug, Default)]
struct Sums {
    mini_batches: u64,
    total: u64,
    succeeded: u64,
    elapsed_us: u64,
    cpu_us: u64,
    run_us: u64,
    last_us: u64,
}

/// See the module documentation.
#[derive(Debug)]
pub struct ProcessLog {
    file: LogFile,
    stamper: Stamper,
    pid: u32,
    /// ` host=gpu-01`
    tail: Vec<u8>,
    /// Bytes up to which every mini-batch has its line.
    complete_up_to: u64,
    skipped: Sums,
    /// The second of the last summary, and of the last flush, since the epoch.
    summed_s: u64,
    flushed_s: u64,
}

impl ProcessLog {
    /// The log at `path` of the process `pid` on `host`, complete up to `cap` bytes ([`super::FILE_CAP`]).
    pub fn new(path: PathBuf, host: &str, pid: u32, cap: u64) -> ProcessLog {
        ProcessLog {
            file: LogFile::new(path, cap.saturating_mul(2)),
            stamper: Stamper::default(),
            pid,
            tail: format!(" host={host}").into_bytes(),
            complete_up_to: cap,
            skipped: Sums::default(),
            summed_s: 0,
            flushed_s: 0,
        }
    }

    /// Notes what became of one attempt. A failed one is on its way to the disk when this returns.
    pub fn mini_batch(&mut self, line: &MiniBatchLine<'_>) {
        let ended_us = line.started_us + line.elapsed_us;
        if line.error.is_some() {
            self.write(line, ended_us);
            self.flush(ended_us);
        } else if self.file.len() < self.complete_up_to {
            self.write(line, ended_us);
        } else {
            self.skipped.mini_batches += 1;
            self.skipped.total += line.total;
            self.skipped.succeeded += line.succeeded;
            self.skipped.elapsed_us += line.elapsed_us;
            self.skipped.cpu_us += line.cpu_us;
            self.skipped.run_us += line.run_us;
            self.skipped.last_us = self.skipped.last_us.max(ended_us);
        }
    }

    /// Notes anything else: that the process started, became ready, ended.
    pub fn event(&mut self, now_us: u64, level: Level, text: &str) {
        let Self { file, stamper, pid, .. } = self;
        file.line(|out| {
            prefix(out, stamper, now_us, level, *pid);
            out.extend_from_slice(fanfold_shared::text::harmless(text).as_bytes());
        });
        self.flush(now_us);
    }

    /// To be called about once a second: writes the summary that is due and what waits in memory.
    pub fn tick(&mut self, now_us: u64) {
        let second = now_us / 1_000_000;
        if second != self.summed_s {
            self.summed_s = second;
            self.summarise();
        }
        if second != self.flushed_s {
            self.flush(now_us);
        }
    }

    fn flush(&mut self, now_us: u64) {
        self.flushed_s = now_us / 1_000_000;
        self.file.flush();
    }

    fn write(&mut self, line: &MiniBatchLine<'_>, ended_us: u64) {
        let Self { file, stamper, pid, tail, .. } = self;
        file.line(|out| {
            // One reservation instead of one check for each piece.
            out.reserve(320);
            let level = if line.error.is_some() { Level::Error } else { Level::Info };
            prefix(out, stamper, ended_us, level, *pid);
            out.extend_from_slice(if line.error.is_some() { b"failed mini_batch=" } else { b"done mini_batch=" });
            push_decimal(out, line.mini_batch);
            out.extend_from_slice(b" attempt=");
            push_decimal(out, line.attempt.into());
            push_counts(out, line.total, line.succeeded);
            out.extend_from_slice(b" start=");
            stamper.write_iso(out, line.started_us);
            push_times(out, line.elapsed_us, line.cpu_us, line.run_us);
            out.extend_from_slice(tail);
            if let Some((kind, message)) = line.error {
                out.extend_from_slice(b" kind=");
                out.extend_from_slice(kind.name().as_bytes());
                out.extend_from_slice(b" message=");
                serde_json::to_writer(out, &fanfold_shared::text::one_line(message, 1000))
                    .expect("a string goes into a vector");
            }
        });
    }

    fn summarise(&mut self) {
        let sums = std::mem::take(&mut self.skipped);
        if sums.mini_batches == 0 {
            return;
        }
        let Self { file, stamper, pid, tail, .. } = self;
        file.line(|out| {
            prefix(out, stamper, sums.last_us, Level::Info, *pid);
            out.extend_from_slice(b"summary mini_batches=");
            push_decimal(out, sums.mini_batches);
            push_counts(out, sums.total, sums.succeeded);
            push_times(out, sums.elapsed_us, sums.cpu_us, sums.run_us);
            out.extend_from_slice(tail);
        });
    }
}

impl Drop for ProcessLog {
    fn drop(&mut self) {
        self.summarise();
    }
}

fn push_counts(out: &mut Vec<u8>, total: u64, succeeded: u64) {
    out.extend_from_slice(b" total=");
    push_decimal(out, total);
    out.extend_from_slice(b" succeeded=");
    push_decimal(out, succeeded);
    out.extend_from_slice(b" failed=");
    push_decimal(out, total.saturating_sub(succeeded));
}

fn push_times(out: &mut Vec<u8>, elapsed_us: u64, cpu_us: u64, run_us: u64) {
    out.extend_from_slice(b" duration=");
    push_seconds(out, elapsed_us);
    out.extend_from_slice(b" process_time=");
    push_seconds(out, cpu_us);
    out.extend_from_slice(b" run_method_time=");
    push_seconds(out, run_us);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const THEN: u64 = 1_795_228_734_226_929;

    fn line(mini_batch: u64) -> MiniBatchLine<'static> {
        MiniBatchLine {
            mini_batch,
            attempt: 1,
            total: 10,
            succeeded: 9,
            started_us: THEN + mini_batch * 1000,
            elapsed_us: 822_071,
            cpu_us: 790_000,
            run_us: 810_000,
            error: None,
        }
    }

    #[test]
    fn a_line_tells_all_about_a_mini_batch_and_a_failure_is_written_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.txt");
        let mut log = ProcessLog::new(path.clone(), "gpu-01", 334, 1 << 20);
        log.event(THEN, Level::Info, "started with CUDA_VISIBLE_DEVICES=0");
        log.mini_batch(&line(16));
        let error = Some((ErrorKind::Timeout, "run() did not return within 90 s\n\x1b[0m\"really\""));
        log.mini_batch(&MiniBatchLine { succeeded: 0, error, ..line(17) });
        // Not dropped yet: the failure flushed.
        reads(
            &fs::read_to_string(&path).unwrap(),
            r#"
2026-11-21 02:38:54,226|INFO|334|started with CUDA_VISIBLE_DEVICES=0
2026-11-21 02:38:55,065|INFO|334|done mini_batch=16 attempt=1 total=10 succeeded=9 failed=1 start=2026-11-21T02:38:54.242929 duration=0.822071 process_time=0.790000 run_method_time=0.810000 host=gpu-01
2026-11-21 02:38:55,066|ERROR|334|failed mini_batch=17 attempt=1 total=10 succeeded=0 failed=10 start=2026-11-21T02:38:54.243929 duration=0.822071 process_time=0.790000 run_method_time=0.810000 host=gpu-01 kind=timeout message="run() did not return within 90 s\\n\\x1b[0m\"really\""
"#,
        );
    }

    /// Compares after the newline that lets a long text begin on its own line.
    fn reads(found: &str, expected: &str) {
        assert_eq!(found, expected.trim_start());
    }

    #[test]
    fn beyond_the_cap_there_is_a_summary_a_second_and_every_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.txt");
        let mut log = ProcessLog::new(path.clone(), "h", 1, 4096);
        for i in 0..3000 {
            log.mini_batch(&line(i));
            log.tick(THEN + i * 1000);
        }
        log.mini_batch(&MiniBatchLine { error: Some((ErrorKind::Exit, "gone")), ..line(3000) });
        drop(log);
        let text = fs::read_to_string(&path).unwrap();
        let complete = text.lines().filter(|l| l.contains("|done ")).count();
        let sums: Vec<&str> = text.lines().filter(|l| l.contains("|summary ")).collect();
        let summed: usize = sums
            .iter()
            .map(|l| l.split("mini_batches=").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(complete + summed, 3000, "every mini-batch is in a line or in a summary");
        assert!((4..=5).contains(&sums.len()), "{sums:?}");
        assert!(text.contains("|failed mini_batch=3000 "));
        reads(
            sums[1],
            "2026-11-21 02:38:56,823|INFO|1|summary mini_batches=1000 total=10000 succeeded=9000 failed=1000 \
             duration=822.071000 process_time=790.000000 run_method_time=810.000000 host=h",
        );
    }

    #[test]
    fn lines_wait_in_memory_for_a_second_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process000.txt");
        let mut log = ProcessLog::new(path.clone(), "h", 1, 1 << 20);
        log.tick(THEN);
        log.mini_batch(&line(0));
        assert!(!path.exists());
        log.tick(THEN + 1_000_000);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let mut log = ProcessLog::new("/dev/full".into(), "h", 1, 1 << 20);
        for i in 0..2000 {
            log.mini_batch(&line(i));
        }
        log.event(THEN, Level::Info, "still here");
        assert_eq!(log.file.lost(), 2001);
    }

    /// Not a test but the measurement behind the promise of under 200 ns:
    /// `cargo test --release -p fanfold-worker measure -- --ignored --nocapture`. CPU time, as others may use the machine.
    #[test]
    #[ignore = "prints a measurement"]
    fn measure_the_cost_of_a_line() {
        let cpu_us = || {
            let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).unwrap();
            let us = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
            (us(usage.user_time()), us(usage.system_time()))
        };
        let dir = tempfile::tempdir().unwrap();
        for round in 0..5 {
            for path in ["/dev/null".into(), dir.path().join(format!("{round}.txt"))] {
                let mut log = ProcessLog::new(path.clone(), "gpu-01", 334, super::super::FILE_CAP);
                let (lines, begun) = (300_000, cpu_us());
                for i in 0..lines {
                    log.mini_batch(&line(i));
                }
                drop(log);
                let ns = |end: u64, begin: u64| (end - begin) * 1000 / lines;
                let end = cpu_us();
                eprintln!("{} + {} ns a line to {}", ns(end.0, begun.0), ns(end.1, begun.1), path.display());
            }
        }
    }
}
