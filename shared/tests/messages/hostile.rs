//! What comes from a queue is nobody's promise.

use fanfold_shared::fleet::wire::{self, MOST_BYTES, WireError};
use fanfold_shared::fleet::{Command, Control, JobRequest, Ticket};
use fanfold_shared::ids::{JobId, NodeId, ProcessNumber};
use fanfold_shared::message::{
    AttemptError, ErrorKind, FromNode, NodeEvent, NodeMessage, Outcome, OutcomeEnd, Results, Task, VERSION,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::samples;
use crate::watched::largest;

/// Nobody reserves more for what a message only announces (serde's own bound is 1 MiB).
const MOST: usize = (1 << 20) + (64 << 10);

/// Tries to read it as each of the types; the largest block of memory that took.
fn tried(bytes: &[u8]) -> usize {
    largest(|| {
        let _ = wire::decode::<Task>(bytes);
        let _ = wire::decode::<FromNode>(bytes);
        let _ = wire::decode::<Ticket>(bytes);
        let _ = wire::decode::<Control>(bytes);
        let _ = wire::decode_foreign::<JobRequest>(None, bytes.get(1..).unwrap_or(&[]));
    })
}

fn all() -> Vec<Vec<u8>> {
    let mut all: Vec<_> = samples::from_node().iter().map(|(_, message)| wire::encode(message)).collect();
    all.extend(samples::tasks().iter().map(|(_, message)| wire::encode(message)));
    all.extend(samples::controls().iter().map(|(_, message)| wire::encode(message)));
    all.push(wire::encode(&samples::ticket()));
    all.extend(samples::requests().iter().map(|(_, message)| wire::encode(message)));
    all
}

#[test]
fn announced_lengths_reserve_nothing() {
    for message in all() {
        // Each byte in turn begins a string, bytes, an array or a map of 4 GiB; as the last byte there is, or in place of the next ones.
        for at in 1..message.len() {
            for kind in [0xc6u8, 0xc9, 0xdb, 0xdd, 0xdf] {
                for length in [[0xff; 4], [0x00, 0x40, 0x00, 0x00]] {
                    let head = [&[kind][..], &length].concat();
                    let cut = [&message[..at], &head].concat();
                    let most = tried(&cut);
                    assert!(most <= MOST, "{most} bytes for {cut:x?}");
                    let after = (at + head.len()).min(message.len());
                    assert!(tried(&[&cut, &message[after..]].concat()) <= MOST);
                }
            }
        }
    }
}

#[test]
fn what_is_cut_too_long_too_deep_or_of_another_version_is_an_error() {
    for message in all() {
        for cut in 0..message.len() {
            tried(&message[..cut]);
            assert!(wire::decode::<FromNode>(&message[..cut]).is_err());
        }
        let other = [&[VERSION as u8 + 1], &message[1..]].concat();
        assert!(matches!(wire::decode::<FromNode>(&other), Err(WireError::Version { .. })));
    }
    assert!(matches!(wire::decode::<Task>(&vec![1; MOST_BYTES + 1]), Err(WireError::TooLarge(_))));
    assert!(matches!(wire::decode::<Task>(&[]), Err(WireError::Empty)));
    for nested in [0x91, 0x81, 0xc7] {
        assert!(tried(&[vec![1], vec![nested; 1 << 20]].concat()) <= MOST);
    }
}

fn event() -> impl Strategy<Value = NodeEvent> {
    let task = || (any::<std::ops::Range<u64>>(), any::<u32>(), any::<bool>());
    let task =
        move || task().prop_map(|(mini_batches, attempt, alone)| Task { mini_batches, attempt, alone, part: None });
    prop_oneof![
        vec(any::<std::ops::Range<u64>>(), 0..50).prop_map(|held| NodeEvent::Beat {
            by: None,
            held,
            doing: Vec::new()
        }),
        (task(), any::<u32>()).prop_map(|(task, hand_overs)| NodeEvent::HandedBack { task, hand_overs }),
        vec(task(), 0..20).prop_map(|tasks| NodeEvent::Leased { tasks }),
        (any::<String>(), any::<bool>()).prop_map(|(why, anywhere)| NodeEvent::CannotJoin { why, anywhere }),
        any::<u64>().prop_map(|bytes| NodeEvent::Downloading { bytes }),
        (any::<u32>(), option::of(any::<String>())).prop_map(|(slot, why)| NodeEvent::HeldUp { slot, why }),
        (any::<String>(), any::<u32>(), vec(any::<String>(), 0..9))
            .prop_map(|(host, processes, devices)| NodeEvent::Joined { host, processes, devices }),
    ]
}

fn end() -> impl Strategy<Value = OutcomeEnd> {
    let failed = (0..ErrorKind::ALL.len(), any::<String>(), any::<String>(), any::<String>());
    prop_oneof![
        (any::<u64>(), any::<u64>(), option::of("[a-z0-9]{1,40}")).prop_map(|(returned, rows_len, spooled)| {
            OutcomeEnd::Returned { returned, rows_len, spooled: spooled.map(Into::into), unreadable: Vec::new() }
        }),
        failed.prop_map(|(kind, message, traceback, stderr)| {
            OutcomeEnd::Failed(Box::new(AttemptError {
                kind: ErrorKind::ALL[kind],
                message,
                traceback,
                stderr,
                of_all: false,
            }))
        }),
    ]
}

fn results() -> impl Strategy<Value = Results> {
    let outcome = (any::<u64>(), any::<std::ops::Range<u64>>(), any::<u32>(), any::<[u64; 4]>(), end());
    let outcome = outcome.prop_map(|(mini_batch, items, attempt, [started_us, elapsed_us, run_us, cpu_us], end)| {
        Outcome { mini_batch, items, attempt, started_us, elapsed_us, run_us, cpu_us, end }
    });
    let all = (any::<u32>(), vec(outcome, 0..20), vec(any::<u8>(), 0..500), option::of(vec(any::<u8>(), 0..50)));
    all.prop_map(|(process, outcomes, rows, header)| Results {
        process: ProcessNumber(process),
        outcomes,
        rows,
        header,
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(node in any::<String>(), event in event(), results in results()) {
        for body in [NodeMessage::Event(event), NodeMessage::Results(results)] {
            let message = FromNode { node: NodeId(node.clone()), body };
            prop_assert_eq!(&wire::decode::<FromNode>(&wire::encode(&message)).unwrap(), &message);
        }
        let control = Control { job: JobId(node.clone()), node: NodeId(node), command: Command::Drain };
        prop_assert_eq!(&wire::decode::<Control>(&wire::encode(&control)).unwrap(), &control);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(tried(&bytes) <= MOST);
        prop_assert!(tried(&[vec![VERSION as u8], bytes].concat()) <= MOST);
    }

    #[test]
    fn damaged_messages_are_an_error_or_another_message(
        which in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let all = all();
        let mut message = which.get(&all).clone();
        for (at, byte, how) in damage {
            let at = at.index(message.len());
            match how {
                0 => message[at] = byte,
                1 => message.insert(at, byte),
                _ if message.len() > 1 => { message.remove(at); }
                _ => {}
            }
        }
        prop_assert!(tried(&message) <= MOST);
    }
}
