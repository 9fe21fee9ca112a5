//! A mini-batch out of tries is halved until the bad items stand alone, whatever dies and comes twice (`docs/design/bisect.md`).

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn bisecting() -> TestJob {
    TestJob { bisect: true, ..TestJob::new() }
}

/// What comes of an attempt at these items, of which the bad ones raise.
fn attempt(job: &TestJob, mini_batch: u64, items: Range<u64>, attempt: u32, bad: &BTreeSet<u64>) -> (Outcome, String) {
    let rows = match items.clone().any(|item| bad.contains(&item)) {
        true => return (Outcome { items, ..job.failed(mini_batch, attempt).0 }, String::new()),
        false => items.clone().map(|item| format!("row {item}\n")).collect::<String>(),
    };
    let returned = end(items.end - items.start, rows.len());
    (Outcome { items, ..job.outcome(mini_batch, attempt, returned) }, rows)
}

/// Runs what is due until nothing is, as a coordinator does that remembers nothing. Returns the number of attempts.
fn run(job: &TestJob, aggregate: &mut Aggregate, bad: &BTreeSet<u64>) -> u32 {
    let mut attempts = 0;
    for mini_batch in 0..job.split.mini_batches() {
        while !aggregate.settled().contains(&job.items(mini_batch)) {
            let due = aggregate.next_attempt(mini_batch);
            let items = due.part.unwrap_or_else(|| job.items(mini_batch));
            commit(aggregate, &results([attempt(job, mini_batch, items, due.attempt, bad)]));
            attempts += 1;
            assert!(attempts < 1000, "it does not end");
        }
    }
    attempts
}

fn rows(text: &str) -> BTreeSet<u64> {
    let rows: Vec<u64> = text.lines().map(|line| line["row ".len()..].parse().unwrap()).collect();
    let all: BTreeSet<u64> = rows.iter().copied().collect();
    assert_eq!(rows.len(), all.len(), "a row is in twice");
    all
}

#[test]
fn a_bad_item_costs_one_item() {
    let job = bisecting();
    let mut aggregate = job.open();
    let bad = BTreeSet::from([7]);
    // The mini-batch 5..10: three times all of it; 5..7; 7..10, 7 three times, and 8..10. The other eight once.
    assert_eq!(run(&job, &mut aggregate, &bad), 3 + 1 + 1 + 3 + 1 + 8);
    let totals = aggregate.totals();
    assert_eq!((totals.items_succeeded, totals.items_failed), (39, 1));
    assert_eq!((totals.mini_batches_succeeded, totals.mini_batches_failed, totals.mini_batches_short), (9, 0, 1));
    let errors = failures(&aggregate);
    assert_eq!(errors, [(Some(1), 7..8, 1)]);
    job.assert_sound();

    aggregate.finish().unwrap();
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    let totals = aggregate.totals();
    assert_eq!((totals.mini_batches_succeeded, totals.mini_batches_short, totals.items_failed), (8, 0, 0));
    job.assert_sound();
    let due = aggregate.next_attempt(1);
    assert_eq!(due.part, Some(7..8), "nothing but what had failed");
    drop(aggregate);
    let mut aggregate = job.open();
    assert_eq!(aggregate.next_attempt(1), due);
    run(&job, &mut aggregate, &BTreeSet::new());
    aggregate.finish().unwrap();
    assert_eq!(rows(&fs::read_to_string(job.target()).unwrap()), (0..40).collect());
    assert_eq!(aggregate.totals().mini_batches_short, 0);
    job.assert_sound();
}

fn failures(aggregate: &Aggregate) -> Vec<(Option<u64>, Range<u64>, u64)> {
    let mut all = Vec::new();
    let settled = crate::ledger::FailureFilter { settled: true, ..Default::default() };
    let each = |row: crate::ledger::FailureRow| {
        all.push((row.mini_batch, row.items, row.failed_items));
        Ok::<(), crate::ledger::LedgerError>(())
    };
    aggregate.ledger().for_each_failure(&settled, each).unwrap();
    all
}

#[test]
fn a_mini_batch_of_bad_items_has_failed_and_what_concerns_all_of_it_is_not_halved() {
    let job = bisecting();
    let mut aggregate = job.open();
    run(&job, &mut aggregate, &(0..5).collect());
    let totals = aggregate.totals();
    assert_eq!((totals.mini_batches_failed, totals.mini_batches_short, totals.items_failed), (1, 0, 5));
    job.assert_sound();
    assert_eq!(aggregate.retry_failed().unwrap(), 1);
    job.assert_sound();
    let of_all = OutcomeEnd::Failed(Box::new(AttemptError { of_all: true, ..error() }));
    let attempts = (1..=TRIES).map(|attempt| (job.outcome(0, attempt, of_all.clone()), String::new()));
    commit(&mut aggregate, &results(attempts));
    assert_eq!(aggregate.totals().mini_batches_failed, 1);
    assert_eq!(failures(&aggregate), [(Some(0), 0..5, 5)]);
    job.assert_sound();
}

