//! Brings files of a mini-batch to this host: out of the cache, or from where they lie.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::items::Fingerprint;
use fanfold_shared::report::{IoError, is_disk_full};
use fanfold_store::{Client, StoreError, Why};

use super::Cloud;
use super::cache::{self, Cache, Folder, Key, Room};
use super::refused::is_refusal;

/// Objects of one mini-batch that are downloaded at once.
const AT_ONCE: usize = 8;
/// Between two looks at whether there is room now.
const AGAIN: Duration = Duration::from_millis(50);
/// A wait for room that is worth a word.
const LONG: Duration = Duration::from_secs(30);
/// Bytes of a part that are asked for at once.
const STRETCH: u64 = 8 << 20;

/// A file that is wanted here.
pub struct Want {
    /// Where it lies.
    pub client: Client,
    /// What it is to be called, below the folder of the mini-batch.
    pub name: Vec<u8>,
    /// As it was when it was listed.
    pub known: Fingerprint,
    /// What of it is wanted; None: all of it.
    pub part: Option<Part>,
}

/// Some bytes of a file. They come to lie at their own places; everything else is a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the header.
    pub header: u64,
    /// So many bytes from the beginning, but no line that is cut: they show what the whole file is like.
    pub beginning: u64,
    /// The rows, and what else it takes to read them.
    pub rows: Vec<Range<u64>>,
}

impl Want {
    fn size(&self) -> u64 {
        match self.known {
            Fingerprint::File { size, .. } => size,
            Fingerprint::NotTaken | Fingerprint::Unknown => 0,
        }
    }

    /// Bytes that it takes here.
    pub(super) fn bytes(&self) -> u64 {
        match &self.part {
            None => self.size(),
            Some(part) => {
                part.header.max(part.beginning) + part.rows.iter().map(|rows| rows.end - rows.start).sum::<u64>()
            }
        }
    }

    /// Whether another content would have another key: a server may say neither version nor time.
    fn is_told_apart(&self) -> bool {
        !matches!(self.known, Fingerprint::File { mtime_ns: 0, .. })
    }

    fn key(&self) -> Key {
        Key::new(&self.client.uri().to_string(), self.known, "", self.size())
    }
}

/// Files on this host, for as long as this is not dropped.
pub struct Local {
    /// Where each is, or why it can't be had; in the order in which they were wanted.
    pub files: Vec<Result<PathBuf, String>>,
    /// Nothing is given out to this machine: the attempt has failed, and why.
    pub refused: Option<String>,
    // Dropped in this order.
    _folder: Folder,
    _room: Option<Room>,
}

/// Who waits for files, and may stop it.
pub trait Waiter: Sync {
    /// Whether they are not wanted any more.
    fn is_over(&self) -> bool;
    /// So many bytes came.
    fn came(&self, bytes: u64);
    /// What it waits for, for the user: room on the disk. None: it does not any longer.
    fn held_up(&self, why: Option<&str>);
}

/// Why nothing was brought.
#[derive(Debug)]
pub enum Stopped {
    /// The waiter wants nothing any more.
    Over,
    /// The cache can't be used.
    Cache(IoError),
}

impl From<IoError> for Stopped {
    fn from(error: IoError) -> Stopped {
        Stopped::Cache(error)
    }
}

/// Why one file was not brought.
enum Trouble {
    Store(Box<StoreError>),
    Disk(io::Error),
    Over,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(Box::new(error))
    }
}

impl From<Box<StoreError>> for Trouble {
    fn from(error: Box<StoreError>) -> Trouble {
        Trouble::Store(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Disk(error)
    }
}

impl Cloud {
    /// Brings `wants` here. What can't be had of them is told in [`Local::files`]; that there is no room is waited for.
    ///
    /// # Errors
    /// It is over, or the cache can't be used.
    pub fn bring(&self, wants: &[Want], waiter: &dyn Waiter) -> Result<Local, Stopped> {
        let (folder, mut files, missing, room) = self.begin(wants, waiter)?;
        let next = AtomicUsize::new(0);
        let came = Mutex::new(Vec::new());
        let work = || {
            while let Some(&at) = missing.get(next.fetch_add(1, Ordering::SeqCst)) {
                let Ok(place) = &files[at] else { continue };
                let outcome = self.fetch(&wants[at], place, room.as_ref(), waiter);
                came.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
            }
        };
        match missing.len().min(AT_ONCE) {
            0 => {}
            1 => work(),
            threads => thread::scope(|scope| {
                for _ in 1..threads {
                    // Without another thread this one does it all.
                    let _ = thread::Builder::new().name("download".into()).spawn_scoped(scope, work);
                }
                work();
            }),
        }
        let mut denied = None;
        for (at, outcome) in came.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match outcome {
                Ok(()) => {}
                Err(Trouble::Over) => return Err(Stopped::Over),
                Err(Trouble::Store(error)) => {
                    files[at] = Err(told(&error));
                    if is_refusal(&error.why) {
                        denied = Some(error);
                    }
                }
                Err(Trouble::Disk(error)) => {
                    files[at] = Err(format!("`{}` can't be kept here: {error}", wants[at].client.uri()));
                }
            }
        }
        let refused = denied.filter(|error| !self.refusals.is_of_the_object(error)).map(|error| told(&error));
        Ok(Local { files, refused, _folder: folder, _room: room })
    }

