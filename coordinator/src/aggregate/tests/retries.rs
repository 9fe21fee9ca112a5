//! Mini-batches out of tries are tried again on request.

use super::*;

/// A Completed job in which mini-batch 3 is out of tries and 0 returned short.
fn completed() -> TestJob {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([(job.outcome(0, 1, end(1, 2)), "x\n".into())]));
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(3, attempt))));
    complete(&job, &mut aggregate);
    job
}

#[test]
fn a_failed_job_goes_on_where_it_was() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(3, attempt)).chain([job.failed(5, 1)])));
    aggregate.set_state(JobState::Failed, Some("too many failed mini-batches")).unwrap();
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    assert_eq!((aggregate.state(), aggregate.totals().mini_batches_failed), (JobState::Running, 0));
    assert_eq!((aggregate.spent(3), aggregate.spent(5)), (0, 1), "it has all its tries again");
    assert!(aggregate.settled().is_empty());
    job.assert_sound();
    drop(aggregate);

    let mut aggregate = job.open();
    let again = commit(&mut aggregate, &results([job.failed(3, 1)]));
    assert_eq!((again.again[0].attempt, again.duplicates), (2, 0));
    complete(&job, &mut aggregate);
    assert_eq!(aggregate.totals().items_failed, 0);
    job.assert_sound();
}

#[test]
fn the_output_of_a_completed_job_stays_until_the_longer_one_replaces_it() {
    let job = completed();
    let before = fs::read_to_string(job.target()).unwrap();
    let mut aggregate = job.open();
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    commit(&mut aggregate, &results([job.returned(3, 1), job.returned(0, 1)]));
    assert_eq!(fs::read_to_string(job.target()).unwrap(), before);
    job.assert_sound();
    drop(aggregate);

    let mut aggregate = job.open();
    aggregate.finish().unwrap();
    let rows: String = (15..20).map(|item| format!("row {item}\n")).collect();
    assert_eq!(fs::read_to_string(job.target()).unwrap(), before + &rows, "rows of a short return are in and stay");
    assert!(!job.partial().exists());
    assert_eq!(aggregate.retry_failed().unwrap(), 0);
    assert_eq!(aggregate.state(), JobState::Completed);
    job.assert_sound();
}

#[test]
fn a_death_before_the_retry_is_recorded_leaves_the_job_completed() {
    let job = completed();
    let mut aggregate = retried_after_a_death(&job, "half a copy");
    complete(&job, &mut aggregate);
    job.assert_sound();
}

#[test]
fn a_changed_output_is_not_built_upon() {
    let job = completed();
    let mut aggregate = job.open();
    let mut text = fs::read_to_string(job.target()).unwrap();
    text.replace_range(10..11, "?");
    fs::write(job.target(), &text).unwrap();
    assert!(matches!(aggregate.retry_failed(), Err(OpenError::OutputDamaged { .. })));
    fs::write(job.target(), "short").unwrap();
    assert!(matches!(aggregate.retry_failed(), Err(OpenError::OutputShort { found: 5, .. })));
    assert_eq!((aggregate.state(), job.partial().exists()), (JobState::Completed, false));
}
