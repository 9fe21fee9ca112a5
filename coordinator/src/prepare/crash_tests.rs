//! Preparing, killed at every point: the next start ends with the same list and the same snapshot.
//! `cargo test -p fanfold --features failpoints crash_tests`

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use fanfold_shared::ids::ScriptNumber;
use fanfold_shared::items::{ItemReader, is_listed};
use fanfold_shared::job::{Input, InputType, JobSpec, Partition};
use fanfold_shared::layout::JobDir;

use super::listing::list_in_runs;
use super::snapshot::{self, Snapshot};
use super::splitter::Grace;
use super::tests::spec;

/// Where a child finds its folder.
const DIR: &str = "FANFOLD_TEST_PREPARE_IN";

/// What a start of a job does, with runs so short that they are spilled. Of tables it gathers rows.
fn prepare(dir: &Path) -> (Vec<u8>, Snapshot) {
    let job = JobDir::new(dir.join("job"));
    let input = Input { name: "input0".into(), path: dir.join("data").to_str().unwrap().into(), dataset: None };
    let mut spec =
        JobSpec { inputs: vec![input], source_directory: dir.join("src"), whole_source_directory: true, ..spec() };
    if dir.join("data/0.csv").exists() {
        spec.input_type = InputType::Csv;
        spec.partition = Some(Partition { format: None, keys: vec!["k".into()] });
    }
    let items = match is_listed(&job.items()) {
        true => ItemReader::open(&job.items()).unwrap(),
        false => list_in_runs(&spec, &job.items(), &[], Grace::Endless, &|| Ok(()), 1000).unwrap().items,
    };
    let snapshot = snapshot::take(&spec, &job, ScriptNumber::FIRST, &[]).unwrap();
    let mut listed = items.read(0..items.entries()).unwrap();
    for gathered in ["groups", "origins", "slices"] {
        listed.extend(fs::read(job.items().join(gathered)).unwrap_or_default());
    }
    (listed, snapshot)
}

#[test]
#[ignore = "run by the test below, in a process that may be killed"]
fn child() {
    if let Some(dir) = std::env::var_os(DIR) {
        prepare(Path::new(&dir));
    }
}

fn run_child(dir: &Path, failpoint: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "prepare::crash_tests::child", "--include-ignored", "--quiet"])
        .env(DIR, dir)
        .env("FANFOLD_FAILPOINT", failpoint)
        .output()
        .unwrap()
        .status
}

#[test]
fn killed_at_any_point_the_next_start_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..100 {
        fs::create_dir_all(dir.path().join(format!("data/{}", i % 3))).unwrap();
        fs::write(dir.path().join(format!("data/{}/file {i}", i % 3)), "").unwrap();
    }
    let points = [
        "items_run_spilled:1",
        "items_run_spilled:2",
        "items_block_written:1",
        "items_data_synced:1",
        "items_before_manifest:1",
        "items_after_manifest:1",
        "snapshot_copied:1",
        "snapshot_synced:1",
        "snapshot_renamed:1",
    ];
    killed_at(dir.path(), &points, &["data", "index", "items", "manifest.json", "snapshot"]);
}

#[test]
fn killed_while_rows_are_gathered_the_next_start_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    for file in 0..3 {
        let rows: String = (0..400).map(|row| format!("{},\"row\n{row}\"\n", row * 7 % 23)).collect();
        fs::write(dir.path().join(format!("data/{file}.csv")), format!("k,v\n{rows}")).unwrap();
    }
    let points = [
        "items_run_spilled:1",
        "items_run_spilled:5",
        "items_data_synced:1",
        "items_groups_synced:1",
        "items_slices_synced:1",
        "items_before_manifest:1",
        "items_after_manifest:1",
    ];
    let left = ["data", "fingerprints", "groups", "index", "items", "manifest.json", "origins", "slices", "snapshot"];
    killed_at(dir.path(), &points, &left);
}

/// Kills the preparing of a job at each point; `expected_left` is what lies in its directories in the end.
fn killed_at(dir: &Path, points: &[&str], expected_left: &[&str]) {
    fs::create_dir(dir.join("src")).unwrap();
    fs::write(dir.join("src/score.py"), "script").unwrap();
    let expected = prepare(dir);
    for point in points {
        fs::remove_dir_all(dir.join("job")).unwrap();
        assert_eq!(run_child(dir, point).signal(), Some(9), "{point} was not reached");
        // Killed once more at another place, then left alone.
        run_child(dir, "items_before_manifest:1");
        assert_eq!(prepare(dir), expected, "after {point}");
        let mut left: Vec<_> = fs::read_dir(dir.join("job/.fanfold")).unwrap().flatten().collect();
        left.extend(fs::read_dir(dir.join("job/.fanfold/items")).unwrap().flatten());
        let mut left: Vec<_> = left.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, expected_left, "after {point}");
    }
}
