//! Random histories against a model that keeps everything in maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Message {
    Returned {
        mini_batch: u64,
        attempt: u32,
        returned: u64,
    },
    Failed {
        mini_batch: u64,
        attempt: u32,
    },
    /// Items that are no mini-batch's.
    Overlapping {
        mini_batch: u64,
        shift: u64,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Vec<Message>>),
    /// Dies, leaving these bytes behind the committed length (or in place of a tail).
    Crash(Vec<u8>),
}

fn message() -> impl Strategy<Value = Message> {
    let id = 0u64..9;
    prop_oneof![
        6 => (id.clone(), 1u32..5, 0u64..8).prop_map(|(mini_batch, attempt, returned)| Message::Returned {
            mini_batch,
            attempt,
            returned
        }),
        4 => (id.clone(), 1u32..5).prop_map(|(mini_batch, attempt)| Message::Failed { mini_batch, attempt }),
        1 => (id, 1u64..5).prop_map(|(mini_batch, shift)| Message::Overlapping { mini_batch, shift }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(prop::collection::vec(message(), 0..5), 0..3).prop_map(Step::Commit),
        2 => prop::collection::vec(any::<u8>(), 0..50).prop_map(Step::Crash),
    ]
}

/// What must be true, kept without intervals, files or SQL.
#[derive(Default)]
struct Model {
    rows: BTreeSet<String>,
    settled: BTreeSet<u64>,
    spent: BTreeMap<u64, u32>,
    succeeded: u64,
    failed: u64,
    failed_items: u64,
    attempts: u64,
    duplicates: u64,
}

impl Model {
    fn take(&mut self, job: &TestJob, message: &Message) {
        let (id, items) = match message {
            Message::Returned { mini_batch, .. } | Message::Failed { mini_batch, .. } => {
                (*mini_batch, job.items(*mini_batch))
            }
            Message::Overlapping { mini_batch, shift } => (*mini_batch, shifted(job, *mini_batch, *shift)),
        };
        if items.clone().any(|item| self.settled.contains(&item)) {
            self.duplicates += 1;
            return;
        }
        match message {
            Message::Returned { attempt, returned, .. } => {
                self.rows.extend((0..*returned).map(|n| row(id, *attempt, n)));
                self.succeeded += 1;
                self.failed_items += (items.end - items.start).saturating_sub(*returned);
                self.attempts += 1;
            }
            Message::Failed { attempt, .. } => {
                let spent = self.spent.entry(id).or_default();
                if attempt <= spent {
                    self.duplicates += 1;
                    return;
                }
                *spent = *attempt;
                self.attempts += 1;
                if *attempt < TRIES {
                    return;
                }
                self.failed += 1;
                self.failed_items += items.end - items.start;
            }
            Message::Overlapping { .. } => return,
        }
        self.spent.remove(&id);
        self.settled.extend(items);
    }
}

fn row(mini_batch: u64, attempt: u32, number: u64) -> String {
    format!("{mini_batch}/{attempt}/{number}")
}

fn shifted(job: &TestJob, mini_batch: u64, shift: u64) -> Range<u64> {
    let items = job.items(mini_batch);
    items.start + shift..items.end + shift
}

fn outcome(job: &TestJob, message: &Message) -> (Outcome, String) {
    match message {
        Message::Returned { mini_batch, attempt, returned } => {
            let rows: String = (0..*returned).map(|n| row(*mini_batch, *attempt, n) + "\n").collect();
            (job.outcome(*mini_batch, *attempt, end(*returned, rows.len())), rows)
        }
        Message::Failed { mini_batch, attempt } => job.failed(*mini_batch, *attempt),
        Message::Overlapping { mini_batch, shift } => {
            let (mut outcome, rows) = job.returned(*mini_batch, 1);
            outcome.items = shifted(job, *mini_batch, *shift);
            (outcome, rows)
        }
    }
}

fn check(job: &TestJob, aggregate: &Aggregate, model: &Model) -> Result<(), TestCaseError> {
    let text = job.text();
    let rows: Vec<String> = text.lines().map(String::from).collect();
    prop_assert_eq!(rows.len(), model.rows.len(), "a row is lost or doubled");
    prop_assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), model.rows.clone());
    let totals = aggregate.totals();
    prop_assert_eq!(totals, &aggregate.ledger().totals().unwrap());
    prop_assert_eq!(totals.committed_len, text.len() as u64);
    prop_assert_eq!(totals.mini_batches_succeeded, model.succeeded);
    prop_assert_eq!(totals.mini_batches_failed, model.failed);
    prop_assert_eq!(totals.items_failed, model.failed_items);
    prop_assert_eq!(totals.items_settled(), model.settled.len() as u64);
    prop_assert_eq!(totals.attempts, model.attempts);
    prop_assert_eq!(totals.duplicates, model.duplicates);
    prop_assert_eq!(aggregate.settled().iter().flatten().collect::<BTreeSet<_>>(), model.settled.clone());
    for id in 0..job.split.mini_batches() {
        prop_assert_eq!(aggregate.spent(id), model.spent.get(&id).copied().unwrap_or_default());
    }
    let report = verify(&job.dir).unwrap();
    prop_assert!(report.is_clean(), "{:?}", report.problems);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_and_dies_each_row_is_in_once(steps in prop::collection::vec(step(), 1..12)) {
        let job = TestJob::new();
        let mut model = Model::default();
        let mut aggregate = job.open();
        for step in steps {
            match step {
                Step::Commit(messages) => {
                    for message in messages.iter().flatten() {
                        model.take(&job, message);
                    }
                    let node = NodeId("0".into());
                    let group: Vec<Results> =
                        messages.iter().map(|message| results(message.iter().map(|m| outcome(&job, m)))).collect();
                    let parts: Vec<Part<'_>> =
                        group.iter().map(|results| Part::Results { node: &node, results }).collect();
                    aggregate.commit(&parts).unwrap();
                }
                Step::Crash(tail) => {
                    drop(aggregate);
                    let mut bytes = fs::read(job.partial()).unwrap();
                    bytes.extend(&tail);
                    fs::write(job.partial(), bytes).unwrap();
                    let (opened, recovered) = job.try_open().unwrap();
                    prop_assert_eq!(recovered.cut, tail.len() as u64);
                    prop_assert_eq!(&opened.all_spent(), &model.spent);
                    aggregate = opened;
                }
            }
            check(&job, &aggregate, &model)?;
        }
        // However it came here, the rest can be done and the job ends.
        for id in 0..9 {
            model.take(&job, &Message::Returned { mini_batch: id, attempt: 9, returned: 5 });
        }
        let rest = results((0..9).map(|id| outcome(&job, &Message::Returned { mini_batch: id, attempt: 9, returned: 5 })));
        commit(&mut aggregate, &rest);
        check(&job, &aggregate, &model)?;
        aggregate.finish().unwrap();
        aggregate.finish().unwrap();
        prop_assert_eq!(fs::read_to_string(job.target()).unwrap().lines().count(), model.rows.len());
        job.assert_sound();
    }
}
