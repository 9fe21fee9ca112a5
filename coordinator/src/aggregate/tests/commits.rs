//! What one commit does.

use super::*;
use crate::aggregate::Retry;
use crate::ledger::{FailureFilter, FailureRow, LedgerError, LedgerReader, MiniBatchRow, Suspect};
use fanfold_shared::message::{FromNode, ItemError, NodeEvent, NodeMessage};
use fanfold_shared::state::JobState;

fn failures(reader: &LedgerReader, filter: &FailureFilter) -> Vec<FailureRow> {
    let mut all = Vec::new();
    reader
        .for_each_failure(filter, |row| {
            all.push(row);
            Ok::<(), LedgerError>(())
        })
        .unwrap();
    all
}

fn mini_batches(reader: &LedgerReader) -> Vec<MiniBatchRow> {
    let mut all = Vec::new();
    reader
        .for_each_mini_batch(|row| {
            all.push(row);
            Ok::<(), LedgerError>(())
        })
        .unwrap();
    all
}

#[test]
fn a_redelivered_result_is_appended_once() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let first = commit(&mut aggregate, &results([job.returned(0, 1), job.returned(1, 1)]));
    assert_eq!(first.settled, vec![0..10]);
    assert_eq!((first.mini_batches_succeeded, first.duplicates, first.bytes), (2, 0, 60));
    let text = job.text();

    let again = commit(
        &mut aggregate,
        &results([job.returned(1, 2), job.returned(2, 1), job.returned(2, 1), job.returned(0, 1)]),
    );
    assert_eq!(again.settled, vec![10..15]);
    assert_eq!((again.mini_batches_succeeded, again.duplicates), (1, 3));
    assert_eq!(job.text(), text + "row 10\nrow 11\nrow 12\nrow 13\nrow 14\n");
    assert_eq!(aggregate.totals(), &aggregate.ledger().totals().unwrap());
    assert_eq!((aggregate.totals().duplicates, aggregate.totals().attempts), (3, 3));
    job.assert_sound();
}

#[test]
fn a_failed_attempt_is_charged_once_and_the_last_one_settles() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let first = commit(&mut aggregate, &results([job.failed(3, 1), job.failed(3, 1)]));
    assert_eq!(first.again, vec![Retry { mini_batch: 3, attempt: 2, part: None }]);
    assert_eq!((first.duplicates, first.failures.len(), first.settled.len()), (1, 1, 0));
    assert!(!first.failures[0].settled);
    assert_eq!(aggregate.spent(3), 1);

    commit(&mut aggregate, &results([job.failed(3, 2)]));
    let last = commit(&mut aggregate, &results([job.failed(3, 3)]));
    assert_eq!((last.settled, last.again.len(), last.mini_batches_failed), (vec![15..20], 0, 1));
    assert!(last.failures[0].settled);
    assert_eq!((last.failures[0].failed_items, last.failures[0].instance), (5, 3));
    assert_eq!(aggregate.spent(3), 0);

    let late = commit(&mut aggregate, &results([job.returned(3, 3), job.failed(3, 4)]));
    assert_eq!((late.duplicates, late.bytes), (2, 0));

    let totals = aggregate.totals();
    assert_eq!(
        (totals.attempts, totals.attempts_failed, totals.mini_batches_failed, totals.items_failed),
        (3, 3, 1, 5)
    );
    let groups = aggregate.ledger().error_groups(10).unwrap();
    assert_eq!((groups.len(), groups[0].count, &groups[0].traceback), (1, 3, &error().traceback));
    let row = &mini_batches(aggregate.ledger())[0];
    assert_eq!((row.mini_batch, row.attempt, row.failed_items), (3, 3, 5));
    assert_eq!(row.error, Some((ErrorKind::Exception, "ValueError: bad pixel".into())));
    job.assert_sound();
}

#[test]
fn a_copy_that_succeeds_in_the_same_group_needs_no_other_try() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let done = commit(&mut aggregate, &results([job.failed(2, 1), job.returned(2, 1)]));
    assert_eq!((done.again.len(), done.settled, done.duplicates), (0, vec![10..15], 0));
    drop(aggregate);
    assert!(job.try_open().unwrap().0.all_spent().is_empty());
}

