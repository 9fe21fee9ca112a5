//! Brings files of a mini-batch to this host: out of the cache, or from where they lie.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::items::Fingerprint;
use fanfold_shared::report::{IoError, is_disk_full};
use fanfold_store::{Client, Why};

use super::Cloud;
use super::cache::{self, Cache, Folder, Key, Room};
use super::full::{Full, Wanting};
use super::one::{Trouble, told};
use super::refused::is_refusal;

/// Objects of one mini-batch that are downloaded at once.
const AT_ONCE: usize = 8;
/// Between two looks at whether there is room now.
const AGAIN: Duration = Duration::from_millis(50);
/// A wait for room that is worth a word.
const LONG: Duration = Duration::from_secs(30);

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
    pub(super) fn size(&self) -> u64 {
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
    pub(super) fn is_told_apart(&self) -> bool {
        !matches!(self.known, Fingerprint::File { mtime_ns: 0, .. })
    }

    /// Whether it stays in the cache when the mini-batch is done.
    fn is_kept(&self) -> bool {
        self.part.is_none() && self.is_told_apart()
    }

    pub(super) fn key(&self) -> Key {
        Key::new(&self.client.uri().canonical().to_string(), self.known, "", self.size())
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
    /// A part was wanted, and the server sends whole files only: that is known from now on.
    NoParts,
    /// The cache can't be used.
    Cache(IoError),
}

impl From<IoError> for Stopped {
    fn from(error: IoError) -> Stopped {
        Stopped::Cache(error)
    }
}

/// How far it came.
enum Round {
    Here(Local),
    /// The disk of the cache is full; what is still wanted.
    Full(Wanting),
}

/// Ends the downloads of a round of which one finds the disk full.
struct InRound<'a> {
    waiter: &'a dyn Waiter,
    full: &'a AtomicBool,
}

impl Waiter for InRound<'_> {
    fn is_over(&self) -> bool {
        self.full.load(Ordering::SeqCst) || self.waiter.is_over()
    }

    fn came(&self, bytes: u64) {
        self.waiter.came(bytes);
    }

    fn held_up(&self, why: Option<&str>) {
        self.waiter.held_up(why);
    }
}

impl Cloud {
    /// Brings `wants` here. What can't be had of them is told in [`Local::files`]; that there is no room, in the cache or on its disk, is waited for.
    ///
    /// # Errors
    /// It is over, or the cache can't be used.
    pub fn bring(&self, wants: &[Want], waiter: &dyn Waiter) -> Result<Local, Stopped> {
        let mut full = Full::new(self);
        loop {
            match self.round(wants, waiter)? {
                Round::Here(local) => {
                    full.over(waiter);
                    return Ok(local);
                }
                // It holds nothing any more: whoever else is in the same need gets on.
                Round::Full(wanting) => full.wait(wanting, waiter)?,
            }
        }
    }

    fn round(&self, wants: &[Want], waiter: &dyn Waiter) -> Result<Round, Stopped> {
        let (folder, mut files, missing, room) = match self.begin(wants, waiter) {
            Err(Stopped::Cache(error)) if is_disk_full(&error.source) => {
                return Ok(Round::Full(Wanting { files: 1, bytes: 1 }));
            }
            begun => begun?,
        };
        let wanting = |missing: &[usize]| Wanting {
            files: missing.len() as u64,
            bytes: missing.iter().map(|at| wants[*at].bytes()).sum(),
        };
        if !missing.is_empty() && !self.has_room(wanting(&missing)) {
            return Ok(Round::Full(wanting(&missing)));
        }
        let (next, full) = (AtomicUsize::new(0), AtomicBool::new(false));
        let came = Mutex::new(Vec::new());
        let work = || {
            while let Some(&at) = missing.get(next.fetch_add(1, Ordering::SeqCst)) {
                let Ok(place) = &files[at] else { continue };
                let waiter = InRound { waiter, full: &full };
                let outcome = self.fetch(&wants[at], place, room.as_ref(), &waiter);
                if matches!(&outcome, Err(Trouble::Disk(error)) if is_disk_full(error)) {
                    full.store(true, Ordering::SeqCst);
                }
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
        let came = came.into_inner().unwrap_or_else(PoisonError::into_inner);
        if waiter.is_over() && came.iter().any(|(_, outcome)| matches!(outcome, Err(Trouble::Over))) {
            return Err(Stopped::Over);
        }
        if full.into_inner() {
            // What is in the cache now need not come again.
            let stays =
                |at: &usize| wants[*at].is_kept() && came.iter().any(|(of, outcome)| of == at && outcome.is_ok());
            let again: Vec<usize> = missing.into_iter().filter(|at| !stays(at)).collect();
            return Ok(Round::Full(wanting(&again)));
        }
        let mut denied = None;
        for (at, outcome) in came {
            match outcome {
                Ok(()) => {}
                Err(Trouble::Over) => return Err(Stopped::Over),
                Err(Trouble::Store(error)) if error.why == Why::NoParts && wants[at].part.is_some() => {
                    self.sends_no_parts(&wants[at].client);
                    return Err(Stopped::NoParts);
                }
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
        Ok(Round::Here(Local { files, refused, _folder: folder, _room: room }))
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
                    Err(source) if is_disk_full(&source) => {
                        return Err(IoError { operation: "write", path: folder.path().into(), source }.into());
                    }
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
        let is_here = want.is_kept() && self.cache.link(&want.key(), &place)?;
        Ok((place, is_here))
    }
}

impl Cache {
    /// Where a cache lies if nobody says where.
    pub fn default_place() -> PathBuf {
        crate::environment::user_cache().unwrap_or_else(std::env::temp_dir).join("cloud")
    }
}
