//! Output that becomes a Parquet file: its columns, its end, and what the next start finds after a death.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::aggregate::{CommitError, Retry, output_len};

pub(super) fn table_job() -> TestJob {
    let mut job = TestJob::new();
    job.table = true;
    job.output = Some(job.dir.default_output().join("out.parquet"));
    job
}

/// A whole stream with these columns.
pub(super) fn frame<const N: usize>(columns: [(&str, ArrayRef); N]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A whole stream with these `id`s and their `text`s, in two record batches.
pub(super) fn frame_of(ids: &[u64]) -> Vec<u8> {
    let columns = [("id", numbers(ids.iter().copied())), ("text", texts(ids.iter().copied()))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    let half = ids.len() / 2;
    writer.write(&batch.slice(0, half)).unwrap();
    writer.write(&batch.slice(half, ids.len() - half)).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| Some(value as i64)).collect::<Int64Array>())
}

pub(super) fn texts(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| Some(format!("row {value}"))).collect::<StringArray>())
}

/// What a process says of mini-batches that returned these frames.
fn framed(job: &TestJob, frames: impl IntoIterator<Item = (u64, u32, Vec<u8>)>) -> Results {
    let (mut outcomes, mut rows) = (Vec::new(), Vec::new());
    for (mini_batch, attempt, frame) in frames {
        let items = job.items(mini_batch);
        outcomes.push(job.outcome(mini_batch, attempt, end(items.end - items.start, frame.len())));
        rows.extend(frame);
    }
    Results { process: ProcessNumber(0), outcomes, rows, header: None }
}

/// The frame of a mini-batch that does nothing unusual.
fn usual(job: &TestJob, mini_batch: u64) -> (u64, u32, Vec<u8>) {
    let items = job.items(mini_batch);
    (mini_batch, 1, frame([("id", numbers(items.clone())), ("text", texts(items))]))
}

/// The `id`s of the output, sorted.
fn ids(job: &TestJob) -> Vec<i64> {
    let mut ids = ids_in_the_file(job);
    ids.sort();
    ids
}

/// The `id`s of the output, in their order there. Each row has the `text` of its `id`.
pub(super) fn ids_in_the_file(job: &TestJob) -> Vec<i64> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(job.target()).unwrap()).unwrap().build().unwrap();
    let mut ids = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = batch.column_by_name("id").unwrap().as_any().downcast_ref::<Int64Array>().unwrap();
        let text = batch.column_by_name("text").unwrap().as_any().downcast_ref::<StringArray>().unwrap();
        column.iter().zip(text).for_each(|(id, text)| assert_eq!(format!("row {}", id.unwrap()), text.unwrap()));
        ids.extend(column.iter().flatten());
    }
    ids
}

fn finish_with(job: &TestJob, aggregate: &mut Aggregate) {
    commit(aggregate, &framed(job, (0..9).map(|id| usual(job, id))));
    aggregate.finish().unwrap();
}

#[test]
fn frames_become_one_parquet_file() {
    let job = table_job();
    let mut aggregate = job.open();
    commit(&mut aggregate, &framed(&job, (0..5).map(|id| usual(&job, id))));
    job.assert_sound();
    drop(aggregate);
    let mut aggregate = job.open();
    finish_with(&job, &mut aggregate);
    assert_eq!(ids(&job), (0..40).collect::<Vec<_>>());
    assert!(!job.partial().exists());
    let written = fs::metadata(job.target()).unwrap().len();
    assert_eq!(output_len(aggregate.ledger(), aggregate.totals()).unwrap(), written);
    job.assert_sound();
    drop(aggregate);
    let mut aggregate = job.open();
    assert_eq!(aggregate.state(), JobState::Completed);
    assert_eq!(commit(&mut aggregate, &framed(&job, [usual(&job, 3)])).duplicates, 1);
    job.assert_sound();
}

#[test]
fn a_misfit_is_a_failed_attempt_and_nothing_of_it_is_in() {
    let job = table_job();
    let mut aggregate = job.open();
    let odd = |attempt| {
        let items = job.items(1);
        (1, attempt, frame([("id", texts(items.clone())), ("text", texts(items))]))
    };
    let committed = commit(&mut aggregate, &framed(&job, [usual(&job, 0), odd(1), usual(&job, 2)]));
    assert_eq!((committed.mini_batches_succeeded, committed.failures.len()), (2, 1));
    assert_eq!(committed.again, [Retry { mini_batch: 1, attempt: 2, part: None }]);
    let failure = &committed.failures[0];
    assert_eq!(failure.kind, ErrorKind::BadReturn);
    assert!(failure.message.contains("column `id` as text, and in the output it is int64"), "{}", failure.message);
    // Copies of a failed attempt are charged once, and a new start knows the columns.
    assert_eq!(commit(&mut aggregate, &framed(&job, [odd(1)])).duplicates, 1);
    drop(aggregate);
    let mut aggregate = job.open();
    for attempt in 2..=TRIES {
        commit(&mut aggregate, &framed(&job, [odd(attempt)]));
    }
    assert_eq!(aggregate.totals().mini_batches_failed, 1);
    finish_with(&job, &mut aggregate);
    assert_eq!(ids(&job), (0..40).filter(|id| !(5..10).contains(id)).collect::<Vec<_>>());
    job.assert_sound();
}