#[test]
fn short_returns_unreadable_items_and_surplus_are_counted_per_item() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let unreadable = vec![ItemError { item: 11, message: "cannot read `x`: gone".into() }];
    let ends = [
        (0, end(2, 4), "a\nb\n"),
        (1, end(9, 2), "c\n"),
        (2, OutcomeEnd::Returned { returned: 3, rows_len: 2, spooled: None, unreadable }, "d\n"),
        (3, end(0, 0), ""),
    ];
    let outcomes = ends.map(|(id, end, rows)| (job.outcome(id, 1, end), rows.to_string()));
    let done = commit(&mut aggregate, &results(outcomes));
    assert_eq!(job.text(), "a\nb\nc\nd\n", "what a short run() did return is written");
    let told: Vec<_> = done.failures.iter().map(|f| (f.mini_batch, f.kind, f.failed_items, f.items.clone())).collect();
    assert_eq!(
        told,
        vec![
            (Some(0), ErrorKind::ShortReturn, 3, 0..5),
            (Some(2), ErrorKind::Input, 1, 11..12),
            (Some(2), ErrorKind::ShortReturn, 1, 10..15),
            (Some(3), ErrorKind::ShortReturn, 5, 15..20),
        ]
    );
    assert_eq!(done.failures[2].message, "run() returned 3 results for 4 items");
    let totals = aggregate.totals();
    assert_eq!((totals.items_succeeded, totals.items_failed), (2 + 5 + 3, 3 + 2 + 5));
    assert_eq!((totals.mini_batches_short, totals.mini_batches_failed, totals.surplus_results), (3, 0, 4));
    assert_eq!(totals.returned, 14);
    let failed: Vec<u64> = mini_batches(aggregate.ledger()).iter().map(|row| row.failed_items).collect();
    assert_eq!(failed, vec![3, 0, 2, 5]);
    job.assert_sound();
}

#[test]
fn items_that_run_never_saw_make_no_short_return() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let unreadable = |items: std::ops::Range<u64>| -> Vec<ItemError> {
        items.map(|item| ItemError { item, message: "vanished".into() }).collect()
    };
    let returned =
        |returned, rows_len, unreadable| OutcomeEnd::Returned { returned, rows_len, spooled: None, unreadable };
    let ends = [(0, returned(4, 2, unreadable(2..3)), "a\n"), (1, returned(0, 0, unreadable(5..10)), "")];
    let outcomes = ends.map(|(id, end, rows)| (job.outcome(id, 1, end), rows.to_string()));
    let done = commit(&mut aggregate, &results(outcomes));
    assert!(done.failures.iter().all(|failure| failure.kind == ErrorKind::Input), "{:?}", done.failures);
    let totals = aggregate.totals();
    assert_eq!((totals.items_failed, totals.mini_batches_short), (6, 0));
    let unreadable: Vec<u64> = mini_batches(aggregate.ledger()).iter().map(|row| row.unreadable).collect();
    assert_eq!(unreadable, [1, 5]);
    job.assert_sound();
}

#[test]
fn what_contradicts_the_split_is_rejected_and_run_again() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let (mut stranger, rows) = job.returned(1, 1);
    stranger.items = 6..11;
    let (mut beyond, _) = job.returned(0, 1);
    (beyond.mini_batch, beyond.items) = (99, 400..405);
    let beyond_rows = rows.clone();
    let done = commit(&mut aggregate, &results([(stranger.clone(), rows), job.returned(2, 1), (beyond, beyond_rows)]));
    assert_eq!(done.rejected.len(), 2, "{:?}", done.rejected);
    assert_eq!(done.rejected[0], "mini-batch 1 from process000 of node 0: its items are not those of the split");
    assert_eq!(done.again, vec![Retry { mini_batch: 1, attempt: 1, part: None }]);
    assert_eq!((done.settled, done.mini_batches_succeeded), (vec![10..15], 1));

    let mut torn = results([job.returned(4, 2)]);
    torn.rows.pop();
    let done = commit(&mut aggregate, &torn);
    assert_eq!(done.rejected, vec!["process000 of node 0: 21 bytes of rows were announced, 20 came"]);
    assert_eq!(
        done.again,
        vec![Retry { mini_batch: 4, attempt: 1, part: None }],
        "the attempt that is due, whatever it says"
    );

    commit(&mut aggregate, &results([job.returned(1, 1)]));
    let done = commit(&mut aggregate, &results([(stranger, "x".repeat(30))]));
    assert_eq!((done.duplicates, done.rejected.len()), (1, 0), "an interval that meets settled items is dropped whole");
    job.assert_sound();
}