    /// Links what is in the cache, and reserves room for the rest of it: all at once, so that mini-batches that wait for room never hold what others
    /// wait for.
    #[expect(clippy::type_complexity, reason = "taken apart at once by the only one that calls it")]
    fn begin(
        &self,
        wants: &[Want],
        waiter: &dyn Waiter,
    ) -> Result<(Folder, Vec<Result<PathBuf, String>>, Vec<usize>, Option<Room>), Stopped> {
        let all: u64 = wants.iter().map(Want::bytes).sum();
        let most = self.cache.limit().saturating_sub(self.kept());
        if all > most {
            let why = format!(
                "the files of this mini-batch take {} bytes, and the cache of this machine may have {most}: give it more (`--cache-size`, \
                 `FANFOLD_CACHE_SIZE`), or make mini-batches smaller (`mini_batch_size`)",
                all
            );
            let files = wants.iter().map(|want| Err(format!("`{}`: {why}", want.client.uri()))).collect();
            return Ok((self.cache.folder()?, files, Vec::new(), None));
        }
        // One after the other: who waits longest is first.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, mut said) = (Instant::now(), false);
        loop {
            if waiter.is_over() {
                return Err(Stopped::Over);
            }
            let folder = self.cache.folder()?;
            let (mut files, mut missing) = (Vec::with_capacity(wants.len()), Vec::new());
            for (at, want) in wants.iter().enumerate() {
                let (place, is_here) = match self.place(&folder, at, want) {
                    Ok(found) => found,
                    Err(error) => {
                        files.push(Err(format!("`{}` can't be kept here: {error}", want.client.uri())));
                        continue;
                    }
                };
                files.push(Ok(place));
                if !is_here {
                    missing.push(at);
                }
            }
            let bytes = missing.iter().map(|at| wants[*at].bytes()).sum();
            if bytes == 0 && missing.is_empty() {
                return Ok((folder, files, missing, None));
            }
            if let Some(room) = self.cache.reserve(bytes)? {
                if said {
                    waiter.held_up(None);
                }
                return Ok((folder, files, missing, Some(room)));
            }
            // What runs ends, as a rule.
            if !said && began.elapsed() > LONG {
                said = true;
                waiter.held_up(Some("room in the cache of files, all of which are in use"));
            }
            drop(folder);
            thread::sleep(AGAIN);
        }
    }

    /// Where a file of a mini-batch is to be, and whether it is there already.
    fn place(&self, folder: &Folder, at: usize, want: &Want) -> io::Result<(PathBuf, bool)> {
        let place = cache::place(folder.path(), &want.name).or_else(|_| {
            // An object may be called like the folder of another: then it stands alone.
            let name = want.name.rsplit(|byte| *byte == b'/').next().unwrap_or(&want.name);
            cache::place(folder.path(), &[format!(".{at}/").as_bytes(), name].concat())
        })?;
        let is_here = want.part.is_none() && want.is_told_apart() && self.cache.link(&want.key(), &place)?;
        Ok((place, is_here))
    }

