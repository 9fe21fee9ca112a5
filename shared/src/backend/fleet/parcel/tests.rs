//! Rows in files of the spool, and messages that do not fit.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::ids::{NodeId, ProcessNumber};
use crate::message::ItemError;

fn spool() -> (TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_path_buf());
    (dir, spool)
}

fn outcome(mini_batch: u64, end: OutcomeEnd) -> Outcome {
    let (started_us, elapsed_us, run_us, cpu_us) = (1, 2, 3, 4);
    let items = mini_batch..mini_batch + 1;
    Outcome { mini_batch, items, attempt: 1, started_us, elapsed_us, run_us, cpu_us, end }
}

fn returned(mini_batch: u64, rows_len: u64, spooled: Option<PathBuf>) -> Outcome {
    outcome(mini_batch, OutcomeEnd::Returned { returned: 1, rows_len, spooled, unreadable: Vec::new() })
}

fn message(outcomes: Vec<Outcome>, rows: Vec<u8>) -> FromNode {
    let header = Some(b"h\n".to_vec());
    let results = Results { process: ProcessNumber(1), outcomes, rows, header };
    FromNode { node: NodeId("node".into()), body: NodeMessage::Results(results) }
}

fn results(unpacked: Unpacked) -> Results {
    match unpacked.message.body {
        NodeMessage::Results(results) => results,
        NodeMessage::Event(event) => panic!("{event:?}"),
    }
}

fn packed(message: FromNode, spool: &Spool) -> Vec<Vec<u8>> {
    pack(message, spool, &|| false).unwrap()
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn small_rows_travel_in_the_message_and_large_ones_as_a_file() {
    let (dir, spool) = spool();
    for (len, as_file) in [(0, false), (MOST_ROWS, false), (MOST_ROWS + 1, true)] {
        let sent = message(vec![returned(1, len as u64, None)], vec![b'x'; len]);
        let bodies = packed(sent.clone(), &spool);
        assert_eq!((bodies.len(), files(&dir).len()), (1, usize::from(as_file)));
        let received = unpack(&bodies[0], &spool).unwrap();
        assert_eq!((received.message, received.file, received.read), {
            (sent, files(&dir).first().cloned(), if as_file { len } else { 0 })
        });
    }
}

#[test]
fn rows_that_are_not_what_was_written_are_left_out() {
    let (dir, spool) = spool();
    let len = MOST_ROWS + 10;
    let body = packed(message(vec![returned(1, len as u64, None)], vec![b'x'; len]), &spool).remove(0);
    let file = files(&dir).remove(0);
    let whole = fs::read(&file).unwrap();
    let left_out = || {
        let received = unpack(&body, &spool).unwrap();
        assert_eq!((received.read, received.file.as_ref()), (0, Some(&file)));
        let results = results(received);
        // The outcomes say how much there should be: so the aggregate rejects the message, and they run again.
        assert_eq!((results.rows.len(), results.outcomes), (0, vec![returned(1, len as u64, None)]));
    };
    let mut flipped = whole.clone();
    flipped[len / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..len - 1], &[&whole[..], b"x"].concat(), &[]] {
        fs::write(&file, damaged).unwrap();
        left_out();
    }
    fs::remove_file(&file).unwrap();
    left_out();
    // Neither followed nor waited for.
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, &whole).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    left_out();
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    left_out();
    fs::remove_file(&file).unwrap();
    fs::write(&file, &whole).unwrap();
    assert_eq!(unpack(&body, &spool).unwrap().read, len);
}

#[test]
fn a_file_is_named_by_its_name_alone() {
    let (dir, spool) = spool();
    let path = dir.path().join("7.rows");
    let body = packed(message(vec![returned(1, 5, Some(path.clone()))], Vec::new()), &spool).remove(0);
    let received = results(unpack(&body, &spool).unwrap());
    assert_eq!(received.outcomes, [returned(1, 5, Some(path))]);
    let long = "x".repeat(256);
    for bad in ["", ".", "..", "/etc/passwd", "../7.rows", "a/b", "a\0b", "a/", &long] {
        let named = |rows, spooled: Option<PathBuf>| {
            let message = message(vec![returned(1, 5, spooled)], Vec::new());
            unpack(&wire::encode(&Parcel { message, rows }), &spool).err()
        };
        let file = RowsFile { name: bad.to_string(), len: 5, crc32: 0 };
        assert!(matches!(named(Some(file), None), Some(Unreadable::Path)), "{bad:?}");
        assert!(matches!(named(None, Some(bad.into())), Some(Unreadable::Path)), "{bad:?}");
    }
    let huge = RowsFile { name: "8.rows".into(), len: u64::MAX, crc32: 0 };
    fs::write(dir.path().join("8.rows"), b"x").unwrap();
    assert_eq!(Spool::read(&dir.path().join("8.rows"), &huge), None);
}