#[test]
fn rows_that_are_no_frame_are_run_again_at_nobodys_expense() {
    let job = table_job();
    let mut aggregate = job.open();
    let mut torn = usual(&job, 0);
    torn.2.truncate(torn.2.len() - 9);
    let short = (1, 1, frame([("id", numbers([5])), ("text", texts([5]))]));
    let text = (2, 1, b"row 10\nrow 11\nrow 12\nrow 13\nrow 14\n".to_vec());
    let committed = commit(&mut aggregate, &framed(&job, [torn, short, text, (3, 1, Vec::new())]));
    assert_eq!((committed.mini_batches_succeeded, committed.failures.len(), committed.rejected.len()), (0, 0, 4));
    assert!(committed.rejected[1].contains("5 results were announced, 1 rows came"), "{:?}", committed.rejected);
    assert_eq!(committed.again.iter().map(|retry| retry.attempt).collect::<Vec<_>>(), [1, 1, 1, 1]);
    finish_with(&job, &mut aggregate);
    assert_eq!(ids(&job).len(), 40);
}

#[test]
fn columns_widen_and_are_put_in_order() {
    let job = table_job();
    let mut aggregate = job.open();
    let small: ArrayRef = Arc::new(arrow_array::Int8Array::from(vec![1, 2, 3, 4, 5]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None, Some(1.0), Some(2.0), Some(3.0)]));
    let nothing: ArrayRef = Arc::new(arrow_array::NullArray::new(5));
    commit(&mut aggregate, &framed(&job, [(0, 1, frame([("a", small.clone()), ("b", nothing.clone())]))]));
    commit(&mut aggregate, &framed(&job, [(1, 1, frame([("b", texts(0..5)), ("a", floats)]))]));
    drop(aggregate);
    let mut aggregate = job.open();
    commit(
        &mut aggregate,
        &framed(&job, (2..4).map(|id| (id, 1, frame([("a", small.clone()), ("b", nothing.clone())])))),
    );
    // Frames without a row fix nothing, and are none.
    let outcomes: Vec<Outcome> = (4..9).map(|id| job.outcome(id, 1, end(0, 0))).collect();
    commit(&mut aggregate, &Results { process: ProcessNumber(0), outcomes, rows: Vec::new(), header: None });
    aggregate.finish().unwrap();
    let file = fs::File::open(job.target()).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 20);
    let a = batch.column(0).as_any().downcast_ref::<Float64Array>().unwrap();
    assert_eq!((a.value(4), a.value(5), a.value(19)), (5.0, 0.5, 5.0));
    let b = batch.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!((b.iter().flatten().count(), b.value(5)), (5, "row 0"));
    job.assert_sound();
}

/// A Completed job in which mini-batch 3 is out of tries.
fn completed() -> TestJob {
    let job = table_job();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(3, attempt))));
    finish_with(&job, &mut aggregate);
    assert_eq!(ids(&job).len(), 35);
    job
}

#[test]
fn what_is_retried_later_comes_behind_the_rows_of_the_finished_file() {
    let job = completed();
    let before = fs::read(job.target()).unwrap();
    let mut aggregate = job.open();
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    job.assert_sound();
    commit(&mut aggregate, &framed(&job, [usual(&job, 3), usual(&job, 4)]));
    assert_eq!(fs::read(job.target()).unwrap(), before, "the output stays until the longer one replaces it");
    job.assert_sound();
    drop(aggregate);
    let mut aggregate = job.open();
    aggregate.finish().unwrap();
    assert_eq!(ids(&job), (0..40).collect::<Vec<_>>());
    assert!(!job.partial().exists());
    job.assert_sound();
    assert_eq!(aggregate.retry_failed().unwrap(), 0);
}

#[test]
fn a_death_before_the_retry_is_recorded_leaves_the_job_completed() {
    let job = completed();
    let mut aggregate = retried_after_a_death(&job, "");
    commit(&mut aggregate, &framed(&job, [usual(&job, 3)]));
    aggregate.finish().unwrap();
    assert_eq!(ids(&job).len(), 40);
    job.assert_sound();
}

#[test]
fn a_changed_or_missing_parquet_file_is_told_and_not_built_upon() {
    let job = completed();
    let whole = fs::read(job.target()).unwrap();
    let problems = || verify(&job.dir).unwrap().problems;
    fs::OpenOptions::new().write(true).open(job.target()).unwrap().write_at(b"x", 40).unwrap();
    assert!(problems()[0].contains("does not have the checksum with which it was written"), "{:?}", problems());
    assert!(matches!(job.open().retry_failed(), Err(OpenError::ResultChanged { .. })));
    fs::write(job.target(), &whole[..100]).unwrap();
    assert!(problems()[0].contains("has 100 bytes, and"), "{:?}", problems());
    fs::remove_file(job.target()).unwrap();
    assert!(problems()[0].contains("is missing; 35 rows are in it"), "{:?}", problems());
    assert!(matches!(job.open().retry_failed(), Err(OpenError::ResultChanged { .. })));
    assert!(!job.partial().exists());
}