    fn fetch(&self, want: &Want, place: &Path, room: Option<&Room>, waiter: &dyn Waiter) -> Result<(), Trouble> {
        let mut said = false;
        loop {
            let outcome = match &want.part {
                None => self.download(want, place, room, waiter),
                Some(part) => self.part(want, part, place, waiter),
            };
            match outcome {
                Err(Trouble::Disk(error)) if is_disk_full(&error) => {
                    let _ = fs::remove_file(place);
                    let freed = self.cache.shrink(want.bytes()).map_err(|error| error.source)?;
                    if !freed {
                        if !said {
                            said = true;
                            waiter.held_up(Some("room on the disk of the cache"));
                        }
                        thread::sleep(10 * AGAIN);
                    }
                    if waiter.is_over() {
                        return Err(Trouble::Over);
                    }
                }
                // Nobody answers: no fault of this object's, and the next one would fail as well.
                Err(Trouble::Store(error)) if matches!(error.why, Why::Unreachable(_) | Why::NoSuchHost(_)) => {
                    if !said {
                        said = true;
                        waiter.held_up(Some(&told(&error)));
                    }
                    thread::sleep(10 * AGAIN);
                    if waiter.is_over() {
                        return Err(Trouble::Over);
                    }
                }
                outcome => {
                    if said {
                        waiter.held_up(None);
                    }
                    if outcome.is_ok() {
                        self.refusals.granted(&want.client);
                    }
                    return outcome;
                }
            }
        }
    }

    /// All of an object, through the cache.
    fn download(&self, want: &Want, place: &Path, room: Option<&Room>, waiter: &dyn Waiter) -> Result<(), Trouble> {
        let mut download = want.client.read(None)?;
        let object = download.object().clone();
        is_the_listed(&want.client, want.known, &object)?;
        let (mut file, path) = self.cache.temporary().map_err(|error| error.source)?;
        let written = (|| {
            loop {
                let chunk = download.next_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                if waiter.is_over() {
                    return Err(Trouble::Over);
                }
                file.write_all(&chunk)?;
                waiter.came(chunk.len() as u64);
            }
            cache::dated(&file, object.modified_us);
            match room {
                Some(room) if want.is_told_apart() => Ok(self.cache.keep(&want.key(), &path, place, room)?),
                // It lasts as long as the mini-batch.
                _ => Ok(fs::rename(&path, place)?),
            }
        })();
        if written.is_err() {
            // Left behind, it goes with the node.
            let _ = fs::remove_file(&path);
        }
        written
    }

    /// A part of an object, in a file that is as long as the object.
    fn part(&self, want: &Want, part: &Part, place: &Path, waiter: &dyn Waiter) -> Result<(), Trouble> {
        let object = want.client.head()?;
        is_the_listed(&want.client, want.known, &object)?;
        let file = File::create(place)?;
        file.set_len(object.size)?;
        let before = part.header.max(part.beginning);
        if before > 0 {
            let bytes = want.client.get_range(0..before, Some(&object))?;
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            file.write_all_at(&bytes[..whole.max(part.header as usize)], 0)?;
            waiter.came(before);
        }
        for rows in &part.rows {
            let mut start = rows.start;
            while start < rows.end {
                if waiter.is_over() {
                    return Err(Trouble::Over);
                }
                let end = rows.end.min(start + STRETCH);
                let bytes = want.client.get_range(start..end, Some(&object))?;
                file.write_all_at(&bytes, start)?;
                waiter.came(bytes.len() as u64);
                start = end;
            }
        }
        cache::dated(&file, object.modified_us);
        Ok(())
    }
}

/// What a server has now must be what the list has.
pub(super) fn is_the_listed(
    client: &Client,
    known: Fingerprint,
    now: &fanfold_store::Object,
) -> Result<(), Box<StoreError>> {
    let found = Fingerprint::of_object(now.size, now.etag.as_deref(), now.modified_us);
    let how = match (known, found) {
        (known, found) if known == found => return Ok(()),
        (Fingerprint::File { size: was, .. }, _) if was != now.size => format!("size {was} -> {}", now.size),
        _ => "it was written anew, with the same size".to_string(),
    };
    let (uri, credentials) = (Box::new(client.uri().clone()), client.credentials().into());
    Err(Box::new(StoreError { operation: "read", uri, why: Why::Changed(how), credentials, near: None }))
}

/// What stands in the list of errors of an object.
fn told(error: &StoreError) -> String {
    match &error.why {
        Why::Missing(_) => format!("`{}`: vanished since the job listed it", error.uri),
        Why::Denied(_) | Why::Unauthenticated(_) => {
            format!(
                "`{}`: {} (asked with {}; `fanfold datastore check` on this machine tries them)",
                error.uri, error.why, error.credentials
            )
        }
        why => format!("`{}`: {why}", error.uri),
    }
}

impl Cache {
    /// Where a cache lies if nobody says where.
    pub fn default_place() -> PathBuf {
        crate::environment::user_cache().unwrap_or_else(std::env::temp_dir).join("cloud")
    }
}
