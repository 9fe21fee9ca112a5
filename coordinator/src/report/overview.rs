//! `logs/job_progress_overview.<yyyymmddhh>.txt`: how the job came along, for reading and for `tail -F`.
//!
//! A new file each (UTC) day, and when the job is continued in another hour; `job_progress_overview.txt` is a symbolic link to
//! the newest, switched by a rename so that it always leads somewhere (a hard link where there are no symbolic ones).

use std::fs;
use std::path::Path;

use fanfold_shared::clock::{Stamper, duration, hour};
use fanfold_shared::layout::Logs;
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, harmless, rate, size};
use fanfold_shared::uri::Uri;
use fanfold_worker::logs::{FILE_CAP, LogFile};

use super::{JobFacts, Pace, Snapshot};

/// Between two lines about the progress.
const EVERY_US: u64 = 10_000_000;

/// See the module documentation. Write errors are ignored.
#[derive(Debug)]
pub struct Overview {
    logs: Logs,
    file: Option<LogFile>,
    /// `yyyymmddhh` of the file in use.
    hour: String,
    stamper: Stamper,
    progress_us: u64,
    last: Option<Seen>,
    scheduling_finished: bool,
}

/// What the last line about each of these said.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    state: JobState,
    blocked: Option<String>,
    nodes: u32,
}

impl Overview {
    /// The overview in `logs`; touches nothing yet.
    pub fn new(logs: Logs) -> Overview {
        Overview {
            logs,
            file: None,
            hour: String::new(),
            stamper: Stamper::default(),
            progress_us: 0,
            last: None,
            scheduling_finished: false,
        }
    }

    /// Writes one line `2026-11-21T02:38:55.226929 text`; it is on its way to the disk when this returns.
    pub fn line(&mut self, now_us: u64, text: &str) {
        self.rotate(now_us);
        let Self { file, stamper, .. } = self;
        let file = file.as_mut().expect("rotate opened one");
        let mut lines = harmless(text);
        let lines = lines.to_mut();
        file.line(|out| {
            for (i, line) in lines.trim_end().split('\n').enumerate() {
                if i > 0 {
                    out.push(b'\n');
                }
                stamper.write_iso(out, now_us);
                out.push(b' ');
                out.extend_from_slice(line.as_bytes());
            }
        });
        file.flush();
    }

    /// Writes what has changed, and the progress if the last line about it is about 10 s old. To be called about once a second.
    pub fn observe(&mut self, facts: &JobFacts, snapshot: &Snapshot, pace: &Pace) {
        let now = snapshot.now_us;
        let seen = Seen { state: snapshot.state, blocked: snapshot.blocked.clone(), nodes: snapshot.joined() };
        if self.last.as_ref() != Some(&seen) {
            let last = self.last.replace(seen);
            self.changes(last, snapshot);
        }
        let totals = &snapshot.totals;
        if !self.scheduling_finished
            && snapshot.splitting.is_none()
            && totals.mini_batches > 0
            && snapshot.scheduled >= totals.mini_batches
        {
            self.scheduling_finished = true;
            self.line(
                now,
                &format!(
                    "Scheduling finished. Scheduled {} mini batches in {:.0} seconds. There are {} tasks with {} items.",
                    totals.mini_batches,
                    now.saturating_sub(facts.started_us) as f64 / 1e6,
                    totals.mini_batches,
                    totals.items
                ),
            );
        }
        if snapshot.state == JobState::Running && now.abs_diff(self.progress_us) >= EVERY_US {
            self.progress_us = now;
            self.line(now, &progress(snapshot, pace));
        }
    }

    /// Writes the result, with what to look at if it is a failure.
    pub fn finish(&mut self, facts: &JobFacts, snapshot: &Snapshot) {
        let totals = &snapshot.totals;
        let mut text = format!("The job is {}", snapshot.state);
        if let Some(cause) = &snapshot.cause {
            text += &format!(": {cause}");
        }
        text += &format!(
            "\nMini batches: {} planned, {} succeeded, {} failed, {} remaining. Items: {} succeeded, {} failed.",
            totals.mini_batches,
            totals.mini_batches_succeeded,
            totals.mini_batches_failed,
            totals.mini_batches_remaining(),
            totals.items_succeeded,
            totals.items_failed
        );
        if let (JobState::Completed, Some(output)) = (snapshot.state, &facts.output_file) {
            let output = facts.output_uri.as_ref().map_or(output.display().to_string(), Uri::to_string);
            text += &format!("\nOutput: {output} ({})", size(totals.committed_len));
        }
        if snapshot.state == JobState::Failed || snapshot.distinct_errors > 0 {
            let logs = self.logs.root().display();
            text += &format!("\nWhere to look: {logs}/job_result.txt, then {logs}/user/error.txt");
        }
        self.line(snapshot.now_us, &text);
    }