#[test]
fn a_late_answer_for_all_of_it_counts_until_a_part_is_settled() {
    let job = bisecting();
    let mut aggregate = job.open();
    let failed = (1..=TRIES).map(|attempt| job.failed(3, attempt));
    let done = commit(&mut aggregate, &results(failed));
    let items = job.items(3);
    assert_eq!(done.again[0].part, Some(items.start..items.start + 2));
    commit(&mut aggregate, &results([job.returned(3, 1)]));
    assert!(aggregate.settled().contains(&items));
    assert_eq!((aggregate.totals().mini_batches_succeeded, aggregate.spent(3)), (1, 0));
    // The part that was out all the same comes too late; and so does all of a mini-batch of which a part is in.
    let none = BTreeSet::new();
    let late = commit(&mut aggregate, &results([attempt(&job, 3, items.start..items.start + 2, 4, &none)]));
    assert_eq!((late.duplicates, late.again.len()), (1, 0));
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(5, attempt))));
    let items = job.items(5);
    commit(&mut aggregate, &results([attempt(&job, 5, items.start..items.start + 2, 4, &none)]));
    assert_eq!(commit(&mut aggregate, &results([job.returned(5, 1)])).duplicates, 1);
    assert_eq!(aggregate.next_attempt(5).part, Some(items.start + 2..items.end));
    job.assert_sound();
}

#[test]
fn who_goes_on_without_bisecting_tries_what_is_left() {
    let mut job = bisecting();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results((1..=TRIES).map(|attempt| job.failed(0, attempt))));
    commit(&mut aggregate, &results([attempt(&job, 0, 0..2, 4, &BTreeSet::new())]));
    drop(aggregate);
    job.bisect = false;
    let mut aggregate = job.open();
    assert_eq!(run(&job, &mut aggregate, &BTreeSet::from([4])), TRIES + 8, "2..5 as often as a mini-batch");
    let totals = aggregate.totals();
    assert_eq!((totals.items_failed, totals.mini_batches_failed, totals.mini_batches_short), (3, 0, 1));
    job.assert_sound();
}

#[derive(Clone, Debug)]
enum Step {
    /// Answers what is due, of this mini-batch; several at once in one message.
    Due(Vec<u64>),
    /// An answer that was given before, once more.
    Again(prop::sample::Index),
    /// What is due, by a coordinator of before that counts attempts otherwise.
    Stale(u64, u32),
    Crash,
    Retry,
    Switch,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_and_dies_each_good_item_is_in_once(
        bad in prop::collection::btree_set(0u64..40, 0..8),
        steps in prop::collection::vec(prop_oneof![
            8 => prop::collection::vec(0u64..9, 1..4).prop_map(Step::Due),
            3 => any::<prop::sample::Index>().prop_map(Step::Again),
            2 => (0u64..9, 0u32..3).prop_map(|(mini_batch, ahead)| Step::Stale(mini_batch, ahead)),
            2 => Just(Step::Crash),
            1 => Just(Step::Retry),
            1 => Just(Step::Switch),
        ], 1..60),
    ) {
        let mut job = bisecting();
        let mut aggregate = job.open();
        let mut given: Vec<(Outcome, String)> = Vec::new();
        for step in steps {
            let due = |mini_batch: u64, ahead: u32| {
                let due = aggregate.next_attempt(mini_batch);
                let items = due.part.unwrap_or_else(|| job.items(mini_batch));
                attempt(&job, mini_batch, items, due.attempt + ahead, &bad)
            };
            let message = match step {
                Step::Due(mini_batches) => mini_batches.into_iter().map(|mini_batch| due(mini_batch, 0)).collect(),
                Step::Stale(mini_batch, ahead) => vec![due(mini_batch, ahead)],
                Step::Again(_) if given.is_empty() => continue,
                Step::Again(which) => vec![which.get(&given).clone()],
                Step::Crash | Step::Switch => {
                    drop(aggregate);
                    job.bisect ^= matches!(step, Step::Switch);
                    aggregate = job.open();
                    continue;
                }
                Step::Retry => {
                    aggregate.retry_failed().unwrap();
                    given.clear();
                    job.assert_sound();
                    continue;
                }
            };
            commit(&mut aggregate, &results(message.clone()));
            given.extend(message);
            let in_now = rows(&job.text());
            prop_assert!(in_now.is_disjoint(&bad));
            prop_assert_eq!(aggregate.totals().items_succeeded, in_now.len() as u64);
            let report = verify(&job.dir).unwrap();
            prop_assert!(report.is_clean(), "{:?}", report.problems);
        }
        drop(aggregate);
        job.bisect = true;
        let mut aggregate = job.open();
        aggregate.retry_failed().unwrap();
        run(&job, &mut aggregate, &bad);
        prop_assert!(aggregate.all_settled());
        let good: BTreeSet<u64> = (0..40).filter(|item| !bad.contains(item)).collect();
        prop_assert_eq!(rows(&job.text()), good);
        prop_assert_eq!(aggregate.totals().items_failed, bad.len() as u64);
        job.assert_sound();
    }
}