#[test]
fn results_that_do_not_fit_are_divided_and_say_the_same() {
    let (dir, spool) = spool();
    let error = |text: usize| {
        let text = |of: char| of.to_string().repeat(text);
        let (message, traceback, stderr) = (text('m'), text('ü'), text('s'));
        OutcomeEnd::Failed(Box::new(AttemptError {
            kind: ErrorKind::Exception,
            message,
            traceback,
            stderr,
            of_all: false,
        }))
    };
    // Failures between results with rows, 12 MiB in all.
    let of = |number: u64| match number % 3 {
        0 => returned(number, 3, None),
        1 => outcome(number, error(40 << 10)),
        _ => returned(number, 7, Some(dir.path().join(format!("{number}.rows")))),
    };
    let outcomes: Vec<Outcome> = (0..220).map(of).collect();
    let rows: Vec<u8> =
        (0..220u64).filter(|number| number % 3 == 0).flat_map(|number| [number as u8, b'r', 10]).collect();
    let bodies = packed(message(outcomes.clone(), rows.clone()), &spool);
    assert!(bodies.len() > 2 && bodies.iter().all(|body| body.len() <= MOST_BYTES), "{}", bodies.len());
    let parts: Vec<Results> = bodies.iter().map(|body| results(unpack(body, &spool).unwrap())).collect();
    for part in &parts {
        // Each is complete by itself.
        assert_eq!(part.outcomes.iter().map(inline_rows).sum::<u64>(), part.rows.len() as u64);
    }
    assert_eq!(parts.iter().filter(|part| part.header.is_some()).count(), 1);
    assert_eq!(parts.iter().flat_map(|part| part.outcomes.clone()).collect::<Vec<_>>(), outcomes);
    assert_eq!(parts.iter().flat_map(|part| part.rows.clone()).collect::<Vec<_>>(), rows);
    // One outcome that is too large by itself loses text, and nothing else.
    let unreadable = (0..100).map(|item| ItemError { item, message: "é".repeat(100 << 10) }).collect();
    let many = OutcomeEnd::Returned { returned: 1, rows_len: 0, spooled: None, unreadable };
    for end in [error(5 << 20), many] {
        let bodies = packed(message(vec![outcome(9, end)], Vec::new()), &spool);
        assert!(bodies.len() == 1 && bodies[0].len() <= MOST_BYTES);
        let outcome = results(unpack(&bodies[0], &spool).unwrap()).outcomes.remove(0);
        match outcome.end {
            OutcomeEnd::Failed(error) => assert_eq!(error.kind, ErrorKind::Exception),
            OutcomeEnd::Returned { unreadable, .. } => assert_eq!(unreadable.len(), 100),
        }
    }
}

#[test]
fn events_that_do_not_fit_lose_text() {
    let (_dir, spool) = spool();
    let text = || "ü".repeat(5 << 20);
    let held = (0..1_000_000u64).map(|number| number * 2..number * 2 + 1).collect();
    let error =
        AttemptError { kind: ErrorKind::Init, message: text(), traceback: text(), stderr: text(), of_all: false };
    for event in [
        NodeEvent::GaveUp { error: Box::new(error) },
        NodeEvent::Broken { message: text() },
        NodeEvent::Beat { by: None, held, doing: Vec::new() },
        NodeEvent::HeldUp { slot: 1, why: Some(text()) },
    ] {
        let sent = FromNode { node: NodeId("node".into()), body: NodeMessage::Event(event) };
        let bodies = packed(sent, &spool);
        assert!(bodies.len() == 1 && bodies[0].len() <= MOST_BYTES);
        unpack(&bodies[0], &spool).unwrap();
    }
}

#[test]
fn a_node_waits_while_too_much_of_its_rows_is_not_collected() {
    let (dir, spool) = spool();
    for number in 0..4 {
        let path = dir.path().join(number.to_string());
        fs::write(&path, b"x").unwrap();
        spool.note(path, 16 << 20);
    }
    let waits = std::sync::atomic::AtomicU32::new(0);
    // It asks whether the flow has ended each time that it finds no room.
    let asked = |most| {
        move |waits: &std::sync::atomic::AtomicU32| waits.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= most
    };
    assert_eq!(spool.wait_for_room(1, &|| asked(2)(&waits)), Err(Closed));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| spool.wait_for_room(1, &|| false));
        fs::remove_file(dir.path().join("2")).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    // One always fits.
    for number in [0, 1, 3] {
        fs::remove_file(dir.path().join(number.to_string())).unwrap();
    }
    assert_eq!(spool.wait_for_room(1 << 40, &|| false), Ok(()));
}