#[test]
fn the_header_is_written_once_and_only_first() {
    let mut job = TestJob::new();
    job.header = true;
    let mut aggregate = job.open();
    let with_header = |id| Results { header: Some(b"a b\n".to_vec()), ..results([job.returned(id, 1)]) };
    commit(&mut aggregate, &Results { header: Some(b"a b\n".to_vec()), ..results([job.failed(4, 1)]) });
    commit(&mut aggregate, &with_header(4));
    commit(&mut aggregate, &with_header(8));
    assert_eq!(job.text(), "a b\nrow 20\nrow 21\nrow 22\nrow 38\nrow 39\n");
    job.assert_sound();
    drop(aggregate);

    // Rows of another header are refused, by whoever goes on with the job as well.
    let mut aggregate = job.open();
    let other = Results { header: Some(b"b a\n".to_vec()), ..results([job.returned(1, 1)]) };
    let done = commit(&mut aggregate, &other);
    assert_eq!((done.mini_batches_succeeded, done.again.len()), (0, 1));
    commit(&mut aggregate, &Results { header: Some(b"a b\n".to_vec()), ..results([job.returned(1, 2)]) });
    assert_eq!(job.text().lines().filter(|line| line.contains("a b")).count(), 1);
    job.assert_sound();
    drop(aggregate);

    let plain = TestJob::new();
    let mut aggregate = plain.open();
    commit(&mut aggregate, &Results { header: Some(b"a b\n".to_vec()), ..results([plain.returned(8, 1)]) });
    assert_eq!(plain.text(), "row 38\nrow 39\n", "the job wants no header");
}

#[test]
fn spooled_rows_are_copied_in_their_place_and_then_removed() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    fs::create_dir_all(job.dir.spool()).unwrap();
    // More than one read, and not a multiple of one.
    let big: String = (0..300_000).map(|n| format!("big {n}\n")).collect();
    let file = job.dir.spool().join("1");
    let spooled = |path: PathBuf| OutcomeEnd::Returned {
        returned: 5,
        rows_len: big.len() as u64,
        spooled: Some(path),
        unreadable: Vec::new(),
    };
    let message = |path: PathBuf| {
        results([job.returned(8, 1), (job.outcome(1, 1, spooled(path)), String::new()), job.returned(4, 1)])
    };

    let lost = commit(&mut aggregate, &results([(job.outcome(1, 1, spooled(file.clone())), String::new())]));
    assert_eq!(lost.again, vec![Retry { mini_batch: 1, attempt: 1, part: None }]);
    assert!(lost.rejected[0].starts_with("rows of mini-batch 1 can't be used: "), "{:?}", lost.rejected);
    let victim = job.dir.root().join("precious");
    fs::write(&victim, &big).unwrap();
    let outside =
        commit(&mut aggregate, &results([(job.outcome(1, 1, spooled("../../precious".into())), String::new())]));
    assert!(outside.rejected[0].ends_with("is not in the spool"), "{:?}", outside.rejected);
    assert!(victim.exists());

    fs::write(&file, &big).unwrap();
    let done = commit(&mut aggregate, &message(file.clone()));
    assert_eq!(done.mini_batches_succeeded, 3);
    assert_eq!(job.text(), format!("row 38\nrow 39\n{big}row 20\nrow 21\nrow 22\n"));
    assert!(!file.exists());

    fs::write(&file, &big).unwrap();
    let again = commit(&mut aggregate, &message(file.clone()));
    assert_eq!((again.duplicates, again.bytes), (3, 0));
    assert!(!file.exists(), "nobody needs a copy of what is in");
    job.assert_sound();
}

#[test]
fn summary_only_counts_and_writes_nothing() {
    let mut job = TestJob::new();
    job.output = None;
    let mut aggregate = job.open();
    complete(&job, &mut aggregate);
    assert_eq!((aggregate.totals().committed_len, aggregate.totals().items_succeeded), (0, 40));
    assert_eq!(aggregate.state(), JobState::Completed);
    assert!(!job.dir.default_output().exists());
    job.assert_sound();
}