    fn changes(&mut self, last: Option<Seen>, snapshot: &Snapshot) {
        let now = snapshot.now_us;
        if last.as_ref().is_none_or(|last| last.state != snapshot.state) && !snapshot.state.is_final() {
            let cause = snapshot.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            self.line(now, &format!("The job is {}{cause}.", snapshot.state));
        }
        if last.as_ref().map_or(0, |last| last.nodes) != snapshot.joined() {
            self.line(now, &format!("{} taking part.", counted(snapshot.joined().into(), "node")));
        }
        let blocked = last.and_then(|last| last.blocked);
        match (&blocked, &snapshot.blocked) {
            (_, Some(reason)) if blocked.as_ref() != Some(reason) => self.line(now, &format!("Blocked: {reason}.")),
            (Some(_), None) => self.line(now, "No longer blocked."),
            _ => {}
        }
    }

    fn rotate(&mut self, now_us: u64) {
        let hour = hour(now_us);
        // The same day: the first eight digits.
        if self.file.is_some() && self.hour[..8] == hour[..8] {
            return;
        }
        let path = self.logs.overview(Some(&hour));
        self.file = Some(LogFile::new(&path, FILE_CAP));
        self.hour = hour;
        // The file must be there for the link to lead somewhere, and `LogFile` makes it with the first line only.
        let _ = fs::create_dir_all(self.logs.root());
        let _ = fs::OpenOptions::new().create(true).append(true).open(&path);
        switch(&self.logs.overview(None), &path);
    }
}

/// Makes `link` lead to `newest`, its neighbour, in one step.
fn switch(link: &Path, newest: &Path) {
    let tmp = super::replace::beside(link);
    let _ = fs::remove_file(&tmp);
    let name = newest.file_name().expect("a file of the log tree");
    let made = std::os::unix::fs::symlink(name, &tmp).or_else(|_| fs::hard_link(newest, &tmp));
    if made.and_then(|()| fs::rename(&tmp, link)).is_err() {
        let _ = fs::remove_file(&tmp);
    }
}

fn progress(snapshot: &Snapshot, pace: &Pace) -> String {
    let totals = &snapshot.totals;
    let settled = totals.mini_batches_settled();
    if settled == 0 {
        let (all, ready) = (snapshot.processes.len(), snapshot.ready());
        let why = match (snapshot.joined(), all, ready) {
            (0, ..) => "No node has joined.".to_string(),
            (_, 0, _) => "No process runs.".to_string(),
            (_, all, 0) => format!("{} starting.", counted(all as u64, "process")),
            (_, all, ready) => format!("{ready} of {} ready.", counted(all as u64, "process")),
        };
        return format!("No task has been processed yet. {why}");
    }
    let percent = settled as f64 * 100.0 / totals.mini_batches.max(1) as f64;
    let eta = pace.eta_seconds.map_or("unknown".into(), duration);
    format!(
        "Processed {settled} of {} mini batches ({percent:.1} %), {} remaining; {} succeeded, {} failed. \
         Items: {} succeeded, {} failed, {} remaining. \
         {} mini batches/s, {} items/s, time to go: {eta}. Output: {} written.",
        totals.mini_batches,
        totals.mini_batches_remaining(),
        totals.mini_batches_succeeded,
        totals.mini_batches_failed,
        totals.items_succeeded,
        totals.items_failed,
        totals.items.saturating_sub(totals.items_settled()),
        rate(pace.mini_batches_per_second),
        rate(pace.items_per_second),
        size(totals.committed_len),
    )
}

#[cfg(test)]
mod tests {
    use fanfold_shared::layout::JobDir;

    use super::super::snapshot::fixtures::{THEN, facts, running};
    use super::*;
    use crate::ledger::Totals;

