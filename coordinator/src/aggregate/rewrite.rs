//! Outputs that are not what was committed, byte for byte, but a file made of it while the job is Finalizing: Parquet (`table/pass.rs`), and rows in the
//! order of the input (`ordered`). What both have in common: the file beside the output that grows, and what the ledger says of it when it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use fanfold_shared::report::{IoError, is_disk_full};
use fanfold_shared::text::size;
use fanfold_shared::{failpoint, failpoint_error};
use serde::{Deserialize, Serialize};

use super::CommitError;
use super::ordered::OrderPass;
use super::output::crc_of;
use super::table::TablePass;
use crate::ledger::LedgerReader;

/// Bytes of one write.
const CHUNK: usize = 1 << 20;

/// What makes the output of what is committed.
pub enum Pass {
    /// One Parquet file.
    Table(Box<TablePass>),
    /// Text in the order of the input.
    Order(Box<OrderPass>),
}

impl Pass {
    /// Does a part of it: some dozen MiB.
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: the pass is over, and has left nothing behind; begin another one when there is room. Anything else
    /// needs a new start.
    pub fn step(&mut self, ledger: &LedgerReader) -> Result<Step, CommitError> {
        match self {
            Pass::Table(pass) => pass.step(ledger),
            Pass::Order(pass) => pass.step(ledger),
        }
    }
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were read.
    pub done: u64,
    /// Bytes to be read.
    pub of: u64,
}

/// See [`TablePass::step`].
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More(Progress),
    /// The file is whole and on disk.
    Done(Written),
}

/// A Parquet file that is whole and has not got its name yet.
#[derive(Clone, Debug)]
pub struct Written {
    pub(super) path: PathBuf,
    pub(super) result: FileResult,
}

/// A whole file that was made of what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileResult {
    /// Its length, bytes.
    pub len: u64,
    /// The CRC-32 of all of it.
    pub crc32: u32,
    /// The results in it.
    pub rows: u64,
    /// The committed length whose rows it holds: what is committed later lies in `.partial`, from there on.
    pub frames: u64,
}

impl FileResult {
    /// Whether the file at `path` is this one, to the last byte.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        Ok(file.metadata()?.len() == self.len && crc_of(&file, 0, self.len)? == self.crc32)
    }
}

/// Where the file grows that will be the output: `<name>.partial.new`.
pub(super) fn new_path(partial: &Path) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Begins that file, if there is room for as much as it may take: `what`, for messages.
///
/// # Errors
/// [`CommitError::DiskFull`], and whatever keeps a file from being made.
pub(super) fn begin_file(partial: &Path, what: &str, needed: u64) -> Result<(PathBuf, Hashed), CommitError> {
    let path = new_path(partial);
    // Of a start that died in the middle of it.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path, error)),
        _ => {}
    }
    there_is_room(&path, what, needed)?;
    let file = File::create(&path).map_err(|error| failed("create", &path, error))?;
    Ok((path, Hashed::new(file)))
}

/// Refuses to begin what would not fit: it takes minutes to find out otherwise.
fn there_is_room(path: &Path, what: &str, needed: u64) -> Result<(), CommitError> {
    failpoint_error!("table_room").map_err(|error| failed("write to", path, error))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let Ok(found) = nix::sys::statvfs::statvfs(dir) else { return Ok(()) };
    let free = found.blocks_available() * found.fragment_size();
    if free >= needed {
        return Ok(());
    }
    let text = format!("{what} may take {}, and {} are free", size(needed), size(free));
    Err(failed("write to", path, io::Error::new(io::ErrorKind::StorageFull, text)))
}

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> CommitError {
    let path = path.to_path_buf();
    match is_disk_full(&source) {
        true => CommitError::DiskFull { path, source: source.into() },
        false => CommitError::Output(IoError { operation, path, source }),
    }
}

/// A file that grows at its end, and what its bytes sum up to.
pub(super) struct Hashed {
    file: BufWriter<File>,
    hasher: Hasher,
    len: u64,
    /// What the file system refused with.
    pub error: Option<io::Error>,
}

impl Hashed {
    /// An empty file.
    pub fn new(file: File) -> Hashed {
        Hashed { file: BufWriter::with_capacity(CHUNK, file), hasher: Hasher::new(), len: 0, error: None }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// All of it on disk.
    ///
    /// # Errors
    /// It can't be synced.
    pub fn end(&mut self, path: &Path, rows: u64, frames: u64) -> Result<Written, CommitError> {
        let result = FileResult { len: self.len, crc32: self.hasher.clone().finalize(), rows, frames };
        failpoint!("table_written");
        let synced = self
            .file
            .flush()
            .and_then(|()| failpoint_error!("table_sync"))
            .and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| failed("sync", path, error))?;
        failpoint!("table_synced");
        Ok(Written { path: path.to_path_buf(), result })
    }

    fn noted(&mut self, error: io::Error) -> io::Error {
        let again = match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        self.error = Some(error);
        again
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = failpoint_error!("table_write").and_then(|()| self.file.write(bytes));
        let written = written.map_err(|error| self.noted(error))?;
        self.hasher.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.noted(error))
    }
}
