//! Disks that are full or lie.

use super::*;
use crate::aggregate::CommitError;

/// SQLite's own limit stands in for a full disk: it fails where the disk would.
#[test]
fn a_full_ledger_blocks_a_commit_and_loses_nothing() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([job.returned(0, 1)]));
    let before = aggregate.totals().clone();
    aggregate.ledger.limit_pages(Some(1));
    let mut long = error();
    long.traceback = "  File \"x\"\n".repeat(5000);
    let end = OutcomeEnd::Failed(Box::new(long));
    let group = results([(job.outcome(1, 1, end), String::new()), job.returned(2, 1)]);
    let node = NodeId("0".into());
    let parts = [Part::Results { node: &node, results: &group }];
    for _ in 0..3 {
        let error = aggregate.commit(&parts).unwrap_err();
        assert!(matches!(&error, CommitError::DiskFull { path, .. } if *path == job.dir.ledger()), "{error:?}");
        assert_eq!((aggregate.totals(), job.text().len()), (&before, 30), "the file is cut back");
    }
    job.assert_sound();
    aggregate.ledger.limit_pages(None);
    let done = aggregate.commit(&parts).unwrap();
    assert_eq!((done.mini_batches_succeeded, done.failures.len()), (1, 1));
    assert_eq!(aggregate.ledger().processes().unwrap().len(), 1);
    job.assert_sound();
}

/// Runs faults in a second program: the point and its error are set once for a whole program.
#[cfg(feature = "failpoints")]
mod injected {
    use super::*;
    use fanfold_shared::report::{ExitCode, Report};
    use std::process::Command;

    /// In the second program: what a coordinator does, trying again at once while the disk is full. Its exit code tells what came.
    #[test]
    fn a_job_on_a_bad_disk() {
        let Some(root) = std::env::var_os("FANFOLD_TEST_FAULTS") else {
            return;
        };
        let mut job = TestJob::new();
        job.dir = JobDir::new(PathBuf::from(root));
        job.output = Some(job.dir.default_output().join("out.txt"));
        let mut aggregate = job.open();
        let node = NodeId("0".into());
        let mut blocked = 0;
        for id in 0..9 {
            let group = results([job.returned(id, 1)]);
            let parts = [Part::Results { node: &node, results: &group }];
            loop {
                match aggregate.commit(&parts) {
                    Ok(done) => {
                        assert_eq!(done.mini_batches_succeeded + done.duplicates, 1);
                        break;
                    }
                    Err(error) if error.is_disk_full() => {
                        blocked += 1;
                        let report = verify(&job.dir).unwrap();
                        assert!(report.is_clean(), "{:?}", report.problems);
                    }
                    Err(error) => {
                        assert_eq!(error.exit_code(), ExitCode::Failed);
                        assert!(matches!(aggregate.commit(&parts), Err(CommitError::Stopped)));
                        std::process::exit(90);
                    }
                }
            }
        }
        aggregate.finish().unwrap();
        std::process::exit(110 + blocked);
    }

    fn run(job: &TestJob, fault: &str) -> Option<i32> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "aggregate::tests::faults::injected::a_job_on_a_bad_disk"]);
        command.env("FANFOLD_TEST_FAULTS", job.dir.root()).env("FANFOLD_FAILPOINT", fault);
        let output = command.output().unwrap();
        let code = output.status.code();
        if !matches!(code, Some(90 | 110..)) {
            panic!("{fault}: {}", String::from_utf8_lossy(&output.stdout));
        }
        code
    }

    fn assert_complete(job: &TestJob) {
        job.assert_sound();
        let expected: String = (0..40).map(|item| format!("row {item}\n")).collect();
        assert_eq!(fs::read_to_string(job.target()).unwrap(), expected);
    }

    #[test]
    fn a_full_disk_blocks_until_there_is_room() {
        for point in ["output_write", "output_sync", "ledger_commit"] {
            for errno in [libc::ENOSPC, libc::EDQUOT] {
                let job = TestJob::new();
                // The ledger's transactions before the first commit are not commits of results.
                let nth = if point == "ledger_commit" { 4 } else { 3 };
                assert_eq!(run(&job, &format!("{point}:{nth}:{errno}:4")), Some(114), "{point}");
                assert_complete(&job);
            }
        }
    }

    #[test]
    fn a_failed_sync_is_answered_by_writing_again_and_a_second_one_by_ending() {
        let job = TestJob::new();
        assert_eq!(run(&job, &format!("output_sync:3:{}:1", libc::EIO)), Some(110));
        assert_complete(&job);

        let job = TestJob::new();
        assert_eq!(run(&job, &format!("output_sync:3:{}:2", libc::EIO)), Some(90));
        job.assert_sound();
        assert_eq!(run(&job, "none"), Some(110), "the next start goes on");
        assert_complete(&job);
    }

    #[test]
    fn a_ledger_that_fails_otherwise_ends_the_program_and_the_next_start_goes_on() {
        let job = TestJob::new();
        assert_eq!(run(&job, &format!("ledger_commit:5:{}:1", libc::EIO)), Some(90));
        job.assert_sound();
        assert_eq!(run(&job, "none"), Some(110));
        assert_complete(&job);
    }
}
