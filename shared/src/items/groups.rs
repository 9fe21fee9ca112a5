//! Rows of tables that were gathered by the values of columns (`docs/design/groups.md`): their records, and where each came from.
//!
//! `groups`: headers; then for each mini-batch its records and its tail. `origins`: 12 bytes a row. Both are synced before the slices that
//! point into them are. What is read has passed its CRC: tails here, records where they are read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{ItemsError, Slice, format};
use crate::failpoint;
use crate::report::During;

/// Bytes of a row in `origins`.
pub const ORIGIN: usize = 12;
/// Rows that are read together.
const ORIGINS_AT_ONCE: u64 = 4096;
/// The length and the CRC-32 of a tail.
const SEAL: usize = 8;
/// A tail of more is damaged, bytes.
const LONGEST_TAIL: u32 = 1 << 30;

/// The value of one key; None: there is none, as null in JSON.
pub type KeyValue = Option<ByteBuf>;

/// One mini-batch of rows that have the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The values, in the order of the keys; text in the encoding of the files.
    pub key: Vec<KeyValue>,
    /// Its rows, in their order.
    pub segments: Vec<Segment>,
}

/// Rows of a group that are read together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The file that the first of them is from.
    pub entry: u32,
    /// How many there are.
    pub rows: u64,
    /// Their header in `groups`; empty: there is none.
    pub header: Range<u64>,
    /// How many columns their first file has; 0: that is not known.
    pub columns: u32,
    /// Their records in `groups`; empty where they stay in their file.
    pub records: Range<u64>,
    /// The CRC-32 of their records; where these stay in their file, of their origins.
    pub crc32: u32,
}

/// Where a row came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file's entry in the list.
    pub entry: u32,
    /// The row in it, from 0, the header not counted.
    pub row: u64,
}

impl Origin {
    fn encode(self) -> [u8; ORIGIN] {
        let mut bytes = [0; ORIGIN];
        bytes[..4].copy_from_slice(&self.entry.to_le_bytes());
        bytes[4..].copy_from_slice(&self.row.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ORIGIN]) -> Origin {
        let (entry, row) = bytes.split_at(4);
        let entry = u32::from_le_bytes(entry.try_into().expect("four bytes"));
        Origin { entry, row: u64::from_le_bytes(row.try_into().expect("eight bytes")) }
    }
}

/// The number of a header that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeId(pub u32);

#[derive(Debug)]
struct Shape {
    header: Range<u64>,
    columns: u32,
}

/// Writes groups, one after the other.
#[derive(Debug)]
pub struct GroupWriter {
    path: PathBuf,
    file: BufWriter<File>,
    at: u64,
    origins_path: PathBuf,
    origins: BufWriter<File>,
    shapes: Vec<Shape>,
    segments: Vec<Segment>,
    /// Of the segment that is being written: its shape, and the CRC-32 so far.
    open: Option<(ShapeId, crc32fast::Hasher)>,
    start: u64,
    /// Records stay in their files.
    by_origin: bool,
}

impl GroupWriter {
    /// Begins in the directory of a list that is not complete. `by_origin`: records stay in their files, and rows are told by their numbers.
    pub fn create(dir: &Path, by_origin: bool) -> Result<GroupWriter, ItemsError> {
        let (path, origins_path) = (format::groups(dir), format::origins(dir));
        let file = BufWriter::with_capacity(1 << 18, File::create(&path).during("create", &path)?);
        let origins = BufWriter::with_capacity(1 << 16, File::create(&origins_path).during("create", &origins_path)?);
        let (shapes, segments) = (Vec::new(), Vec::new());
        Ok(GroupWriter { path, file, at: 0, origins_path, origins, shapes, segments, open: None, start: 0, by_origin })
    }

    /// Writes a header that records have, and how many columns the first of its files has. Not within a group.
    pub fn shape(&mut self, header: &[u8], columns: u32) -> Result<ShapeId, ItemsError> {
        let start = self.at;
        self.put(header)?;
        self.shapes.push(Shape { header: start..self.at, columns });
        self.start = self.at;
        Ok(ShapeId(self.shapes.len() as u32 - 1))
    }

