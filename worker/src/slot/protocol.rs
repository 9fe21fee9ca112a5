//! The frames between worker and Python host (`docs/design/host-protocol.md`), as bytes. No descriptors here.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A frame longer than this is a lie: rows above 8 MiB go to a file, and frames are cut long before.
const MAX_FRAME: usize = 256 << 20;

/// What the host said is not a frame: it, or the script in its name, broke the protocol.
#[derive(Debug, thiserror::Error)]
#[error("it broke the protocol: {0}")]
pub struct Broken(pub String);

/// A frame from the host.
#[derive(Debug, PartialEq)]
pub enum FromHost {
    /// `I`
    Ready(Ready),
    /// `X`
    NotReady(NotReady),
    /// `D`
    Done(Done),
    /// `P`
    Spooled(Spooled),
    /// `F`
    Failed(Failed),
    /// `Q`
    ShutDown(ShutDown),
}

/// The script is loaded and `init()` returned.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Ready {
    /// Python's version.
    pub python: String,
    /// Seconds of import.
    pub load_seconds: f64,
    /// Seconds of `init()`.
    pub init_seconds: f64,
}

/// Import or `init()` failed.
#[derive(Debug, PartialEq, Deserialize)]
pub struct NotReady {
    /// `import` or `init`.
    pub stage: String,
    /// One line.
    pub message: String,
    /// May be empty.
    pub traceback: String,
}

/// Mini-batches that returned, in the order in which they were handed over.
#[derive(Debug, PartialEq)]
pub struct Done {
    /// The id of the first.
    pub first: u64,
    /// One for each.
    pub records: Vec<DoneRecord>,
    /// A DataFrame's header with its newline; empty: none.
    pub header: Vec<u8>,
    /// The rows of all.
    pub rows: Vec<u8>,
}

/// See [`Done`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DoneRecord {
    /// CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// `run()`.
    pub run_ns: u64,
    /// Everything around and including it.
    pub total_ns: u64,
    /// CPU time; for short runs their share of what all of the frame used.
    pub cpu_ns: u64,
    /// Elements returned.
    pub returned: u32,
    /// Bytes of rows.
    pub rows_len: u32,
}

/// A mini-batch whose rows are in a file.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Spooled {
    /// The mini-batch.
    pub mini_batch: u64,
    /// The file, in the spool directory.
    pub path: String,
    /// Its length.
    pub rows_len: u64,
    /// Elements returned.
    pub returned: u64,
    /// As in [`DoneRecord`].
    #[serde(flatten)]
    pub times: Times,
    /// As in [`Done`]: empty: none.
    pub header: String,
}

/// An attempt that failed.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Failed {
    /// The mini-batch.
    pub mini_batch: u64,
    /// `exception`, `bad_return`, `oom`, `exit`.
    pub kind: String,
    /// One line.
    pub message: String,
    /// May be empty.
    pub traceback: String,
    /// As in [`DoneRecord`].
    #[serde(flatten)]
    pub times: Times,
    /// The process must not be used again.
    pub retire: bool,
    /// No part of the mini-batch can be had, either.
    #[serde(default)]
    pub of_all: bool,
}

/// See [`DoneRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Times {
    /// CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// `run()`.
    pub run_ns: u64,
    /// Everything around and including it.
    pub total_ns: u64,
    /// CPU time.
    pub cpu_ns: u64,
}

/// `shutdown()` was called.
#[derive(Debug, PartialEq, Deserialize)]
pub struct ShutDown {
    /// What it raised.
    pub traceback: Option<String>,
}

/// Appends the frame `C`.
pub fn configure(out: &mut Vec<u8>, config: &serde_json::Value) {
    frame(out, b'C', |out| serde_json::to_writer(out, config).expect("a JSON value can be written to memory"));
}

/// Appends the frame `S`.
pub fn shut_down(out: &mut Vec<u8>) {
    frame(out, b'S', |_| ());
}

/// One mini-batch of a frame `R`.
pub struct HandOver {
    /// Its id.
    pub mini_batch: u64,
    /// How many items of the payload are its own.
    pub items: u32,
    /// The attempt.
    pub attempt: u32,
    /// Only a part of it is meant: the first item says which.
    pub part: bool,
}

/// In the attempt of a mini-batch of which only a part is meant.
const PART: u32 = 1 << 31;
/// Attempts are never more: [`PART`] is free.
pub const MOST_ATTEMPTS: u32 = PART - 1;

/// Appends the frame `R`; `items` are the names of all, each ended by the separator.
pub fn run(out: &mut Vec<u8>, mini_batches: &[HandOver], items: &[u8]) {
    frame(out, b'R', |out| {
        out.extend_from_slice(&(mini_batches.len() as u32).to_le_bytes());
        for mini_batch in mini_batches {
            out.extend_from_slice(&mini_batch.mini_batch.to_le_bytes());
            out.extend_from_slice(&mini_batch.items.to_le_bytes());
            let attempt = mini_batch.attempt | if mini_batch.part { PART } else { 0 };
            out.extend_from_slice(&attempt.to_le_bytes());
        }
        out.extend_from_slice(items);
    });
}

fn frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    body(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// Takes frames out of the bytes that came so far.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were taken already.
    taken: usize,
}

