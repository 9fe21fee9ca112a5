//! The cache of what was downloaded, on a disk of this host and shared by all workers of one user there.
//!
//! ```text
//! lock                    held for short sections; says how many bytes are taken
//! objects/3f/9a…          entries: name is the hash of address and version; never written again
//! in-use/<holder>/        of one node that lives: `holder` is locked as long, and says what it has reserved
//! in-use/<holder>/<n>/…   what one mini-batch uses: hard links to entries, under their own names
//! ```
//!
//! **A pin is a hard link**: what a mini-batch uses stays whatever is removed from the cache, costs no descriptor, and has the name that the script
//! expects. Whoever dies leaves links behind, and the next one that needs room removes them: its lock is free then.
//! **An entry is whole or not there**: a download gets its name in the cache when it is complete. Nothing is synced; an entry that a crash of the
//! machine has cut has another length than it should, and is not used.
//! **Room is reserved before it is filled**: bytes of entries and reservations together stay below the limit, the entries that were used longest
//! ago go first.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fanfold_shared::ids;
use fanfold_shared::items::Fingerprint;
use fanfold_shared::report::{During, IoError};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// What is never used more than, unless it is said, bytes.
const DEFAULT: u64 = 10 << 30;

/// Where the cache lies, and how large it may become.
#[derive(Clone, Debug, Default)]
pub struct CacheSettings {
    /// None: `cloud` in the user's cache.
    pub dir: Option<PathBuf>,
    /// Bytes; None: 10 GiB, or half of what the disk has left if that is less.
    pub size: Option<u64>,
}

/// See the module's documentation.
pub struct Cache {
    root: PathBuf,
    limit: u64,
    /// Our directory in `in-use`.
    own: PathBuf,
    /// Locked for as long as we live; says how many bytes we have reserved.
    holder: Flock<File>,
    next: AtomicU64,
}

/// The name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    size: u64,
}