#[test]
fn events_of_processes_are_recorded_once_and_in_any_order() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let process = ProcessNumber(4);
    let events = [
        NodeEvent::ProcessEnded { process, how: "exited with code 0".into() },
        NodeEvent::InitFailed { process: ProcessNumber(5), error: Box::new(error()), consecutive: 1 },
        NodeEvent::ProcessStarted { process, pid: 77, device: Some("1".into()) },
        NodeEvent::InitFailed { process: ProcessNumber(5), error: Box::new(error()), consecutive: 1 },
        NodeEvent::InitDone { process, elapsed_us: 9 },
        NodeEvent::ProcessEnded { process, how: "other".into() },
        NodeEvent::Left,
    ];
    let messages = events.map(|event| FromNode { node: NodeId("n1".into()), body: NodeMessage::Event(event) });
    let parts: Vec<Part<'_>> = messages.iter().map(Part::from).collect();
    let done = aggregate.commit(&parts).unwrap();
    let rows = aggregate.ledger().processes().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].process, rows[0].pid, rows[0].device.as_deref()), (process, 77, Some("1")));
    assert_eq!((rows[0].init_us, rows[0].how.as_deref()), (Some(9), Some("exited with code 0")));
    assert!(rows[0].started_us > 0 && rows[0].ended_us.is_some() && rows[1].ended_us.is_none());
    assert_eq!(aggregate.ledger().error_groups(5).unwrap()[0].count, 1);
    let told = failures(aggregate.ledger(), &FailureFilter { settled: true, ..FailureFilter::default() });
    assert_eq!(told.len(), 1, "a process that did not start is a failure, once however often it is reported");
    assert_eq!(told, done.failures);
    assert_eq!((told[0].mini_batch, told[0].process, told[0].failed_items), (None, Some(ProcessNumber(5)), 0));
    assert_eq!((aggregate.totals().attempts_failed, aggregate.totals().items_failed), (0, 0), "charged to nobody");

    commit(&mut aggregate, &results([job.returned(0, 1)]));
    drop(aggregate);
    let (_, recovered) = job.try_open().unwrap();
    let next: Vec<_> = recovered.next_process.iter().map(|(node, number)| (node.0.as_str(), number.0)).collect();
    assert_eq!(next, vec![("0", 1), ("n1", 6)]);
}

#[test]
fn suspects_are_kept_until_they_settle_and_a_lost_node_is_charged_on_request() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    commit(&mut aggregate, &results([job.returned(0, 1)]));
    let node = NodeId("gone".into());
    aggregate.commit(&[Part::Suspects { mini_batches: &[0, 1, 2] }]).unwrap();
    aggregate.commit(&[Part::Suspects { mini_batches: &[2] }]).unwrap();
    let lost = AttemptError { kind: ErrorKind::NodeLost, message: "the node died".into(), ..error() };
    let failed = |attempt| Part::Failed { node: &node, process: None, mini_batch: 2, attempt, error: &lost };
    let done = aggregate.commit(&[failed(1)]).unwrap();
    assert_eq!(done.again, vec![Retry { mini_batch: 2, attempt: 2, part: None }]);
    assert_eq!(
        (done.failures[0].process, &done.failures[0].node, done.failures[0].kind),
        (None, &node, ErrorKind::NodeLost)
    );
    assert!(done.failures[0].time_us > 0);
    drop(aggregate);

    let (mut aggregate, recovered) = job.try_open().unwrap();
    let suspect = |mini_batch, host_deaths| Suspect { mini_batch, host_deaths };
    assert_eq!(recovered.suspects, vec![suspect(1, 1), suspect(2, 2)]);
    assert_eq!(aggregate.all_spent(), [(2, 1)].into());
    aggregate.commit(&[failed(2), failed(3)]).unwrap();
    commit(&mut aggregate, &results([job.returned(1, 1)]));
    assert_eq!(aggregate.suspects().count(), 0);
    assert_eq!(aggregate.ledger().suspects().unwrap(), vec![]);
    job.assert_sound();
}

#[test]
fn failures_are_listed_by_every_condition_and_carry_their_first_tracebacks() {
    let job = TestJob::new();
    let mut aggregate = job.open();
    let mut timeout = error();
    (timeout.kind, timeout.traceback) = (ErrorKind::Timeout, String::new());
    let timeout = job.outcome(5, 1, OutcomeEnd::Failed(Box::new(timeout)));
    commit(&mut aggregate, &results([(timeout, String::new()), job.failed(5, 2)]));
    let many = results((1..=60).flat_map(|_| [job.failed(6, 1), job.failed(7, 1)]));
    commit(&mut aggregate, &many);
    commit(&mut aggregate, &results([job.failed(5, 3)]));
    let reader = LedgerReader::open(&job.dir).unwrap();
    let count = |filter| failures(&reader, &filter).len();
    let all = FailureFilter::default();
    assert_eq!(count(all.clone()), 5);
    assert_eq!(count(FailureFilter { mini_batch: Some(5), ..all.clone() }), 3);
    assert_eq!(count(FailureFilter { kind: Some(ErrorKind::Timeout), ..all.clone() }), 1);
    assert_eq!(count(FailureFilter { settled: true, ..all.clone() }), 1);
    assert_eq!(count(FailureFilter { after: 3, ..all.clone() }), 2);
    let group = failures(&reader, &all)[1].group;
    let instances: Vec<u64> =
        failures(&reader, &FailureFilter { group: Some(group), ..all }).iter().map(|row| row.instance).collect();
    assert_eq!(instances, vec![1, 2, 3, 4]);
}