    /// Adds a row to the group. `apart`: its file is read by itself.
    pub fn row(&mut self, origin: Origin, shape: ShapeId, record: &[u8], apart: bool) -> Result<(), ItemsError> {
        let goes_on = |(open, _): &(ShapeId, _), last: &Segment| {
            *open == shape && (last.entry == origin.entry || !(apart || self.by_origin))
        };
        let goes_on = self.open.as_ref().zip(self.segments.last()).is_some_and(|(open, last)| goes_on(open, last));
        if !goes_on {
            self.close();
            let Shape { header, columns } = &self.shapes[shape.0 as usize];
            self.segments.push(Segment {
                entry: origin.entry,
                rows: 0,
                header: header.clone(),
                columns: *columns,
                records: self.at..self.at,
                crc32: 0,
            });
            self.open = Some((shape, crc32fast::Hasher::new()));
        }
        self.put(record)?;
        let bytes = origin.encode();
        self.origins.write_all(&bytes).during("write", &self.origins_path)?;
        let (_, crc32) = self.open.as_mut().expect("opened above");
        crc32.update(if self.by_origin { &bytes } else { record });
        let segment = self.segments.last_mut().expect("pushed above");
        segment.rows += 1;
        segment.records.end = self.at;
        Ok(())
    }

    /// Ends the group, whose rows have these values. Its slice, in an input that begins with `entry`, and the number of its rows.
    pub fn end(&mut self, key: Vec<KeyValue>, entry: u32) -> Result<(Slice, u64), ItemsError> {
        self.close();
        let group = Group { key, segments: std::mem::take(&mut self.segments) };
        let rows = group.segments.iter().map(|segment| segment.rows).sum();
        let tail = rmp_serde::to_vec(&group).expect("a group is plain data");
        let mut seal = [0; SEAL];
        seal[..4].copy_from_slice(&(tail.len() as u32).to_le_bytes());
        seal[4..].copy_from_slice(&crc32fast::hash(&tail).to_le_bytes());
        self.put(&tail)?;
        self.put(&seal)?;
        let part = std::mem::replace(&mut self.start, self.at)..self.at;
        Ok((Slice::group(entry, part), rows))
    }

    /// Makes all of it durable.
    pub fn finish(self) -> Result<(), ItemsError> {
        for (file, path) in [(self.file, &self.path), (self.origins, &self.origins_path)] {
            let file = file.into_inner().map_err(|error| error.into_error()).during("write", path)?;
            file.sync_all().during("sync", path)?;
        }
        failpoint!("items_groups_synced");
        Ok(())
    }

