//! The output file while it grows: `<name>.partial`.
//!
//! It is written at positions that the caller names, never at its end: what lies behind the committed length does not exist.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use fanfold_shared::report::{During, IoError};
use fanfold_shared::{failpoint, failpoint_error};

use super::OpenError;

/// Pieces shorter than this are gathered before they are written.
const GATHERED: usize = 256 << 10;
/// Bytes of one read or write.
const CHUNK: usize = 1 << 20;

/// A stretch of rows.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A whole file of the spool.
    Spooled { path: PathBuf, len: u64 },
}

/// Why pieces were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// A spooled file is not there or not whole.
    Spool { path: PathBuf, why: String },
    /// The output file refused.
    Output(io::Error),
}

/// `<name>.partial`, open for writing and locked against other jobs that were told to write to the same name.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    /// What was committed before this position is not in this file, but in a finished one that it is added to. All positions
    /// and lengths count it.
    base: u64,
}

impl OutputFile {
    /// `<name>.partial`.
    pub fn partial_path(target: &Path) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// Makes the file of `target`, durably. An empty one is taken over: a start died right after it made it.
    pub fn create(target: &Path) -> Result<OutputFile, OpenError> {
        let dir = target.parent().expect("an output file lies in a directory");
        fs::create_dir_all(dir).during("create", dir)?;
        let path = OutputFile::partial_path(target);
        let file = options().create(true).open(&path).during("create", &path)?;
        lock(&file, &path)?;
        if file.metadata().during("look at", &path)?.len() > 0 {
            return Err(OpenError::OutputExists { path });
        }
        file.sync_all().during("sync", &path)?;
        sync_dir(dir)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
        Ok(OutputFile { path, file, base: 0 })
    }

    /// Makes an empty file of `target`, durably, for what is committed from `base` on. An earlier one is replaced.
    pub fn behind(target: &Path, base: u64) -> Result<OutputFile, OpenError> {
        let path = OutputFile::partial_path(target);
        let file = options().create(true).open(&path).during("create", &path)?;
        lock(&file, &path)?;
        file.set_len(0).and_then(|()| file.sync_all()).during("sync", &path)?;
        sync_dir(path.parent().expect("an output file lies in a directory"))?;
        Ok(OutputFile { path, file, base })
    }

    /// Opens the existing file of `target`, of what is committed from `base` on; None if there is none.
    pub fn open(target: &Path, base: u64) -> Result<Option<OutputFile>, OpenError> {
        let path = OutputFile::partial_path(target);
        let file = match options().open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.during("open", &path)?,
        };
        lock(&file, &path)?;
        Ok(Some(OutputFile { path, file, base }))
    }

    /// Makes the file of `target` as a copy of it, durably. An earlier one is replaced.
    pub fn copy_of(target: &Path) -> Result<OutputFile, OpenError> {
        let path = OutputFile::partial_path(target);
        let new = path.with_extension("partial.new");
        // Shares the blocks where the file system can.
        fs::copy(target, &new).during("copy", target)?;
        File::open(&new).and_then(|file| file.sync_all()).during("sync", &new)?;
        fs::rename(&new, &path).during("rename", &new)?;
        sync_dir(path.parent().expect("an output file lies in a directory"))?;
        match OutputFile::open(target, 0)? {
            Some(file) => Ok(file),
            None => Err(OpenError::OutputShort { path, found: 0, committed: 0 }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`OutputFile::behind`].
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Where it ends, bytes.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.base + self.file.metadata()?.len())
    }

    /// Makes it end at `len`.
    pub fn cut(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len - self.base)
    }

    /// Writes `pieces`, `total` bytes in all, one after the other from position `at` on. Returns their CRC-32.
    pub fn write(&self, at: u64, pieces: &[Piece<'_>], total: u64) -> Result<u32, WriteError> {
        let at = at - self.base;
        let mut writer =
            Writer { file: &self.file, at, half: at + total / 2, hasher: Hasher::new(), gathered: Vec::new() };
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => writer.put(bytes).map_err(WriteError::Output)?,
                Piece::Spooled { path, len } => writer.copy(path, *len)?,
            }
        }
        writer.flush().map_err(WriteError::Output)?;
        debug_assert_eq!(writer.at, at + total, "the plan counted what it lists");
        Ok(writer.hasher.finalize())
    }

    /// Waits until the content is on disk. After an error nobody knows what is there, and asking again would be answered
    /// with a lie: see [`OutputFile::reopen`].
    pub fn sync(&self) -> io::Result<()> {
        failpoint_error!("output_sync")?;
        self.file.sync_data()
    }

    /// As [`OutputFile::sync`], and the length and times with it.
    pub fn sync_all(&self) -> io::Result<()> {
        failpoint_error!("output_sync")?;
        self.file.sync_all()
    }

    /// After a failed sync: takes a new descriptor and forgets what lies behind `committed`, so that it must be written again.
    pub fn reopen(&mut self, committed: u64) -> io::Result<()> {
        let file = options().open(&self.path)?;
        // The lock is the open file's, and the two are strangers to each other.
        let _ = self.file.unlock();
        self.file = file;
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        self.file.set_len(committed - self.base)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // Not left to the closing: a child that is just being started may still share the open file.
        let _ = self.file.unlock();
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(OpenError::OutputBusy { path: path.to_path_buf() }),
        // Some network file systems have no locks. The ledger has its own.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), IoError> {
    File::open(dir).and_then(|dir| dir.sync_all()).during("sync", dir)
}

/// The CRC-32 of `length` bytes of `file` from `offset` on.
pub(super) fn crc_of(file: &File, mut offset: u64, length: u64) -> io::Result<u32> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK.min(length as usize)];
    let mut left = length;
    while left > 0 {
        let chunk = buffer.len().min(left as usize);
        file.read_exact_at(&mut buffer[..chunk], offset)?;
        hasher.update(&buffer[..chunk]);
        offset += chunk as u64;
        left -= chunk as u64;
    }
    Ok(hasher.finalize())
}

struct Writer<'f> {
    file: &'f File,
    at: u64,
    /// The position at which crash tests tear the write apart.
    half: u64,
    hasher: Hasher,
    gathered: Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= GATHERED {
            self.flush()?;
            return self.write(bytes);
        }
        if self.gathered.len() + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn copy(&mut self, path: &Path, len: u64) -> Result<(), WriteError> {
        self.flush().map_err(WriteError::Output)?;
        let spool = |why: String| WriteError::Spool { path: path.to_path_buf(), why };
        let mut file = File::open(path).map_err(|error| spool(error.to_string()))?;
        let mut buffer = vec![0; CHUNK.min(len as usize)];
        let mut left = len;
        while left > 0 {
            let chunk = buffer.len().min(left as usize);
            file.read_exact(&mut buffer[..chunk]).map_err(|error| spool(error.to_string()))?;
            self.write(&buffer[..chunk]).map_err(WriteError::Output)?;
            left -= chunk as u64;
        }
        match file.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(spool(format!("it has more than the {len} bytes that were announced"))),
            Err(error) => Err(spool(error.to_string())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let outcome = self.write(&gathered);
        self.gathered = gathered;
        self.gathered.clear();
        outcome
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        failpoint_error!("output_write")?;
        self.hasher.update(bytes);
        let mut rest = bytes;
        if cfg!(feature = "failpoints") && self.at < self.half && self.half - self.at <= bytes.len() as u64 {
            let (first, second) = bytes.split_at((self.half - self.at) as usize);
            self.write_at(first)?;
            failpoint!("commit_half_written");
            rest = second;
        }
        self.write_at(rest)
    }

    /// Goes on after short and interrupted writes.
    fn write_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
