//! `verify` finds what is wrong, and only that.

use std::os::unix::fs::FileExt;

use super::*;
use fanfold_shared::state::JobState;

fn completed() -> TestJob {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([job.returned(2, 1), job.returned(0, 1)]));
    commit(&mut aggregate, &results((1..4).map(|attempt| job.failed(4, attempt))));
    complete(&job, &mut aggregate);
    job
}

fn problems(job: &TestJob) -> Vec<String> {
    verify(&job.dir).unwrap().problems
}

#[test]
fn a_sound_job_has_no_problems_at_any_time() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    job.assert_sound();
    commit(&mut aggregate, &results([job.returned(5, 1)]));
    fs::OpenOptions::new().write(true).open(job.partial()).unwrap().write_at(b"tail", 35).unwrap();
    job.assert_sound();
    complete(&job, &mut aggregate);
    let report = verify(&job.dir).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!((report.groups, report.mini_batches, report.output.as_deref()), (2, 9, Some(job.target())));
    assert_eq!(report.file_len, report.committed_len);
}

#[test]
fn each_kind_of_damage_is_a_sentence() {
    let file = |job: &TestJob| fs::OpenOptions::new().write(true).open(job.target()).unwrap();
    let job = completed();
    assert_eq!(problems(&job), Vec::<String>::new());

    file(&job).write_at(b"?", 70).unwrap();
    let found = problems(&job);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("from byte 65 on do not have the checksum of commit 2"), "{found:?}");

    let job = completed();
    file(&job).set_len(300).unwrap();
    assert!(problems(&job)[0].ends_with("has 51 bytes too many, from byte 249 on"), "{:?}", problems(&job));
    file(&job).set_len(100).unwrap();
    assert!(problems(&job)[0].ends_with("ends at byte 100, before the committed 249"), "{:?}", problems(&job));
    fs::remove_file(job.target()).unwrap();
    assert!(problems(&job)[0].ends_with("is missing; 249 bytes are committed"), "{:?}", problems(&job));

    for (change, what) in [
        ("DELETE FROM groups WHERE id = 1", "commit 1 is missing before commit 2 at byte 65"),
        ("UPDATE groups SET mini_batches = 9 WHERE id = 1", "its records say 65 of 2"),
        (
            "UPDATE groups SET packed = CAST(packed || x'00' AS BLOB) WHERE id = 2",
            "can't be read: a record ends in the middle",
        ),
        ("UPDATE totals SET items_succeeded = 5", "the ledger's totals say 5 succeeded items, its rows say 37"),
        ("UPDATE totals SET attempts = 5", "the ledger's totals say 5 attempts, its rows say 11"),
        ("UPDATE failures SET mini_batch = 0 WHERE fate = 1", "mini-batch 0 is out of tries, and settled otherwise"),
    ] {
        let job = completed();
        rusqlite::Connection::open(job.dir.ledger()).unwrap().execute(change, []).unwrap();
        let found = problems(&job);
        assert!(found.iter().any(|problem| problem.contains(what)), "{change}: {found:?}");
    }
}

#[test]
fn status_tells_state_cause_times_and_starts() {
    let job = TestJob::new();
    let (mut aggregate, recovered) = job.try_open().unwrap();
    assert_eq!((recovered.status.state, recovered.status.starts), (JobState::Preparing, 1));
    aggregate.set_state(JobState::Running, None).unwrap();
    aggregate.set_state(JobState::Paused, Some("interrupted")).unwrap();
    drop(aggregate);
    let (mut aggregate, recovered) = job.try_open().unwrap();
    let status = recovered.status;
    assert_eq!((status.state, status.cause.as_deref(), status.starts), (JobState::Paused, Some("interrupted"), 2));
    assert!(status.started_us.unwrap() <= status.since_us && status.created_us <= status.since_us);
    assert_eq!(status.ended_us, None);
    aggregate.set_state(JobState::Failed, Some("too many failed items")).unwrap();
    let status = aggregate.ledger().status().unwrap();
    assert_eq!(status.ended_us, Some(status.since_us));
}