impl Key {
    /// That of the object at `address`, as it was when it was listed; `what`: of the whole, or a part of it that has a name.
    pub fn new(address: &str, known: Fingerprint, what: &str, size: u64) -> Key {
        let mut hasher = blake3::Hasher::new();
        for part in [address.as_bytes(), &known.encode(), what.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Key { name: hasher.finalize().to_hex().to_string(), size }
    }
}

/// Bytes that are reserved, until this is dropped.
pub struct Room {
    cache: Arc<Cache>,
    bytes: AtomicU64,
}

/// A folder of a mini-batch; dropped, it is removed.
pub struct Folder(PathBuf);

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed now is removed when the node has ended.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Cache {
    /// Opens the cache, or makes it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn open(root: &Path, limit: Option<u64>) -> Result<Arc<Cache>, IoError> {
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path).during("create", path);
        make(&root.join("objects"))?;
        make(&root.join("in-use"))?;
        let own = root.join("in-use").join(format!("{}-{}", std::process::id(), ids::suffix(6)));
        // Nobody else may look at it before it is locked.
        let lock = Lock::take(root)?;
        make(&own)?;
        let path = own.join("holder");
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path);
        let file = file.during("create", &path)?;
        let holder = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))
            .during("lock", &path)?;
        let mut cache =
            Cache { root: root.to_path_buf(), limit: limit.unwrap_or(DEFAULT), own, holder, next: AtomicU64::new(0) };
        let mut lock = lock;
        let taken = cache.count(&mut lock)?;
        if limit.is_none() {
            let disk = nix::sys::statvfs::statvfs(root).map_err(io::Error::from).during("examine", root)?;
            let free = (disk.blocks_available() as u64).saturating_mul(disk.fragment_size() as u64);
            cache.limit = DEFAULT.min((free + taken) / 2);
        }
        Ok(Arc::new(cache))
    }

    /// How large it may become, bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// An empty folder for what one mini-batch uses.
    ///
    /// # Errors
    /// It can't be made.
    pub fn folder(&self) -> Result<Folder, IoError> {
        let path = self.own.join(self.next.fetch_add(1, Ordering::SeqCst).to_string());
        fs::create_dir(&path).during("create", &path)?;
        Ok(Folder(path))
    }

    /// A file for a download.
    ///
    /// # Errors
    /// It can't be made.
    pub fn temporary(&self) -> Result<(File, PathBuf), IoError> {
        let path = self.own.join(format!("download-{}", self.next.fetch_add(1, Ordering::SeqCst)));
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).during("create", &path)?;
        Ok((file, path))
    }

    fn entry(&self, key: &Key) -> PathBuf {
        self.root.join("objects").join(&key.name[..2]).join(&key.name[2..])
    }

    /// Lets the entry appear at `to` as well. False: there is none.
    ///
    /// # Errors
    /// The operating system's.
    pub fn link(&self, key: &Key, to: &Path) -> io::Result<bool> {
        let entry = self.entry(key);
        match fs::hard_link(&entry, to) {
            Ok(()) => {}
            // Not asked of the entry: somebody may have made it just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.parent().is_some_and(Path::exists) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        // Looked at once it is ours: it can't be removed, or another one, any more.
        let found = fs::metadata(to)?;
        if found.len() != key.size {
            fs::remove_file(to)?;
            // Cut by a crash of the machine; somebody else may have removed it as well.
            let _ = fs::remove_file(&entry);
            return Ok(false);
        }
        used(to);
        Ok(true)
    }

    /// Reserves room, for which others may have to go. None: all of it is in use.
    ///
    /// # Errors
    /// The cache can't be read or written.
    pub fn reserve(self: &Arc<Cache>, bytes: u64) -> Result<Option<Room>, IoError> {
        let mut lock = Lock::take(&self.root)?;
        let mut taken = lock.taken()?;
        if taken.saturating_add(bytes) > self.limit {
            taken = self.count(&mut lock)?;
            if taken.saturating_add(bytes) > self.limit {
                // Some more, so that not every mini-batch looks through all of it.
                let over = taken.saturating_add(bytes) - self.limit;
                taken = self.evict(&mut lock, over.max(self.limit / 16))?;
            }
            if taken.saturating_add(bytes) > self.limit {
                return Ok(None);
            }
        }
        lock.set_taken(taken + bytes)?;
        self.reserved(|reserved| reserved + bytes)?;
        Ok(Some(Room { cache: self.clone(), bytes: AtomicU64::new(bytes) }))
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the disk has room for so many files with so many bytes together, as far as it says.
    pub fn has_room(&self, files: u64, bytes: u64) -> bool {
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.root) else { return true };
        let block = disk.fragment_size();
        let free = disk.blocks_available().saturating_mul(block);
        // A file, its folder in the cache, one of its own; and those of the mini-batch. Some disks don't count them.
        let has_files = disk.files() == 0 || disk.files_available() >= 3 * files + 4;
        free >= bytes.saturating_add(files * block) && has_files
    }

    /// Removes entries that nobody uses, so many bytes of them, one at least: the disk is full. False: there are none.
    ///
    /// # Errors
    /// The cache can't be read or written.
    pub fn shrink(&self, bytes: u64) -> Result<bool, IoError> {
        let mut lock = Lock::take(&self.root)?;
        let before = self.count(&mut lock)?;
        Ok(self.evict(&mut lock, bytes.max(1))? < before)
    }

    /// Makes what was downloaded an entry, with a link of it at `to`; it takes its bytes from `room`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn keep(&self, key: &Key, download: &Path, to: &Path, room: &Room) -> io::Result<()> {
        fs::set_permissions(download, Permissions::from_mode(0o444))?;
        let entry = self.entry(key);
        let folder = entry.parent().expect("it has a folder");
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        match fs::hard_link(download, &entry) {
            // From now on it counts as an entry.
            Ok(()) => room.became_entry(key.size).map_err(|error| error.source)?,
            // Somebody else was quicker: ours lasts as long as the mini-batch.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fs::rename(download, to)
    }

    fn reserved(&self, change: impl Fn(u64) -> u64) -> Result<(), IoError> {
        let mut file: &File = &self.holder;
        let now = read_number(&mut file)?;
        write_number(&mut file, change(now)).during("write", &self.own)
    }

    /// Counts what is there, and removes what the dead have left.
    fn count(&self, lock: &mut Lock) -> Result<u64, IoError> {
        let mut taken = self.entries()?.iter().map(|entry| entry.bytes).sum();
        let in_use = self.root.join("in-use");
        for found in fs::read_dir(&in_use).during("read", &in_use)? {
            let path = found.during("read", &in_use)?.path();
            let file = File::options().read(true).write(true).open(path.join("holder"));
            if path == self.own {
                taken += read_number(&mut &*self.holder).unwrap_or(0);
                continue;
            }
            let Ok(file) = file else {
                // Made and not yet locked it can't be: that happens under our lock.
                let _ = fs::remove_dir_all(&path);
                continue;
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(_dead) => drop(fs::remove_dir_all(&path)),
                Err((mut file, _)) => taken += read_number(&mut file).unwrap_or(0),
            }
        }
        lock.set_taken(taken)?;
        Ok(taken)
    }

    /// Removes entries, those that were used longest ago first, until so many bytes are free. Returns what is taken then.
    fn evict(&self, lock: &mut Lock, bytes: u64) -> Result<u64, IoError> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let (mut taken, mut freed) = (lock.taken()?, 0);
        // What has another link is in use: removing it would free nothing.
        for entry in entries.into_iter().filter(|entry| entry.links == 1) {
            if freed >= bytes {
                break;
            }
            if fs::remove_file(&entry.path).is_ok() {
                freed += entry.bytes;
                taken = taken.saturating_sub(entry.bytes);
            }
        }
        lock.set_taken(taken)?;
        Ok(taken)
    }

    fn entries(&self) -> Result<Vec<Entry>, IoError> {
        let objects = self.root.join("objects");
        let mut entries = Vec::new();
        for folder in fs::read_dir(&objects).during("read", &objects)? {
            let folder = folder.during("read", &objects)?.path();
            for file in fs::read_dir(&folder).during("read", &folder)? {
                let file = file.during("read", &folder)?;
                // Removed meanwhile, as a rule.
                let Ok(found) = file.metadata() else { continue };
                entries.push(Entry {
                    path: file.path(),
                    bytes: found.len(),
                    links: found.nlink(),
                    used: found.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        Ok(entries)
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    links: u64,
    used: SystemTime,
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Where it fails, the next one that needs room does it.
        let _ = fs::remove_dir_all(&self.own);
    }
}

impl Room {
    /// So many bytes of it are an entry now, and counted there.
    fn became_entry(&self, bytes: u64) -> Result<(), IoError> {
        let _lock = Lock::take(&self.cache.root)?;
        let bytes = bytes.min(self.bytes.load(Ordering::SeqCst));
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.cache.reserved(|reserved| reserved.saturating_sub(bytes))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::SeqCst);
        if bytes == 0 {
            return;
        }
        // What can't be given back is found when the cache is counted next.
        let _ = Lock::take(&self.cache.root).and_then(|mut lock| {
            let taken = lock.taken()?;
            lock.set_taken(taken.saturating_sub(bytes))?;
            self.cache.reserved(|reserved| reserved.saturating_sub(bytes))
        });
    }
}

/// The lock of the cache, which also says how many bytes are taken.
struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    fn take(root: &Path) -> Result<Lock, IoError> {
        let path = root.join("lock");
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path);
        let mut file = file.during("open", &path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(file) => return Ok(Lock { file, path }),
                Err((again, nix::errno::Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(io::Error::from(errno)).during("lock", &path),
            }
        }
    }

    fn taken(&self) -> Result<u64, IoError> {
        read_number(&mut &*self.file)
    }

    fn set_taken(&mut self, bytes: u64) -> Result<(), IoError> {
        write_number(&mut &*self.file, bytes).during("write", &self.path)
    }
}

/// A number in a file; what is none is 0, and is found when the cache is counted.
fn read_number(file: &mut (impl Read + Seek)) -> Result<u64, IoError> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(0),
        Err(error) => Err(error).during("read", "the lock of the cache"),
    }
}

