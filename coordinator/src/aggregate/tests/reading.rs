//! Readers beside a writer, and after one that died.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ledger::{LedgerError, LedgerReader, MiniBatchRow};

fn succeeded(reader: &LedgerReader) -> u64 {
    reader.totals().unwrap().mini_batches_succeeded
}

#[test]
fn a_reader_sees_each_commit_of_a_live_writer() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let reader = LedgerReader::open(&job.dir).unwrap();
    for id in 0..9 {
        assert_eq!(succeeded(&reader), id);
        commit(&mut aggregate, &results([job.returned(id, 1)]));
    }
    assert_eq!(succeeded(&reader), 9);
    drop(aggregate);
    assert_eq!(succeeded(&reader), 9, "the writer is gone");
    assert_eq!(succeeded(&LedgerReader::open(&job.dir).unwrap()), 9);
}

#[test]
fn a_reader_sees_what_a_dead_writer_left_in_the_log() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([job.returned(0, 1)]));
    commit(&mut aggregate, &results([job.returned(1, 1)]));
    // What lies on disk at a sudden death, with the shared memory and without it.
    for with_shared_memory in [true, false] {
        let dead = TestJob::new();
        fs::create_dir_all(dead.dir.internal()).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let file = |job: &TestJob| PathBuf::from(format!("{}{suffix}", job.dir.ledger().display()));
            if suffix != "-shm" || with_shared_memory {
                fs::copy(file(&job), file(&dead)).unwrap();
            }
        }
        assert!(fs::metadata(format!("{}-wal", dead.dir.ledger().display())).unwrap().len() > 0);
        assert_eq!(succeeded(&LedgerReader::open(&dead.dir).unwrap()), 2);
    }
}

/// (Root may write anywhere, and takes the ordinary way.)
#[test]
fn a_reader_that_may_not_write_the_directory_reads_a_ledger_at_rest() {
    let job = TestJob::new();
    commit(&mut job.open(), &results([job.returned(0, 1)]));
    let mode = |mode| fs::set_permissions(job.dir.internal(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let read = LedgerReader::open(&job.dir).map(|reader| succeeded(&reader));
    mode(0o755);
    assert_eq!(read.unwrap(), 1);
}

#[test]
fn settled_mini_batches_are_listed_with_what_became_of_them() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let node = NodeId("n7".into());
    let group = Results { process: ProcessNumber(3), ..results([job.returned(6, 2), job.returned(1, 1)]) };
    aggregate.commit(&[Part::Results { node: &node, results: &group }]).unwrap();
    let mut rows = Vec::new();
    let stopped = aggregate.ledger().for_each_mini_batch(|row| {
        rows.push(row);
        if rows.len() < 2 { Ok(()) } else { Err(LedgerError::Absent { job: PathBuf::new() }) }
    });
    assert!(matches!(stopped, Err(LedgerError::Absent { .. })), "the caller may stop");
    let expected = MiniBatchRow {
        mini_batch: 6,
        items: 28..33,
        attempt: 2,
        node,
        process: Some(ProcessNumber(3)),
        started_us: 1_790_000_000_000_006,
        elapsed_us: 30,
        run_us: 20,
        cpu_us: 10,
        returned: 5,
        failed_items: 0,
        unreadable: 0,
        rows_len: 35,
        error: None,
    };
    assert_eq!((rows.len(), &rows[0], rows[1].mini_batch), (2, &expected, 1));
}