    #[test]
    fn the_overview_of_a_job_reads_like_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, logs) = (facts(Path::new("/job")), JobDir::new(dir.path()).logs());
        let mut overview = Overview::new(logs.clone());
        let mut snapshot = Snapshot {
            now_us: THEN + 1_000_000,
            totals: Totals { mini_batches: 276, items: 551, ..Totals::default() },
            ..running()
        };
        snapshot.scheduled = 100;
        overview.observe(&facts, &snapshot, &Pace::default());
        for second in 2..=32 {
            snapshot = Snapshot { now_us: THEN + second * 1_000_000, ..snapshot };
            if second == 22 {
                snapshot.scheduled = 276;
                snapshot.totals = running().totals;
            }
            snapshot.blocked = (second == 25).then(|| "disk full".into());
            let pace = Pace { items_per_second: 24.2, mini_batches_per_second: 12.1, eta_seconds: Some(13.0) };
            overview.observe(&facts, &snapshot, &pace);
        }
        snapshot.state = JobState::Failed;
        snapshot.cause = Some("8 items failed, error_threshold is 5".into());
        overview.observe(&facts, &snapshot, &Pace::default());
        overview.finish(&facts, &snapshot);
        let text = fs::read_to_string(logs.overview(Some("2026112102"))).unwrap();
        let text = text.replace(dir.path().to_str().unwrap(), "JOB");
        insta::assert_snapshot!(text, @r#"
        2026-11-21T02:38:56.226929 The job is Running.
        2026-11-21T02:38:56.226929 1 node taking part.
        2026-11-21T02:38:56.226929 No task has been processed yet. 1 of 2 processes ready.
        2026-11-21T02:39:06.226929 No task has been processed yet. 1 of 2 processes ready.
        2026-11-21T02:39:16.226929 No task has been processed yet. 1 of 2 processes ready.
        2026-11-21T02:39:17.226929 Scheduling finished. Scheduled 276 mini batches in 22 seconds. There are 276 tasks with 551 items.
        2026-11-21T02:39:20.226929 Blocked: disk full.
        2026-11-21T02:39:21.226929 No longer blocked.
        2026-11-21T02:39:26.226929 Processed 120 of 276 mini batches (43.5 %), 156 remaining; 119 succeeded, 1 failed. Items: 237 succeeded, 3 failed, 311 remaining. 12 mini batches/s, 24 items/s, time to go: 13 s. Output: 1.2 MiB written.
        2026-11-21T02:39:27.226929 The job is Failed: 8 items failed, error_threshold is 5
        2026-11-21T02:39:27.226929 Mini batches: 276 planned, 119 succeeded, 1 failed, 156 remaining. Items: 237 succeeded, 3 failed.
        2026-11-21T02:39:27.226929 Where to look: JOB/logs/job_result.txt, then JOB/logs/user/error.txt
        "#);
        assert_eq!(
            fs::read_to_string(logs.overview(None)).unwrap().len(),
            fs::read(logs.overview(Some("2026112102"))).unwrap().len()
        );
    }

    #[test]
    fn a_new_day_gets_a_new_file_and_the_short_name_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let logs = JobDir::new(dir.path()).logs();
        let mut overview = Overview::new(logs.clone());
        let hours = 3_600_000_000;
        for (us, text) in [(THEN, "first"), (THEN + 5 * hours, "same day"), (THEN + 24 * hours, "next day")] {
            overview.line(us, text);
        }
        let read = |hour| fs::read_to_string(logs.overview(hour)).unwrap();
        assert_eq!(read(Some("2026112102")).lines().count(), 2);
        assert_eq!(read(Some("2026112202")), "2026-11-22T02:38:55.226929 next day\n");
        assert_eq!(read(None), read(Some("2026112202")));
        assert_eq!(fs::read_link(logs.overview(None)).unwrap(), Path::new("job_progress_overview.2026112202.txt"));
        // Another coordinator goes on with the file of its hour.
        Overview::new(logs.clone()).line(THEN + 24 * hours, "continued");
        assert_eq!(read(None).lines().count(), 2);
    }

    #[test]
    fn an_overview_that_cannot_be_written_stops_nobody() {
        Overview::new(JobDir::new("/proc/nowhere").logs()).line(THEN, "lost");
    }
}