    fn close(&mut self) {
        if let Some((_, crc32)) = self.open.take() {
            self.segments.last_mut().expect("one is open").crc32 = crc32.finalize();
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ItemsError> {
        self.file.write_all(bytes).during("write", &self.path)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The tail of the group in `part` of the file in `dir`.
pub(super) fn read(dir: &Path, part: Range<u64>) -> Result<Group, ItemsError> {
    let path = format::groups(dir);
    let damaged = |what: &str| ItemsError::Damaged { path: path.clone(), items: None, what: what.into() };
    let file = File::open(&path).map_err(|error| super::reader::missing_is_damage(error, &path))?;
    let pread = |bytes: &mut [u8], at: u64| match file.read_exact_at(bytes, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(damaged("it has become shorter")),
        read => Ok(read.during("read", &path)?),
    };
    let mut seal = [0; SEAL];
    let sealed = part.end.checked_sub(SEAL as u64).filter(|at| *at >= part.start);
    let sealed = sealed.ok_or_else(|| damaged("a group in it has no end"))?;
    pread(&mut seal, sealed)?;
    let [len, crc32] = [0, 4].map(|at| u32::from_le_bytes(seal[at..at + 4].try_into().expect("four bytes")));
    let start = sealed.checked_sub(len.into()).filter(|at| *at >= part.start && len <= LONGEST_TAIL);
    let start = start.ok_or_else(|| damaged("a group in it has no end"))?;
    let mut tail = vec![0; len as usize];
    pread(&mut tail, start)?;
    if crc32fast::hash(&tail) != crc32 {
        return Err(damaged("the checksum of a group is wrong"));
    }
    rmp_serde::from_slice(&tail).map_err(|_| damaged("a group in it can't be understood"))
}

/// Where the row with this ordinal came from.
pub(super) fn origin(dir: &Path, ordinal: u64) -> Result<Origin, ItemsError> {
    let mut found = Origin { entry: 0, row: 0 };
    for_each_origin(dir, ordinal..ordinal + 1, |origin| found = origin)?;
    Ok(found)
}

/// Calls `visit` with where each row with these ordinals came from.
pub(super) fn for_each_origin(
    dir: &Path,
    ordinals: Range<u64>,
    mut visit: impl FnMut(Origin),
) -> Result<(), ItemsError> {
    let path = format::origins(dir);
    let file = File::open(&path).map_err(|error| super::reader::missing_is_damage(error, &path))?;
    let mut next = ordinals.start;
    let mut bytes = Vec::new();
    while next < ordinals.end {
        let rows = (ordinals.end - next).min(ORIGINS_AT_ONCE);
        bytes.resize(rows as usize * ORIGIN, 0);
        file.read_exact_at(&mut bytes, next * ORIGIN as u64).during("read", &path)?;
        bytes.as_chunks::<ORIGIN>().0.iter().map(Origin::decode).for_each(&mut visit);
        next += rows;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> KeyValue {
        Some(ByteBuf::from(text))
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = GroupWriter::create(dir.path(), false).unwrap();
        let one = writer.shape(b"a,b\n", 2).unwrap();
        let other = writer.shape(b"b\n", 1).unwrap();
        let from = |entry, row| Origin { entry, row };
        writer.row(from(0, 3), one, b"1,2\n", false).unwrap();
        writer.row(from(1, 0), one, b"1,3\n", false).unwrap();
        writer.row(from(2, 7), other, b"4\n", false).unwrap();
        let (first, rows) = writer.end(vec![value("x\0"), None], 0).unwrap();
        assert_eq!((rows, first.entries()), (3, 0..0));
        writer.row(from(1, 1), one, b"5,6\n", true).unwrap();
        writer.row(from(2, 0), one, b"7,8\n", true).unwrap();
        let (second, _) = writer.end(vec![value("y")], 0).unwrap();
        writer.finish().unwrap();

        let group = read(dir.path(), first.part.clone()).unwrap();
        assert_eq!(group.key, [value("x\0"), None]);
        let told: Vec<_> =
            group.segments.iter().map(|segment| (segment.entry, segment.rows, segment.columns)).collect();
        assert_eq!(told, [(0, 2, 2), (2, 1, 1)]);
        let bytes = std::fs::read(format::groups(dir.path())).unwrap();
        let cut = |range: &Range<u64>| &bytes[range.start as usize..range.end as usize];
        let segment = &group.segments[0];
        assert_eq!((cut(&segment.header), cut(&segment.records)), (&b"a,b\n"[..], &b"1,2\n1,3\n"[..]));
        assert_eq!(segment.crc32, crc32fast::hash(b"1,2\n1,3\n"));
        assert_eq!(read(dir.path(), second.part.clone()).unwrap().segments.len(), 2, "each file by itself");
        assert_eq!(origin(dir.path(), 2).unwrap(), from(2, 7));
        let mut origins = Vec::new();
        for_each_origin(dir.path(), 1..4, |origin| origins.push(origin)).unwrap();
        assert_eq!(origins, [from(1, 0), from(2, 7), from(1, 1)]);

        // A flipped bit does not go unnoticed.
        let mut broken = bytes.clone();
        broken[first.part.end as usize - 9] ^= 1;
        std::fs::write(format::groups(dir.path()), &broken).unwrap();
        assert!(read(dir.path(), first.part.clone()).unwrap_err().to_string().contains("checksum"));
        std::fs::write(format::groups(dir.path()), &bytes[..20]).unwrap();
        assert!(read(dir.path(), first.part).unwrap_err().to_string().contains("shorter"));
    }
}