#[test]
fn a_file_that_appears_under_the_final_name_is_not_overwritten() {
    let job = table_job();
    let mut aggregate = job.open();
    commit(&mut aggregate, &framed(&job, (0..9).map(|id| usual(&job, id))));
    fs::write(job.target(), "somebody's").unwrap();
    assert!(matches!(aggregate.finish(), Err(CommitError::OutputExists { .. })));
    drop(aggregate);
    assert!(matches!(job.try_open(), Err(OpenError::OutputExists { .. })));
    fs::remove_file(job.target()).unwrap();
    job.open().finish().unwrap();
    assert_eq!(ids(&job).len(), 40);
    job.assert_sound();
}

#[test]
fn damage_to_what_is_committed_is_found_before_it_is_made_a_file_of() {
    let job = table_job();
    let mut aggregate = job.open();
    commit(&mut aggregate, &framed(&job, (0..9).map(|id| usual(&job, id))));
    let file = fs::OpenOptions::new().write(true).open(job.partial()).unwrap();
    file.write_at(&[0xFF; 600], 1000).unwrap();
    let error = aggregate.finish().unwrap_err();
    assert!(error.to_string().contains("out.parquet.partial"), "{error}");
    assert!(!job.target().exists() && !job.partial().with_extension("partial.new").exists());
    drop(aggregate);
    assert!(matches!(job.try_open(), Err(OpenError::OutputDamaged { .. })));
}

/// As `crashes::killed`, with the points of the pass.
#[cfg(feature = "failpoints")]
mod killed {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const POINTS: [&str; 13] = [
        "commit_half_written",
        "commit_after_write",
        "commit_after_sync",
        "commit_after_transaction",
        "order_indexed",
        "table_half_written",
        "table_written",
        "table_synced",
        "finish_before_rename",
        "finish_after_rename",
        "finish_after_dirsync",
        "table_frames_removed",
        "finish_done",
    ];

    /// In the program that is killed: does what is left of the job. A job that is Completed is given what failed.
    #[test]
    fn a_whole_table() {
        let Some(root) = std::env::var_os("FANFOLD_TEST_JOB") else {
            return;
        };
        let mut job = table_job();
        job.ordered = std::env::var_os("FANFOLD_TEST_ORDERED").is_some();
        job.dir = JobDir::new(PathBuf::from(root));
        job.output = Some(job.dir.default_output().join("out.parquet"));
        let mut aggregate = job.open();
        if aggregate.state() == JobState::Completed {
            aggregate.retry_failed().unwrap();
        }
        let reopened = aggregate.ledger().meta::<i64>("replaces").unwrap() == Some(1);
        for id in (0..9).rev() {
            let outcome = match id {
                3 if !reopened => results((1..=TRIES).map(|attempt| job.failed(3, attempt))),
                id => framed(&job, [usual(&job, id)]),
            };
            commit(&mut aggregate, &outcome);
        }
        aggregate.finish().unwrap();
    }

    #[test]
    fn killed_at_every_point_the_parquet_file_ends_as_if_nothing_had_been() {
        let this = std::env::current_exe().unwrap();
        for point in POINTS {
            for (ordered, retried) in [(false, false), (false, true), (true, false), (true, true)] {
                if point.starts_with("order_") && !ordered {
                    continue;
                }
                let job = TestJob { ordered, ..table_job() };
                let run = |fault: Option<String>| {
                    let mut command = Command::new(&this);
                    command.args(["--exact", "aggregate::tests::tables::killed::a_whole_table"]);
                    command.env("FANFOLD_TEST_JOB", job.dir.root()).stdout(Stdio::null()).stderr(Stdio::null());
                    command.envs(fault.map(|fault| ("FANFOLD_FAILPOINT", fault)));
                    command.envs(ordered.then_some(("FANFOLD_TEST_ORDERED", "1")));
                    command.status().unwrap()
                };
                let rows = |count: usize| {
                    let all = if ordered { ids_in_the_file(&job) } else { ids(&job) };
                    assert_eq!(all, (0..40).filter(|id| count == 40 || !(15..20).contains(id)).collect::<Vec<_>>());
                };
                if retried {
                    assert!(run(None).success());
                    rows(35);
                }
                for _ in 0..2 {
                    let died = run(Some(format!("{point}:1")));
                    assert!(died.signal() == Some(libc::SIGKILL) || died.success(), "{point}");
                    job.assert_sound();
                }
                assert!(run(None).success(), "{point}: the next start");
                job.assert_sound();
                assert!(!job.partial().exists(), "{point}");
                // Whoever finds it Completed retries what failed.
                assert!(run(None).success());
                job.assert_sound();
                rows(40);
            }
        }
    }
}
