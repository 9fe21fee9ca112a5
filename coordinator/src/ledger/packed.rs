//! The packed column of a commit group: about 20 bytes for each mini-batch that returned.
//!
//! All numbers are varints (LEB128), differences of neighbours zigzag-coded first. A record is: mini-batch id minus the
//! previous one; flags and attempt; process (row of `processes`); start minus the previous start (µs); elapsed, run and CPU
//! time (µs); returned, if it is not the number of items; unreadable items, if there are any; of a part of a mini-batch, how many items lie
//! before it and in it; length of the rows (bytes).

use std::ops::Range;

use fanfold_shared::split::Split;

/// `returned` is written out.
const RETURNED: u64 = 1;
/// `unreadable` is written out.
const UNREADABLE: u64 = 2;
/// It is of a part of the mini-batch, which is written out.
const PART: u64 = 4;
/// Flags take this many bits below the attempt. One of them waits for records that a later version may need; this version
/// refuses it rather than misread what follows.
const FLAG_BITS: u32 = 4;

/// One mini-batch that returned, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub mini_batch: u64,
    /// Which of its items, counted within it, if they are not all.
    pub part: Option<Range<u64>>,
    pub attempt: u32,
    /// The row of `processes`.
    pub process: u64,
    pub started_us: u64,
    pub elapsed_us: u64,
    pub run_us: u64,
    pub cpu_us: u64,
    pub returned: u64,
    pub unreadable: u64,
    pub rows_len: u64,
}

impl Record {
    /// Items of a mini-batch of `items` that failed: the missing ones, and at least those that were never given to `run()`.
    pub fn failed_items(&self, items: u64) -> u64 {
        items.saturating_sub(self.returned).max(self.unreadable)
    }

    /// Whether `run()` returned fewer elements than the items that it was given: what it never saw is not its fault.
    pub fn is_short(&self, items: u64) -> bool {
        self.returned < items.saturating_sub(self.unreadable)
    }

    /// Elements returned beyond one for each item that was given to `run()`.
    pub fn surplus(&self, items: u64) -> u64 {
        self.returned.saturating_sub(items - self.unreadable.min(items))
    }
}

/// Writes records one after the other.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    count: u64,
    previous_id: u64,
    previous_start: u64,
}

impl Packer {
    /// Appends a record of `items` items.
    #[inline]
    pub fn push(&mut self, record: &Record, items: u64) {
        let mut flags = u64::from(record.attempt) << FLAG_BITS;
        if record.returned != items {
            flags |= RETURNED;
        }
        if record.unreadable != 0 {
            flags |= UNREADABLE;
        }
        if record.part.is_some() {
            flags |= PART;
        }
        // Twelve varints at their longest; most are one or two bytes long.
        self.bytes.reserve(120);
        self.varint(zigzag(record.mini_batch, self.previous_id));
        self.varint(flags);
        self.varint(record.process);
        self.varint(zigzag(record.started_us, self.previous_start));
        self.varint(record.elapsed_us);
        self.varint(record.run_us);
        self.varint(record.cpu_us);
        if flags & RETURNED != 0 {
            self.varint(record.returned);
        }
        if flags & UNREADABLE != 0 {
            self.varint(record.unreadable);
        }
        if let Some(part) = &record.part {
            self.varint(part.start);
            self.varint(part.end - part.start);
        }
        self.varint(record.rows_len);
        self.previous_id = record.mini_batch;
        self.previous_start = record.started_us;
        self.count += 1;
    }

    /// The records so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their number.
    pub fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Why packed bytes can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecodable {
    #[error("a record ends in the middle")]
    Cut,
    #[error("a number has more than 64 bits")]
    TooLong,
    #[error("a record has flags that this program does not know")]
    UnknownFlags,
    #[error("mini-batch {0} is beyond the split")]
    BeyondSplit(u64),
    #[error("mini-batch {0} has not got the part that is recorded of it")]
    NoSuchPart(u64),
}

/// Reads what a [`Packer`] wrote. Ends after the first error.
pub(crate) struct Unpacker<'a> {
    bytes: &'a [u8],
    split: &'a Split,
    mini_batches: u64,
    previous_id: u64,
    previous_start: u64,
}