fn write_number(file: &mut (impl Write + Seek), number: u64) -> io::Result<()> {
    file.rewind()?;
    // Always as long, so that no rest of a longer one stays.
    file.write_all(format!("{number:20}\n").as_bytes())
}

/// Notes that an entry is used. The time of the last write is the object's own.
fn used(path: &Path) {
    // Not worth a failure: it would go a little earlier.
    let _ = utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &TimeSpec::UTIME_NOW,
        &TimeSpec::UTIME_OMIT,
        UtimensatFlags::FollowSymlink,
    );
}

/// Gives a download the time at which its object was written, microseconds since the epoch; 0: nobody knows.
pub fn dated(file: &File, modified_us: i64) {
    if let Ok(us @ 1..) = u64::try_from(modified_us) {
        // A script that looks at it is a rare one.
        let _ = file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_micros(us));
    }
}

/// A place for `name` in `folder`, its folders made.
///
/// # Errors
/// The operating system's: two objects of which one is called like the folder of the other, a name that is too long.
pub fn place(folder: &Path, name: &[u8]) -> io::Result<PathBuf> {
    let path = folder.join(OsStr::from_bytes(name));
    if name.contains(&b'/') {
        fs::create_dir_all(path.parent().expect("it has one"))?;
    }
    match path.symlink_metadata() {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => Ok(path),
    }
}

#[cfg(test)]
mod tests;
