//! What is refused, and that nothing is changed by refusing.

use std::os::unix::fs::FileExt;

use super::*;
use crate::aggregate::CommitError;
use crate::ledger::{LedgerError, LedgerReader};
use fanfold_shared::report::{ExitCode, Report};
use fanfold_shared::split::Cut;
use fanfold_shared::state::JobState;

fn refusal(job: &TestJob) -> OpenError {
    let error = job.try_open().map(|_| ()).expect_err("it must be refused");
    assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

/// A job with two commits, at rest.
fn begun() -> TestJob {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([job.returned(0, 1)]));
    commit(&mut aggregate, &results([job.returned(1, 1)]));
    job
}

#[test]
fn a_shortened_output_is_refused_with_both_lengths() {
    let job = begun();
    fs::write(job.partial(), "row 0\n").unwrap();
    let error = refusal(&job).to_string();
    assert!(error.ends_with("has 6 bytes, but the ledger proves 60"), "{error}");
    assert_eq!(job.text(), "row 0\n");
    fs::remove_file(job.partial()).unwrap();
    assert!(refusal(&job).to_string().ends_with("has 0 bytes, but the ledger proves 60"));
}

#[test]
fn a_changed_output_is_refused_with_its_offset() {
    let job = begun();
    fs::OpenOptions::new().write(true).open(job.partial()).unwrap().write_at(b"X", 33).unwrap();
    let error = refusal(&job).to_string();
    assert!(error.contains("was changed between bytes 30 and 60"), "{error}");
}

#[test]
fn a_longer_output_is_cut_back() {
    let job = begun();
    fs::write(job.partial(), job.text() + "torn ro").unwrap();
    assert_eq!(job.try_open().unwrap().1.cut, 7);
    assert_eq!(job.text().len(), 60);
    assert_eq!(job.try_open().unwrap().1.cut, 0);
}

