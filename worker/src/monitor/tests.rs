use std::fs;
use std::time::Instant;

use fanfold_shared::layout::JobDir;

use super::*;

fn watch(dir: &std::path::Path, interval: Duration) -> Watch {
    Watch {
        interval,
        logs: JobDir::new(dir).logs(),
        node: NodeId("0".into()),
        disks: vec![dir.to_path_buf()],
        gpus: false,
        running: Arc::default(),
    }
}

fn rows(dir: &std::path::Path) -> usize {
    let path = dir.join("logs/perf/0/node_resource_usage.csv");
    fs::read_to_string(path).map_or(0, |text| text.lines().count().saturating_sub(1))
}

fn wait_for_rows(dir: &std::path::Path, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while rows(dir) < count {
        assert!(Instant::now() < deadline, "{} rows of {count}", rows(dir));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_looks_at_once_when_asked_and_every_interval() {
    let dir = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(watch(dir.path(), Duration::from_secs(3600))).unwrap();
    wait_for_rows(dir.path(), 1);
    monitor.look();
    wait_for_rows(dir.path(), 2);
    assert!(monitor.end(Duration::from_secs(60)));
    assert_eq!(rows(dir.path()), 2);

    let dir = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(watch(dir.path(), Duration::from_millis(1))).unwrap();
    wait_for_rows(dir.path(), 3);
    assert!(monitor.end(Duration::from_secs(60)));
}

#[test]
fn a_look_that_was_asked_for_is_not_lost_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let monitor = Monitor::start(watch(dir.path(), Duration::from_secs(3600))).unwrap();
    wait_for_rows(dir.path(), 1);
    monitor.look();
    assert!(monitor.end(Duration::from_secs(60)));
    assert_eq!(rows(dir.path()), 2);
}
