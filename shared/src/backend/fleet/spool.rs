//! The job's spool directory, as the backend uses it: rows too large for a message lie there in files of their own. A file appears whole, under
//! a name that nobody else uses, and is removed by whoever received it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::Closed;

/// A node waits while so much of what it wrote has not been collected.
const MOST_UNCOLLECTED: u64 = 64 << 20;
/// How often a waiting node looks whether files were collected.
const LOOK: Duration = Duration::from_millis(100);

/// Rows in a file of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowsFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its length, bytes.
    pub len: u64,
    /// Its checksum.
    pub crc32: u32,
}

pub(super) struct Spool {
    dir: PathBuf,
    /// Files of ours that have not been collected yet, as far as we know, and their lengths.
    ours: Mutex<Vec<(PathBuf, u64)>>,
    woken: Condvar,
}

impl Spool {
    pub(super) fn new(dir: PathBuf) -> Spool {
        Spool { dir, ours: Mutex::default(), woken: Condvar::new() }
    }

    /// The file of that name; None where it is no plain name.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let plain = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && name != "." && name != "..";
        plain.then(|| self.dir.join(name))
    }

    /// Waits until there is room for `bytes` more, or `closed`. One file always fits.
    pub(super) fn wait_for_room(&self, bytes: u64, closed: &dyn Fn() -> bool) -> Result<(), Closed> {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if closed() {
                return Err(Closed);
            }
            let held = |ours: &[(PathBuf, u64)]| ours.iter().map(|(_, len)| len).sum::<u64>();
            if ours.is_empty() || held(&ours) + bytes <= MOST_UNCOLLECTED {
                return Ok(());
            }
            ours.retain(|(path, _)| path.symlink_metadata().is_ok());
            if !ours.is_empty() && held(&ours) + bytes > MOST_UNCOLLECTED {
                ours = self.woken.wait_timeout(ours, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Removes what is left: files of nodes that died before anybody knew of them, and of messages that nobody will receive.
    pub(super) fn clear(&self) {
        for file in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            // Waste at worst.
            let _ = fs::remove_file(file.path());
        }
    }

    /// Wakes who waits for room.
    pub(super) fn wake(&self) {
        // Under the lock: who is about to wait must not miss it.
        drop(self.ours.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }

    /// Counts a file that somebody else wrote for this node.
    pub(super) fn note(&self, path: PathBuf, len: u64) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).push((path, len));
    }

    /// Writes rows to a new file. No sync: a file that did not survive has another checksum, and what it held is run again.
    pub(super) fn write(&self, rows: &[u8]) -> io::Result<RowsFile> {
        let name = format!("{}.rows", uuid::Uuid::now_v7().simple());
        let (path, unfinished) = (self.dir.join(&name), self.dir.join(format!("{name}.tmp")));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&unfinished)
            .and_then(|mut file| file.write_all(rows))
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = written {
            // Whatever is there is of no use.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.note(path, rows.len() as u64);
        Ok(RowsFile { name, len: rows.len() as u64, crc32: crc32fast::hash(rows) })
    }

    /// Reads rows back. None: the file is not there, or not what was written.
    pub(super) fn read(path: &Path, expected: &RowsFile) -> Option<Vec<u8>> {
        // Whatever else lies there under that name must neither be followed nor hold us up.
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() != expected.len {
            return None;
        }
        let mut rows = Vec::with_capacity(usize::try_from(expected.len).ok()?);
        file.take(expected.len).read_to_end(&mut rows).ok()?;
        (crc32fast::hash(&rows) == expected.crc32).then_some(rows)
    }
}