impl<'a> Unpacker<'a> {
    pub fn new(bytes: &'a [u8], split: &'a Split) -> Unpacker<'a> {
        Unpacker { bytes, split, mini_batches: split.mini_batches(), previous_id: 0, previous_start: 0 }
    }

    fn record(&mut self) -> Result<(Record, Range<u64>), Undecodable> {
        let mini_batch = unzigzag(self.varint()?, self.previous_id);
        let flags = self.varint()?;
        if flags & ((1 << FLAG_BITS) - 1) & !(RETURNED | UNREADABLE | PART) != 0 {
            return Err(Undecodable::UnknownFlags);
        }
        if mini_batch >= self.mini_batches {
            return Err(Undecodable::BeyondSplit(mini_batch));
        }
        let (_, whole) = self.split.mini_batch(mini_batch);
        let attempt = u32::try_from(flags >> FLAG_BITS).map_err(|_| Undecodable::TooLong)?;
        let process = self.varint()?;
        let started_us = unzigzag(self.varint()?, self.previous_start);
        let (elapsed_us, run_us, cpu_us) = (self.varint()?, self.varint()?, self.varint()?);
        let returned = if flags & RETURNED != 0 { Some(self.varint()?) } else { None };
        let unreadable = if flags & UNREADABLE != 0 { self.varint()? } else { 0 };
        let part = if flags & PART != 0 { Some(self.part(mini_batch, whole.end - whole.start)?) } else { None };
        let items = match &part {
            Some(part) => whole.start + part.start..whole.start + part.end,
            None => whole,
        };
        let returned = returned.unwrap_or(items.end - items.start);
        let rows_len = self.varint()?;
        (self.previous_id, self.previous_start) = (mini_batch, started_us);
        let record = Record {
            mini_batch,
            part,
            attempt,
            process,
            started_us,
            elapsed_us,
            run_us,
            cpu_us,
            returned,
            unreadable,
            rows_len,
        };
        Ok((record, items))
    }

    fn part(&mut self, mini_batch: u64, whole: u64) -> Result<Range<u64>, Undecodable> {
        let (start, items) = (self.varint()?, self.varint()?);
        let end = start.checked_add(items).filter(|end| *end <= whole && items > 0);
        end.map(|end| start..end).ok_or(Undecodable::NoSuchPart(mini_batch))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut value = 0u64;
        for (index, byte) in self.bytes.iter().enumerate() {
            let shift = 7 * index as u32;
            let part = u64::from(byte & 0x7F);
            if shift >= 64 || (part << shift) >> shift != part {
                return Err(Undecodable::TooLong);
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(Undecodable::Cut)
    }
}

impl Iterator for Unpacker<'_> {
    type Item = Result<(Record, Range<u64>), Undecodable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.bytes = &[];
        }
        Some(record)
    }
}

fn zigzag(value: u64, previous: u64) -> u64 {
    let difference = value.wrapping_sub(previous) as i64;
    ((difference << 1) ^ (difference >> 63)) as u64
}

fn unzigzag(coded: u64, previous: u64) -> u64 {
    let difference = (coded >> 1) as i64 ^ -((coded & 1) as i64);
    previous.wrapping_add(difference as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfold_shared::split::SplitInput;
    use proptest::prelude::*;

    fn split() -> Split {
        let input = |name: &str, items| SplitInput::of_items(name, "", items);
        Split { inputs: vec![input("a", 0..95), input("b", 95..1000)], ..Split::even(10) }
    }

    fn record() -> impl Strategy<Value = Record> {
        let number = || prop_oneof![4 => 0u64..100_000, 1 => any::<u64>()];
        let times = (number(), number(), number(), number());
        (0..split().mini_batches(), 1u32.., 0u64..9, times, 0u64..12, 0u64..3, number(), any::<(bool, u8, u8)>())
            .prop_map(
                |(mini_batch, attempt, process, times, returned, unreadable, rows_len, (bisected, first, items))| {
                    Record {
                        mini_batch,
                        part: bisected.then(|| {
                            let whole = split().mini_batch(mini_batch).1;
                            let start = u64::from(first) % (whole.end - whole.start);
                            start..start + 1 + u64::from(items) % (whole.end - whole.start - start)
                        }),
                        attempt,
                        process,
                        started_us: times.0,
                        elapsed_us: times.1,
                        run_us: times.2,
                        cpu_us: times.3,
                        returned,
                        unreadable,
                        rows_len,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(records in prop::collection::vec(record(), 0..40)) {
            let split = split();
            let mut packer = Packer::default();
            for record in &records {
                let (_, whole) = split.mini_batch(record.mini_batch);
                let items = record.part.clone().unwrap_or(0..whole.end - whole.start);
                packer.push(record, items.end - items.start);
            }
            prop_assert_eq!(packer.count(), records.len() as u64);
            let unpacked: Vec<Record> = Unpacker::new(packer.bytes(), &split).map(|r| r.unwrap().0).collect();
            prop_assert_eq!(unpacked, records);
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let split = split();
            for record in Unpacker::new(&bytes, &split).flatten() {
                prop_assert!(record.0.mini_batch < split.mini_batches());
            }
        }
    }

    #[test]
    fn an_ordinary_record_takes_about_twenty_bytes() {
        let split = Split { inputs: vec![SplitInput::of_items("a", "", 0..10_000_000)], ..Split::even(10) };
        let mut packer = Packer::default();
        for index in 0..10_000u64 {
            let record = Record {
                mini_batch: 500_000 + index,
                part: None,
                attempt: 1,
                process: index % 8,
                started_us: 1_790_000_000_000_000 + index * 700,
                elapsed_us: 25_000,
                run_us: 23_000,
                cpu_us: 20_000,
                returned: 10,
                unreadable: 0,
                rows_len: 400,
            };
            packer.push(&record, 10);
        }
        assert!(packer.bytes().len() <= 20 * 10_000, "{} bytes", packer.bytes().len());
        assert_eq!(Unpacker::new(packer.bytes(), &split).flatten().count(), 10_000);
    }

    #[test]
    fn a_cut_record_is_named() {
        let split = split();
        let mut packer = Packer::default();
        let record = Record {
            mini_batch: 3,
            part: None,
            attempt: 1,
            process: 1,
            started_us: 5,
            elapsed_us: 1,
            run_us: 1,
            cpu_us: 1,
            returned: 10,
            unreadable: 0,
            rows_len: 300,
        };
        packer.push(&record, 10);
        let bytes = packer.bytes();
        for cut in 1..bytes.len() {
            let outcome: Vec<_> = Unpacker::new(&bytes[..cut], &split).collect();
            assert_eq!(outcome, vec![Err(Undecodable::Cut)], "cut at {cut}");
        }
    }
}
