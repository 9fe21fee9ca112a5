//! The files of `logs/perf/<node>`: three tables, and a folder of lists for each hour.

use std::fs;
use std::path::PathBuf;

use fanfold_shared::clock::{self, Stamper};
use fanfold_shared::ids::NodeId;
use fanfold_shared::layout::Logs;

use super::rows;
use super::sample::Sample;
use crate::logs::{FILE_CAP, LogFile};

/// Folders of lists that are kept.
const HOURS: usize = 24;
const MINUTE_US: u64 = 60_000_000;

pub(super) struct Books {
    host: LogFile,
    disks: LogFile,
    processes: LogFile,
    logs: Logs,
    node: NodeId,
    stamper: Stamper,
    before: Option<Sample>,
    /// Minutes since the epoch.
    listed: Option<u64>,
}

impl Books {
    /// Touches nothing yet.
    pub fn new(logs: &Logs, node: &NodeId) -> Books {
        let log = |path: PathBuf| LogFile::new(path, FILE_CAP);
        Books {
            host: log(logs.node_resources(node)),
            disks: log(logs.node_disks(node)),
            processes: log(logs.process_resources(node)),
            logs: logs.clone(),
            node: node.clone(),
            stamper: Stamper::default(),
            before: None,
            listed: None,
        }
    }

    /// Lists are named by the minute, so there is one a minute at most.
    pub fn wants_listing(&self, now_us: u64) -> bool {
        self.listed != Some(now_us / MINUTE_US)
    }

    /// Writes down what a look saw.
    pub fn write(&mut self, sample: Sample) {
        let Self { host, disks, processes, stamper, before, .. } = self;
        let before = before.as_ref();
        table(host, rows::HOST, |file| file.line(|out| rows::host(out, stamper, &sample, before)));
        table(disks, rows::DISKS, |file| {
            for disk in &sample.disks {
                file.line(|out| rows::disk(out, stamper, sample.at_us, disk));
            }
        });
        table(processes, rows::PROCESSES, |file| {
            for own in &sample.own {
                file.line(|out| rows::process(out, stamper, &sample, before, own));
            }
        });
        self.list(&sample);
        self.before = Some(Sample { all: None, ..sample });
    }

    fn list(&mut self, sample: &Sample) {
        let Some(all) = &sample.all else { return };
        let path = self.logs.process_list(&self.node, sample.at_us);
        self.listed = Some(sample.at_us / MINUTE_US);
        let is_new_hour = path.parent().is_some_and(|hour| !hour.exists());
        let mut file = LogFile::new(path, FILE_CAP);
        // A job that goes on within the minute adds to what is there.
        file.line(|out| {
            self.stamper.write_iso(out, sample.at_us);
            out.extend_from_slice(b"Z\n");
            out.extend_from_slice(rows::LIST.as_bytes());
        });
        for one in all {
            file.line(|out| rows::listed(out, one));
        }
        drop(file);
        if is_new_hour {
            self.forget(&clock::hour(sample.at_us));
        }
    }

    /// Removes the oldest folders beyond those that are kept; never that of `hour`, whatever a clock that jumped says of the others.
    fn forget(&self, hour: &str) {
        let entries = fs::read_dir(self.logs.process_lists(&self.node)).into_iter().flatten().flatten();
        let is_hour = |name: &String| name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
        let mut hours: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_hour).collect();
        hours.sort();
        for old in &hours[..hours.len().saturating_sub(HOURS)] {
            if old != hour {
                // What can't be removed now is found again in an hour.
                let _ = fs::remove_dir_all(self.logs.process_lists(&self.node).join(old));
            }
        }
    }
}

/// Lets `rows` write into a table, which begins with its heading.
fn table(file: &mut LogFile, heading: &str, rows: impl FnOnce(&mut LogFile)) {
    if file.is_empty() {
        file.line(|out| out.extend_from_slice(heading.as_bytes()));
    }
    rows(file);
    file.flush();
}

#[cfg(test)]
mod tests {
    use fanfold_shared::layout::JobDir;

    use super::super::processes::Listed;
    use super::*;

    const THEN: u64 = 1_795_228_735_226_929;
    const HOUR_US: u64 = 60 * MINUTE_US;

    fn listing(at_us: u64) -> Sample {
        let one = Listed { pid: 1, parent: 0, user: Some(0), cpu_ns: 0, rss: 0, command: "init".into() };
        Sample { at_us, all: Some(vec![one]), ..Sample::default() }
    }

    fn names(dir: PathBuf) -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn tables_have_one_heading_and_are_continued() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, node) = (JobDir::new(dir.path()).logs(), NodeId("0".into()));
        for _ in 0..2 {
            let mut books = Books::new(&logs, &node);
            assert!(books.wants_listing(THEN));
            books.write(listing(THEN));
            assert!(!books.wants_listing(THEN) && books.wants_listing(THEN + MINUTE_US));
            books.write(Sample { at_us: THEN, ..Sample::default() });
        }
        let text = fs::read_to_string(dir.path().join("logs/perf/0/node_resource_usage.csv")).unwrap();
        assert_eq!((text.matches("Utc Time").count(), text.lines().count()), (1, 5), "{text}");
        for (name, heading) in [("node_disk_usage", rows::DISKS), ("processes_resource_usage", rows::PROCESSES)] {
            let text = fs::read_to_string(dir.path().join(format!("logs/perf/0/{name}.csv"))).unwrap();
            assert_eq!(text, format!("{heading}\n"));
        }
        let list = fs::read_to_string(dir.path().join("logs/perf/0/os/2026112102/processes_38")).unwrap();
        let once = format!(
            "2026-11-21T02:38:55.226929Z\n{}\n      1       0       0     00:00:00           0 init\n",
            rows::LIST
        );
        assert_eq!(list, once.repeat(2));
    }

    #[test]
    fn the_lists_of_a_day_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, node) = (JobDir::new(dir.path()).logs(), NodeId("0".into()));
        let mut books = Books::new(&logs, &node);
        let os = logs.process_lists(&node);
        fs::create_dir_all(os.join("notes")).unwrap();
        for hour in 0..30 {
            books.write(listing(THEN + hour * HOUR_US));
        }
        let kept = names(os.clone());
        assert_eq!((kept.len(), kept[0].as_str(), kept[24].as_str()), (25, "2026112108", "notes"));
        // A clock that was set back.
        books.write(listing(THEN));
        assert!(names(os.join("2026112102")).contains(&"processes_38".into()));
    }

    #[test]
    fn a_full_disk_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, node) = (JobDir::new(dir.path()).logs(), NodeId("0".into()));
        fs::create_dir_all(dir.path().join("logs/perf/0")).unwrap();
        let path = logs.node_resources(&node);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        fs::write(logs.process_lists(&node), "not a folder").unwrap();
        let mut books = Books::new(&logs, &node);
        books.write(listing(THEN));
        fs::remove_file(&path).unwrap();
        books.write(listing(THEN));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("[fanfold: 2 lines could not be written here") && text.contains(rows::HOST), "{text}");
    }
}
