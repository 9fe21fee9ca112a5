//! Rows in the order of the input, whatever the order was in which they came (`docs/design/ordered.md`).

use proptest::prelude::*;

use super::*;

fn ordered() -> TestJob {
    TestJob { ordered: true, bisect: true, ..TestJob::new() }
}

/// Items that returned: a row for each.
fn part(job: &TestJob, mini_batch: u64, items: Range<u64>, attempt: u32) -> (Outcome, String) {
    let rows: String = items.clone().map(|item| format!("row {item}\n")).collect();
    (
        Outcome { items: items.clone(), ..job.outcome(mini_batch, attempt, end(items.end - items.start, rows.len())) },
        rows,
    )
}

fn in_order(items: impl Iterator<Item = u64>) -> String {
    items.map(|item| format!("row {item}\n")).collect()
}

#[test]
fn the_output_is_in_the_order_of_the_input() {
    let job = ordered();
    let mut aggregate = job.open();
    for mini_batch in [7, 3, 4, 0, 8, 1] {
        commit(&mut aggregate, &results([job.returned(mini_batch, 1)]));
    }
    // One in two parts, the last first, and one that fails.
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(5, attempt))));
    let items = job.items(5);
    let middle = items.start + 2;
    commit(&mut aggregate, &results([part(&job, 5, middle..items.end, 4)]));
    commit(&mut aggregate, &results([job.returned(2, 1), part(&job, 5, items.start..middle, 5)]));
    let of_all = OutcomeEnd::Failed(Box::new(AttemptError { of_all: true, ..error() }));
    commit(&mut aggregate, &results((1..=TRIES).map(|n| (job.outcome(6, n, of_all.clone()), String::new()))));
    assert!(job.text().starts_with("row 33\n"), "as they came, until then");
    aggregate.finish().unwrap();
    let failed = job.items(6);
    let rows = fs::read_to_string(job.target()).unwrap();
    assert_eq!(rows, in_order((0..40).filter(|item| !failed.contains(item))));
    assert!(!job.partial().exists());
    job.assert_sound();

    // What failed comes to its place when it is tried again.
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    drop(aggregate);
    let mut aggregate = job.open();
    job.assert_sound();
    commit(&mut aggregate, &results([job.returned(6, 1)]));
    aggregate.finish().unwrap();
    assert_eq!(fs::read_to_string(job.target()).unwrap(), in_order(0..40));
    job.assert_sound();
    assert!(fs::read_dir(job.target().parent().unwrap()).unwrap().count() == 1, "nothing else is left");
}

#[test]
fn the_header_stays_first() {
    let job = TestJob { header: true, ..ordered() };
    let mut aggregate = job.open();
    for mini_batch in (0..9).rev() {
        let with_header = Results { header: Some(b"item\n".to_vec()), ..results([job.returned(mini_batch, 1)]) };
        commit(&mut aggregate, &with_header);
    }
    aggregate.finish().unwrap();
    assert_eq!(fs::read_to_string(job.target()).unwrap(), format!("item\n{}", in_order(0..40)));
    job.assert_sound();
}

#[test]
fn damage_becomes_nobody_s_result() {
    let job = ordered();
    let mut aggregate = job.open();
    for mini_batch in (0..9).rev() {
        match mini_batch {
            4 => drop(commit(
                &mut aggregate,
                &results((1..=TRIES).map(|n| {
                    let of_all = OutcomeEnd::Failed(Box::new(AttemptError { of_all: true, ..error() }));
                    (job.outcome(4, n, of_all), String::new())
                })),
            )),
            _ => drop(commit(&mut aggregate, &results([job.returned(mini_batch, 1)]))),
        }
    }
    let sound = fs::read(job.partial()).unwrap();
    let mut bytes = sound.clone();
    bytes[3] ^= 1;
    fs::write(job.partial(), &bytes).unwrap();
    let refused = aggregate.finish().unwrap_err();
    assert!(format!("{refused:?}").contains("the checksum of their commit"), "{refused:?}");
    fs::write(job.partial(), &sound).unwrap();
    drop(aggregate);
    let mut aggregate = job.open();
    aggregate.finish().unwrap();
    job.assert_sound();
    // The finished file is what the next pass reads.
    aggregate.retry_failed().unwrap();
    let mut bytes = fs::read(job.target()).unwrap();
    bytes[5] ^= 1;
    fs::write(job.target(), &bytes).unwrap();
    commit(&mut aggregate, &results([job.returned(4, 1)]));
    let refused = aggregate.finish().unwrap_err();
    assert!(format!("{refused:?}").contains("not the file that this job wrote"), "{refused:?}");
    assert_eq!(fs::read(job.target()).unwrap(), bytes, "it is left as it is");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_order_becomes_that_of_the_input(
        order in Just((0u64..9).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 9),
        groups in prop::collection::vec(1usize..5, 1..9),
        fails in prop::collection::btree_set(0u64..9, 0..4),
        crash in any::<bool>(),
    ) {
        let job = ordered();
        let mut aggregate = job.open();
        let mut message = Vec::new();
        let mut groups = groups.into_iter().cycle();
        let mut size = 1;
        for mini_batch in order {
            let items = job.items(mini_batch);
            if fails.contains(&mini_batch) {
                let of_all = OutcomeEnd::Failed(Box::new(AttemptError { of_all: true, ..error() }));
                message.extend((1..=TRIES).map(|n| (job.outcome(mini_batch, n, of_all.clone()), String::new())));
            } else {
                let cut = items.start + cuts[mini_batch as usize].index((items.end - items.start) as usize) as u64;
                let halves = [cut..items.end, items.start..cut];
                message.extend(halves.into_iter().filter(|half| !half.is_empty()).zip(1..).map(|(half, attempt)| {
                    part(&job, mini_batch, half, attempt)
                }));
            }
            if message.len() >= size {
                commit(&mut aggregate, &results(std::mem::take(&mut message)));
                size = groups.next().unwrap();
            }
        }
        commit(&mut aggregate, &results(message));
        if crash {
            drop(aggregate);
            aggregate = job.open();
        }
        aggregate.finish().unwrap();
        let failed = |item: &u64| fails.iter().any(|mini_batch| job.items(*mini_batch).contains(item));
        prop_assert_eq!(fs::read_to_string(job.target()).unwrap(), in_order((0..40).filter(|item| !failed(item))));
        job.assert_sound();
        if aggregate.retry_failed().unwrap() > 0 {
            commit(&mut aggregate, &results(fails.iter().rev().map(|mini_batch| job.returned(*mini_batch, 1))));
            aggregate.finish().unwrap();
        }
        prop_assert_eq!(fs::read_to_string(job.target()).unwrap(), in_order(0..40));
        job.assert_sound();
    }
}