impl Decoder {
    /// Where to read further bytes to; see [`Decoder::filled`].
    pub fn spare(&mut self, at_least: usize) -> &mut Vec<u8> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.reserve(at_least);
        &mut self.buffer
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<FromHost>, Broken> {
        let rest = &self.buffer[self.taken..];
        let Some(len) = rest.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else { return Ok(None) };
        if len == 0 || len > MAX_FRAME {
            return Err(Broken(format!("a frame of {len} bytes")));
        }
        let Some(frame) = rest.get(4..4 + len) else { return Ok(None) };
        let decoded = decode(frame[0], &frame[1..])?;
        self.taken += 4 + len;
        if self.taken == self.buffer.len() && self.buffer.capacity() > 4 << 20 {
            // One huge frame must not cost its memory for ever.
            (self.buffer, self.taken) = (Vec::new(), 0);
        }
        Ok(Some(decoded))
    }
}

fn decode(kind: u8, body: &[u8]) -> Result<FromHost, Broken> {
    fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Broken> {
        serde_json::from_slice(body).map_err(|error| Broken(error.to_string()))
    }
    Ok(match kind {
        b'I' => FromHost::Ready(json(body)?),
        b'X' => FromHost::NotReady(json(body)?),
        b'D' => FromHost::Done(done(body).ok_or_else(|| Broken("a short frame of results".into()))?),
        b'P' => FromHost::Spooled(json(body)?),
        b'F' => FromHost::Failed(json(body)?),
        b'Q' => FromHost::ShutDown(json(body)?),
        other => return Err(Broken(format!("a frame of kind {other}"))),
    })
}

fn done(body: &[u8]) -> Option<Done> {
    const RECORD: usize = 32;
    let mut rest = body;
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    let first = u64::from_le_bytes(take(&mut rest)?);
    let shared_cpu_ns = u64::from_le_bytes(take(&mut rest)?);
    let header_len = u32::from_le_bytes(take(&mut rest)?) as usize;
    let (table, mut rest) = rest.split_at_checked(count.checked_mul(RECORD)?)?;
    let measured = u32::from_le_bytes(take(&mut rest)?) as usize;
    let (pairs, rest) = rest.split_at_checked(measured.checked_mul(12)?)?;
    let (header, rows) = rest.split_at_checked(header_len)?;

    let share = shared_cpu_ns / (count.saturating_sub(measured)).max(1) as u64;
    let mut records = Vec::with_capacity(count);
    let mut rows_len = 0;
    for mut record in table.chunks_exact(RECORD) {
        let record = DoneRecord {
            start_ns: u64::from_le_bytes(take(&mut record)?),
            run_ns: u64::from_le_bytes(take(&mut record)?),
            total_ns: u64::from_le_bytes(take(&mut record)?),
            cpu_ns: share,
            returned: u32::from_le_bytes(take(&mut record)?),
            rows_len: u32::from_le_bytes(take(&mut record)?),
        };
        rows_len += record.rows_len as usize;
        records.push(record);
    }
    for mut pair in pairs.chunks_exact(12) {
        let index = u32::from_le_bytes(take(&mut pair)?) as usize;
        records.get_mut(index)?.cpu_ns = u64::from_le_bytes(take(&mut pair)?);
    }
    (rows_len == rows.len()).then(|| Done { first, records, header: header.to_vec(), rows: rows.to_vec() })
}

/// The first `N` bytes of `rest`, which moves on.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, b'D', |out| {
            out.extend_from_slice(&2u32.to_le_bytes());
            out.extend_from_slice(&40u64.to_le_bytes());
            out.extend_from_slice(&500u64.to_le_bytes());
            out.extend_from_slice(&2u32.to_le_bytes());
            for (returned, rows_len) in [(1u32, 2u32), (3, 6)] {
                for n in [10u64, 20, 30] {
                    out.extend_from_slice(&n.to_le_bytes());
                }
                out.extend_from_slice(&returned.to_le_bytes());
                out.extend_from_slice(&rows_len.to_le_bytes());
            }
            out.extend_from_slice(&1u32.to_le_bytes());
            out.extend_from_slice(&1u32.to_le_bytes());
            out.extend_from_slice(&2_000_000u64.to_le_bytes());
            out.extend_from_slice(b"h\na\nb\nc\nd\n");
        });
        frame(&mut bytes, b'Q', |out| out.extend_from_slice(br#"{"traceback":null}"#));
        bytes
    }

    #[test]
    fn frames_are_taken_however_they_are_cut() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.spare(1).extend_from_slice(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            let record = |cpu_ns, returned, rows_len| DoneRecord {
                start_ns: 10,
                run_ns: 20,
                total_ns: 30,
                cpu_ns,
                returned,
                rows_len,
            };
            let done = Done {
                first: 40,
                records: vec![record(500, 1, 2), record(2_000_000, 3, 6)],
                header: b"h\n".to_vec(),
                rows: b"a\nb\nc\nd\n".to_vec(),
            };
            assert_eq!(frames, [FromHost::Done(done), FromHost::ShutDown(ShutDown { traceback: None })]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.spare(1).extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
            for kind in *b"DIXPFQ" {
                let _ = decode(kind, &bytes);
            }
        }
    }
}
