//! Whether there is room for the rows to be gathered, before the first of them is read.

use std::path::Path;

use fanfold_shared::items::Fingerprints;
use fanfold_shared::job::InputType;
use nix::sys::statvfs::statvfs;

use super::size;
use crate::prepare::ListError;

/// Files that are looked at together.
const STRETCH: u64 = 4096;

/// Refuses where the file system of `dir` has not enough room for files of so many bytes: what is sorted and what is gathered lie there at the
/// same time. It is a look, and no reservation.
pub(super) fn check(dir: &Path, entries: u64, fingerprints: &Fingerprints, kind: InputType) -> Result<(), ListError> {
    let (mut data, mut start) = (0u64, 0);
    while start < entries {
        let end = entries.min(start + STRETCH);
        data += fingerprints.get(start..end)?.iter().map(size).sum::<u64>();
        start = end;
    }
    let needed = match kind {
        // The values of the keys and numbers of rows.
        InputType::Parquet => data,
        _ => data / 2 * 5,
    };
    // A file system that does not say counts as empty.
    let Ok(found) = statvfs(dir) else { return Ok(()) };
    let free = found.blocks_available() * found.fragment_size();
    match needed > free {
        true => Err(ListError::NoRoom { dir: dir.to_path_buf(), needed, free }),
        false => Ok(()),
    }
}
