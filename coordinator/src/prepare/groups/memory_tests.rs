//! What gathering takes of memory where records are long: measured in a process of its own.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use fanfold_shared::job::{Input, InputType, JobSpec, Partition};

use crate::prepare::listing::list_in_runs;
use crate::prepare::splitter::Grace;
use crate::prepare::tests::spec;

/// Where the child finds its folder.
const DIR: &str = "FANFOLD_TEST_GATHER_IN";

/// Rows, of a megabyte each: far more than the memory that they may take.
const ROWS: usize = 160;
const MIB: usize = 1 << 20;

/// What the system says of this process, bytes.
fn status(what: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
#[ignore = "run by the test below, in a process whose memory is measured"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let spec = JobSpec {
        inputs: vec![Input { name: "input0".into(), path: dir.join("t.csv").to_str().unwrap().into(), dataset: None }],
        input_type: InputType::Csv,
        partition: Some(Partition { format: None, keys: vec!["k".into()] }),
        ..spec()
    };
    let before = status("VmRSS");
    // Each row is a run: where as many are merged at once as there may be descriptors, each would have a row in memory.
    let listed = list_in_runs(&spec, &dir.join("items"), &[], Grace::Endless, &|| Ok(()), 1000).unwrap();
    assert_eq!((listed.items.split().items(), listed.items.split().mini_batches()), (ROWS as u64, 23));
    println!("took {} bytes", status("VmHWM") - before);
}

#[test]
fn rows_of_a_megabyte_are_gathered_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = BufWriter::new(File::create(dir.path().join("t.csv")).unwrap());
    let long = vec![b'x'; MIB];
    file.write_all(b"k,v\n").unwrap();
    for row in 0..ROWS {
        write!(file, "{},", row % 23).unwrap();
        file.write_all(&long).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "prepare::groups::memory_tests::child", "--include-ignored", "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let took = said.split("took ").nth(1).and_then(|took| took.split(' ').next());
    let took: usize = took.and_then(|took| took.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    // A merge may take 16 MiB here; then there are the row at hand, in some copies, and what is read ahead.
    assert!(took < 48 * MIB, "it took {} MiB", took / MIB);
}
