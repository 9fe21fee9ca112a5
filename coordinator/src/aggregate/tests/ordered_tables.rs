//! A Parquet file whose rows come in the order of the input, whatever the order was in which they came.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int32Array};
use arrow_ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::tables::{frame, frame_of, ids_in_the_file, numbers, table_job, texts};
use super::*;

fn ordered() -> TestJob {
    TestJob { ordered: true, bisect: true, ..table_job() }
}

/// Items that returned so many rows each: the first of item 7 has the id 70, the next one 71.
fn returned(job: &TestJob, mini_batch: u64, items: Range<u64>, attempt: u32, each: u64) -> (Outcome, Vec<u8>) {
    let ids: Vec<u64> = ids_of(items.clone(), each).map(|id| id as u64).collect();
    let rows = if ids.is_empty() { Vec::new() } else { frame_of(&ids) };
    (Outcome { items, ..job.outcome(mini_batch, attempt, end(ids.len() as u64, rows.len())) }, rows)
}

fn ids_of(items: impl Iterator<Item = u64>, each: u64) -> impl Iterator<Item = i64> {
    items.flat_map(move |item| (0..each).map(move |row| (item * 10 + row) as i64))
}

/// Is out of tries at once.
fn failed(job: &TestJob, mini_batch: u64) -> impl Iterator<Item = (Outcome, Vec<u8>)> {
    let of_all = OutcomeEnd::Failed(Box::new(AttemptError { of_all: true, ..error() }));
    (1..=TRIES).map(move |attempt| (job.outcome(mini_batch, attempt, of_all.clone()), Vec::new()))
}

fn message(outcomes: impl IntoIterator<Item = (Outcome, Vec<u8>)>) -> Results {
    let (outcomes, rows): (Vec<Outcome>, Vec<Vec<u8>>) = outcomes.into_iter().unzip();
    Results { process: ProcessNumber(0), outcomes, rows: rows.concat(), header: None }
}

fn whole(job: &TestJob, mini_batch: u64, each: u64) -> (Outcome, Vec<u8>) {
    returned(job, mini_batch, job.items(mini_batch), 1, each)
}

/// Mini-batch 5 in two parts, the last first; 6 fails; 1 has no rows.
fn completed(job: &TestJob) -> Aggregate {
    let mut aggregate = job.open();
    for mini_batch in [7, 3, 4, 0, 8] {
        commit(&mut aggregate, &message([whole(job, mini_batch, 1)]));
    }
    commit(&mut aggregate, &message([whole(job, 1, 0)]));
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(5, attempt))));
    let items = job.items(5);
    let middle = items.start + 2;
    commit(&mut aggregate, &message([returned(job, 5, middle..items.end, 4, 1)]));
    commit(&mut aggregate, &message([whole(job, 2, 2), returned(job, 5, items.start..middle, 5, 1)]));
    commit(&mut aggregate, &message(failed(job, 6)));
    aggregate.finish().unwrap();
    aggregate
}

/// The ids in the output of [`completed`], where mini-batch 6 has so many rows for each item.
fn ids_when_complete(job: &TestJob, of_6: u64) -> Vec<i64> {
    let each = |mini_batch| match mini_batch {
        1 => 0,
        2 => 2,
        6 => of_6,
        _ => 1,
    };
    (0..9).flat_map(|mini_batch| ids_of(job.items(mini_batch), each(mini_batch))).collect()
}

