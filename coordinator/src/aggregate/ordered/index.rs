//! Where the rows of each mini-batch lie, by its number: a file of 16 bytes for each.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::aggregate::CommitError;
use crate::aggregate::rewrite::failed;

/// Bytes of an entry: where the rows begin, one more than that, and how much they are. 0 and 0: there are none.
const ENTRY: usize = 16;
/// In place of where they begin: they came in parts.
const IN_PARTS: u64 = u64::MAX;

/// Rows of a mini-batch, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::aggregate) struct Place {
    /// The committed position of the first one.
    pub at: u64,
    /// How much they are; never 0.
    pub amount: u64,
}

/// See the module documentation.
pub(super) struct Index {
    path: PathBuf,
    file: File,
    in_parts: HashSet<u64>,
    /// By mini-batch and first item. Those that are bisected are few.
    parts: BTreeMap<(u64, u64), Place>,
}

impl Index {
    /// An index without an entry. What lies at `path` is of a start that died in the middle of it.
    pub fn create(path: &Path, mini_batches: u64) -> Result<Index, CommitError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", path, error)),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| failed("create", path, error))?;
        let refused = |error| failed("write to", path, error);
        file.set_len(mini_batches * ENTRY as u64).map_err(refused)?;
        // Nobody but this pass needs it.
        fs::remove_file(path).map_err(refused)?;
        Ok(Index { path: path.to_path_buf(), file, in_parts: HashSet::new(), parts: BTreeMap::new() })
    }

    /// Notes a part of a mini-batch.
    pub fn part(&mut self, mini_batch: u64, first_item: u64, place: Place) {
        self.in_parts.insert(mini_batch);
        self.parts.insert((mini_batch, first_item), place);
    }

    /// Notes whole mini-batches. Neighbours are written together: they are mostly committed in their order.
    pub fn put(&self, mut entries: Vec<(u64, Place)>) -> Result<(), CommitError> {
        entries.sort_unstable_by_key(|(mini_batch, _)| *mini_batch);
        for run in entries.chunk_by(|(before, _), (after, _)| before + 1 == *after) {
            let bytes: Vec<u8> = run
                .iter()
                .flat_map(|(_, place)| [(place.at + 1).to_le_bytes(), place.amount.to_le_bytes()])
                .flatten()
                .collect();
            self.write(run[0].0, &bytes)?;
        }
        Ok(())
    }

    /// Everything was noted.
    pub fn complete(&mut self) -> Result<(), CommitError> {
        let mut in_parts: Vec<u64> = self.in_parts.drain().collect();
        in_parts.sort_unstable();
        for mini_batch in in_parts {
            self.write(mini_batch, &[IN_PARTS.to_le_bytes(), [0; 8]].concat())?;
        }
        Ok(())
    }

    fn write(&self, mini_batch: u64, bytes: &[u8]) -> Result<(), CommitError> {
        let written = self.file.write_all_at(bytes, mini_batch * ENTRY as u64);
        written.map_err(|error| failed("write to", &self.path, error))
    }

    /// Where the rows of these mini-batches lie, in the order of their items.
    pub fn places(&self, mini_batches: Range<u64>) -> Result<Vec<Place>, CommitError> {
        let mut bytes = vec![0; (mini_batches.end - mini_batches.start) as usize * ENTRY];
        let read = self.file.read_exact_at(&mut bytes, mini_batches.start * ENTRY as u64);
        read.map_err(|error| failed("read", &self.path, error))?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let mut places = Vec::new();
        for (mini_batch, entry) in mini_batches.zip(bytes.chunks_exact(ENTRY)) {
            match (word(&entry[..8]), word(&entry[8..])) {
                (IN_PARTS, _) => {
                    let parts = self.parts.range((mini_batch, 0)..(mini_batch + 1, 0));
                    places.extend(parts.map(|(_, place)| *place).filter(|place| place.amount > 0));
                }
                (_, 0) => {}
                (at, amount) => places.push(Place { at: at - 1, amount }),
            }
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_in_the_order_of_the_input_whenever_they_were_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order");
        fs::write(&path, "of a start that died").unwrap();
        let mut index = Index::create(&path, 7).unwrap();
        assert!(!path.exists());
        let place = |at, amount| Place { at, amount };
        index.put(vec![(6, place(0, 1)), (0, place(7, 2))]).unwrap();
        index.part(3, 16, place(9, 3));
        index.part(3, 15, place(12, 0));
        index.put(vec![(1, place(1, 6))]).unwrap();
        index.part(3, 14, place(20, 5));
        index.complete().unwrap();
        assert_eq!(index.places(0..2).unwrap(), [place(7, 2), place(1, 6)]);
        assert_eq!(index.places(2..7).unwrap(), [place(20, 5), place(9, 3), place(0, 1)]);
    }
}