#[test]
fn a_foreign_output_is_never_touched() {
    let job = TestJob::new();
    fs::create_dir_all(job.dir.default_output()).unwrap();
    for path in [job.target().to_path_buf(), job.partial()] {
        fs::write(&path, "somebody's\n").unwrap();
        let error = refusal(&job).to_string();
        assert_eq!(error, format!("output `{}` exists already and is not this job's", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's\n");
        fs::remove_file(&path).unwrap();
    }
    job.open();
}

#[test]
fn an_output_that_appears_while_the_job_runs_is_not_overwritten() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((0..9).map(|id| job.returned(id, 1))));
    fs::write(job.target(), "somebody's\n").unwrap();
    let error = aggregate.finish().unwrap_err();
    assert!(matches!(error, CommitError::OutputExists { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Usage);
    drop(aggregate);
    refusal(&job);
    assert_eq!(fs::read_to_string(job.target()).unwrap(), "somebody's\n");
    fs::remove_file(job.target()).unwrap();
    job.open().finish().unwrap();
    assert!(fs::read_to_string(job.target()).unwrap().contains("row 39\n"));
}

#[test]
fn an_output_that_another_job_writes_is_refused() {
    let job = TestJob::new();
    let _busy = job.open();
    let mut other = TestJob::new();
    other.output = job.output.clone();
    let error = refusal(&other).to_string();
    assert!(error.ends_with("is being written by another program"), "{error}");
}

#[test]
fn an_output_moved_by_configuration_is_refused() {
    let mut job = begun();
    let recorded = job.target().to_path_buf();
    job.output = Some(job.dir.root().join("elsewhere.txt"));
    let error = refusal(&job);
    assert!(error.to_string().starts_with(&format!("the output of this job is `{}`", recorded.display())), "{error}");
    job.output = None;
    refusal(&job);
}

#[test]
fn an_unfinished_job_is_not_finished() {
    let job = begun();
    let mut aggregate = job.open();
    assert!(matches!(aggregate.finish(), Err(CommitError::Unsettled { remaining: 7 })));
    assert!(matches!(aggregate.set_state(JobState::Completed, None), Err(CommitError::Unsettled { remaining: 7 })));
    assert_eq!(aggregate.state(), JobState::Preparing);
    // Not even a file under the final name makes it so.
    aggregate.set_state(JobState::Finalizing, None).unwrap();
    drop(aggregate);
    fs::rename(job.partial(), job.target()).unwrap();
    assert!(matches!(refusal(&job), OpenError::OutputExists { .. }));
}

#[test]
fn another_jobs_ledger_is_refused() {
    let mut job = begun();
    job.fingerprint = "f2".into();
    let error = refusal(&job).to_string();
    assert!(error.ends_with("belongs to another job: its fingerprint is `f1`, this job's is `f2`"), "{error}");
    job.fingerprint = "f1".into();
    job.split.cut = Cut::Even { mini_batch_items: 4 };
    let error = refusal(&job).to_string();
    assert!(error.contains("its split is `40 items in 9 mini-batches`"), "{error}");
}

#[test]
fn a_second_coordinator_is_refused() {
    let job = begun();
    let _first = job.open();
    let error = JobLock::acquire(&job.dir).unwrap_err();
    assert!(matches!(error, LedgerError::InUse { .. }), "{error}");
}

#[test]
fn a_later_schema_is_refused() {
    let job = begun();
    let connection = rusqlite::Connection::open(job.dir.ledger()).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    drop(connection);
    let error = refusal(&job).to_string();
    assert!(error.ends_with("has schema version 7, this program knows up to 1"), "{error}");
}

#[test]
fn a_damaged_ledger_is_named_and_left_as_it_is() {
    let sound = {
        let job = begun();
        fs::read(job.dir.ledger()).unwrap()
    };
    let mut zeros = sound.clone();
    zeros[4096..].fill(0);
    let mut garbled = sound.clone();
    garbled[100..4096].iter_mut().for_each(|byte| *byte ^= 0x5A);
    let cut = sound[..sound.len() / 2].to_vec();
    let text =
        b"this is not a database, whatever its name may say; it is long enough to be read as one, though".to_vec();
    for (name, bytes) in [("zeros", zeros), ("garbled", garbled), ("cut", cut), ("text", text), ("empty", Vec::new())] {
        let job = begun();
        fs::write(job.dir.ledger(), &bytes).unwrap();
        let error = refusal(&job);
        assert!(matches!(error, OpenError::Ledger(LedgerError::Damaged { .. })), "{name}: {error:?}");
        assert!(error.to_string().contains("ledger.sqlite` is damaged: "), "{name}: {error}");
        assert_eq!(fs::read(job.dir.ledger()).unwrap(), bytes, "{name}: nothing is written over");
        assert_eq!(job.text().len(), 60, "{name}");
    }
}

#[test]
fn a_ledger_that_contradicts_itself_is_refused() {
    for (change, what) in [
        ("UPDATE totals SET committed_len = 59", "by its totals"),
        ("UPDATE groups SET offset = 31 WHERE id = 2", "commit 2 begins at 31, not at 30"),
        (
            "UPDATE groups SET packed = (SELECT packed FROM groups WHERE id = 1) WHERE id = 2",
            "mini-batch 0 is in twice",
        ),
        ("UPDATE groups SET packed = x'80' WHERE id = 2", "commit 2: a record ends in the middle"),
        ("DELETE FROM totals", "a row is missing"),
        ("UPDATE states SET state = 'Confused'", "holds what can't be there"),
    ] {
        let job = begun();
        rusqlite::Connection::open(job.dir.ledger()).unwrap().execute(change, []).unwrap();
        let error = refusal(&job).to_string();
        assert!(error.contains(what), "{change}: {error}");
    }
}

#[test]
fn a_job_without_a_ledger_says_so() {
    let job = TestJob::new();
    let error = LedgerReader::open(&job.dir).unwrap_err();
    assert!(matches!(error, LedgerError::Absent { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Usage);
}