#[test]
fn the_rows_of_a_parquet_file_are_in_the_order_of_the_input() {
    let job = ordered();
    let mut aggregate = completed(&job);
    assert_eq!(ids_in_the_file(&job), ids_when_complete(&job, 0));
    job.assert_sound();

    // What failed comes to its place when it is tried again.
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    drop(aggregate);
    let mut aggregate = job.open();
    commit(&mut aggregate, &message([whole(&job, 6, 3)]));
    aggregate.finish().unwrap();
    assert_eq!(ids_in_the_file(&job), ids_when_complete(&job, 3));
    job.assert_sound();
    assert_eq!(fs::read_dir(job.target().parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    assert!(!job.dir.internal().join("order").exists());
}

/// More rows than are read at once of the old output, with a column of a narrower type than the new rows have.
#[test]
fn rows_of_a_finished_file_are_taken_in_pieces_and_widened() {
    let job = ordered();
    let mut aggregate = job.open();
    let large = |mini_batch: u64, ids: Range<u64>| {
        let count = ids.end - ids.start;
        let size: ArrayRef = match mini_batch {
            2 => Arc::new(Int32Array::from(vec![100_000; count as usize])),
            _ => Arc::new(Int8Array::from(vec![1; count as usize])),
        };
        let rows = frame([("id", numbers(ids.clone())), ("size", size), ("text", texts(ids))]);
        (job.outcome(mini_batch, 1, end(count, rows.len())), rows)
    };
    let small = [large(4, 150_003..150_005), large(3, 150_000..150_003)];
    commit(&mut aggregate, &message(small.into_iter().chain([large(1, 70_000..140_000)])));
    commit(&mut aggregate, &message((5..9).map(|mini_batch| whole(&job, mini_batch, 0))));
    commit(&mut aggregate, &message([large(0, 0..70_000)]));
    commit(&mut aggregate, &message(failed(&job, 2)));
    aggregate.finish().unwrap();
    aggregate.retry_failed().unwrap();
    commit(&mut aggregate, &message([large(2, 140_000..150_000)]));
    aggregate.finish().unwrap();
    assert_eq!(ids_in_the_file(&job), (0..150_005).collect::<Vec<_>>());
    job.assert_sound();
    let mut sizes = Vec::new();
    for batch in
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(job.target()).unwrap()).unwrap().build().unwrap()
    {
        let batch = batch.unwrap();
        let column = batch.column_by_name("size").unwrap().as_any().downcast_ref::<Int32Array>().unwrap();
        sizes.extend(column.iter().flatten());
    }
    let expected: Vec<i32> =
        (0..150_005).map(|id| if (140_000..150_000).contains(&id) { 100_000 } else { 1 }).collect();
    assert!(sizes == expected);
}

#[test]
fn damage_becomes_nobody_s_result() {
    let job = ordered();
    let mut aggregate = job.open();
    commit(&mut aggregate, &message((0..9).rev().map(|mini_batch| whole(&job, mini_batch, 1))));
    let mut bytes = fs::read(job.partial()).unwrap();
    bytes[1000] ^= 1;
    fs::write(job.partial(), &bytes).unwrap();
    let refused = aggregate.finish().unwrap_err();
    assert!(format!("{refused:?}").contains("the checksum of their commit"), "{refused:?}");
    assert!(!job.target().exists() && !job.partial().with_extension("partial.new").exists());

    // The finished file is what the next pass reads: it must have the rows of the commits before it, and no others.
    let job = ordered();
    let mut aggregate = completed(&job);
    aggregate.retry_failed().unwrap();
    commit(&mut aggregate, &message([whole(&job, 6, 1)]));
    drop(aggregate);
    for rows in [5, 34, 36, 100] {
        let other = TestJob { bisect: true, ..table_job() };
        let mut writer = other.open();
        let rows = frame_of(&(0..rows).collect::<Vec<_>>());
        let of_rows = |mini_batch: u64| match mini_batch {
            0 => (other.outcome(0, 1, end(count(&rows), rows.len())), rows.clone()),
            mini_batch => whole(&other, mini_batch, 0),
        };
        commit(&mut writer, &message((0..9).map(of_rows)));
        writer.finish().unwrap();
        fs::copy(other.target(), job.target()).unwrap();
        let refused = job.open().finish().unwrap_err();
        assert!(format!("{refused:?}").contains("not the 35 rows that the ledger says"), "{refused:?}");
        assert_eq!(fs::read(job.target()).unwrap(), fs::read(other.target()).unwrap(), "it is left as it is");
    }
}

/// The rows of a stream.
fn count(stream: &[u8]) -> u64 {
    let batches = StreamReader::try_new(stream, None).unwrap();
    batches.map(|batch| batch.unwrap().num_rows() as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_order_becomes_that_of_the_input(
        order in Just((0u64..9).collect::<Vec<_>>()).prop_shuffle(),
        each in prop::collection::vec(0u64..4, 9),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 9),
        groups in prop::collection::vec(1usize..5, 1..9),
        fails in prop::collection::btree_set(0u64..9, 0..4),
        fails_again in any::<prop::sample::Index>(),
        crash in any::<bool>(),
    ) {
        let job = ordered();
        let mut aggregate = job.open();
        let mut outcomes = Vec::new();
        let mut groups = groups.into_iter().cycle();
        let mut size = 1;
        for mini_batch in order {
            let (items, each) = (job.items(mini_batch), each[mini_batch as usize]);
            if fails.contains(&mini_batch) {
                outcomes.extend(failed(&job, mini_batch));
            } else if each == 0 {
                outcomes.push(whole(&job, mini_batch, 0));
            } else {
                let cut = items.start + cuts[mini_batch as usize].index((items.end - items.start) as usize) as u64;
                let halves = [cut..items.end, items.start..cut];
                outcomes.extend(halves.into_iter().filter(|half| !half.is_empty()).zip(1..).map(|(half, attempt)| {
                    returned(&job, mini_batch, half, attempt, each)
                }));
            }
            if outcomes.len() >= size {
                commit(&mut aggregate, &message(std::mem::take(&mut outcomes)));
                size = groups.next().unwrap();
            }
        }
        commit(&mut aggregate, &message(outcomes));
        if crash {
            drop(aggregate);
            aggregate = job.open();
        }
        aggregate.finish().unwrap();
        let ids = |missing: &dyn Fn(u64) -> bool| -> Vec<i64> {
            let present = (0..9).filter(|mini_batch| !missing(*mini_batch));
            present.flat_map(|mini_batch| ids_of(job.items(mini_batch), each[mini_batch as usize])).collect()
        };
        prop_assert_eq!(ids_in_the_file(&job), ids(&|mini_batch| fails.contains(&mini_batch)));
        job.assert_sound();
        // One of them fails again: the file is put together twice of an old one and what is new.
        let mut missing: Vec<u64> = fails.into_iter().rev().collect();
        while !missing.is_empty() {
            prop_assert_eq!(aggregate.retry_failed().unwrap(), missing.len() as u64);
            let kept = (missing.len() > 1).then(|| missing.remove(fails_again.index(missing.len())));
            commit(&mut aggregate, &message(kept.into_iter().flat_map(|mini_batch| failed(&job, mini_batch))));
            commit(&mut aggregate, &message(missing.iter().map(|id| whole(&job, *id, each[*id as usize]))));
            if crash {
                drop(aggregate);
                aggregate = job.open();
            }
            aggregate.finish().unwrap();
            missing = kept.into_iter().collect();
            prop_assert_eq!(ids_in_the_file(&job), ids(&|mini_batch| kept == Some(mini_batch)));
            job.assert_sound();
        }
    }
}
