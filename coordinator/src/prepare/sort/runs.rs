//! Sorted runs on disk: written, and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use fanfold_shared::items::spill_file;
use fanfold_shared::report::{During, IoError};

use super::ListError;

/// The buffer of each run while merging.
const MERGE_BUFFER: usize = 64 * 1024;

/// A sorted run on disk: each name with its length before it.
pub(super) struct Run {
    file: BufReader<File>,
    /// Of its names, bytes.
    longest: usize,
    /// All of them together.
    pub(super) bytes: u64,
}

/// Writes a run: `fill` calls what it is given with each name, in order.
pub(super) fn write_run(
    dir: &Path,
    n: u64,
    fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), ListError>) -> Result<(), ListError>,
) -> Result<Run, ListError> {
    let path = spill_file(dir, n);
    let failed = |operation| {
        let path = path.clone();
        move |source: io::Error| ListError::Spill(IoError { operation, path: path.clone(), source })
    };
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed("create"))?;
    fs::remove_file(&path).map_err(failed("remove"))?;
    let mut writer = BufWriter::with_capacity(MERGE_BUFFER, file);
    let (mut longest, mut bytes) = (0, 0);
    fill(&mut |name| {
        (longest, bytes) = (name.len().max(longest), bytes + name.len() as u64);
        let len = (name.len() as u32).to_le_bytes();
        writer.write_all(&len).and_then(|()| writer.write_all(name)).map_err(failed("write"))
    })?;
    let mut file = writer.into_inner().map_err(|error| failed("write")(error.into_error()))?;
    file.rewind().map_err(failed("read"))?;
    Ok(Run { file: BufReader::with_capacity(MERGE_BUFFER, file), longest, bytes })
}

impl Run {
    /// What it takes while it is merged, bytes.
    pub(super) fn memory(&self) -> usize {
        MERGE_BUFFER + self.longest
    }

    /// Reads the next name into `name`; false at the end.
    fn next(&mut self, name: &mut Vec<u8>) -> io::Result<bool> {
        let mut len = [0; 4];
        match self.file.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        let len = u32::from_le_bytes(len) as usize;
        name.clear();
        // Not more than the longest, which is what was reckoned with.
        name.reserve_exact(len);
        name.resize(len, 0);
        self.file.read_exact(name)?;
        Ok(true)
    }
}

/// Calls `visit` with the names of all `runs`, in order.
pub(super) fn merge(
    dir: &Path,
    mut runs: Vec<Run>,
    mut visit: impl FnMut(&[u8]) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (at, run) in runs.iter_mut().enumerate() {
        let mut name = Vec::new();
        if run.next(&mut name).during("read a sorted run in", dir).map_err(ListError::Spill)? {
            heap.push(Reverse((name, at)));
        }
    }
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((name, at)) = &mut *top;
        visit(name)?;
        if !runs[*at].next(name).during("read a sorted run in", dir).map_err(ListError::Spill)? {
            PeekMut::pop(top);
        }
    }
    Ok(())
}
