//! The page on which a process says what it is doing (`docs/design/host-protocol.md`).
//!
//! It is a file mapped by both sides, so it tells the truth even when one of them, or both, are gone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fanfold_shared::clock;
use fanfold_shared::message::Activity;
use fanfold_shared::report::{During, IoError};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const SIZE: usize = 4096;
const MAGIC: u64 = 0x0031_4547_4150_4646;

/// What a process does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The interpreter starts.
    Starting,
    /// The script is imported.
    Importing,
    /// `init()`.
    Init,
    /// Nothing to do.
    Waiting,
    /// Around `run()`.
    Overhead,
    /// `run()`.
    Run,
    /// `shutdown()`.
    Shutdown,
    /// The disk has no room for the rows: nobody's time runs.
    NoRoom,
}

impl Phase {
    fn from_word(word: u64) -> Phase {
        match word & 0xff {
            1 => Phase::Importing,
            2 => Phase::Init,
            3 => Phase::Waiting,
            4 => Phase::Overhead,
            5 => Phase::Run,
            6 => Phase::Shutdown,
            7 => Phase::NoRoom,
            _ => Phase::Starting,
        }
    }

    fn names_mini_batch(self) -> bool {
        matches!(self, Phase::Overhead | Phase::Run | Phase::NoRoom)
    }

    /// The same for those who look at a job.
    pub fn activity(self) -> Activity {
        match self {
            Phase::Starting => Activity::Starting,
            Phase::Importing => Activity::Importing,
            Phase::Init => Activity::Init,
            Phase::Waiting => Activity::Idle,
            Phase::Overhead => Activity::Loading,
            Phase::Run => Activity::Running,
            Phase::Shutdown => Activity::Ending,
            Phase::NoRoom => Activity::Blocked,
        }
    }

    /// For messages: `in run()`, `in init()`.
    pub fn describe(self) -> &'static str {
        match self {
            Phase::Starting => "while Python started",
            Phase::Importing => "while the script was imported",
            Phase::Init => "in init()",
            Phase::Waiting => "between mini-batches",
            Phase::Overhead => "around run()",
            Phase::Run => "in run()",
            Phase::Shutdown => "in shutdown()",
            Phase::NoRoom => "while it waited for room on the disk",
        }
    }
}

/// A reading of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What the process does.
    pub phase: Phase,
    /// Since when.
    pub began: Instant,
    /// The mini-batch that it concerns; the runner adds the one that waits first where the page names none.
    pub mini_batch: Option<u64>,
}

/// A mini-batch that a page of a former run shows as running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftRunning {
    /// The mini-batch.
    pub mini_batch: u64,
    /// Its attempt.
    pub attempt: u32,
    /// Whether it was all that ran.
    pub alone: bool,
}

/// A mapped page.
pub struct Page {
    words: NonNull<AtomicU64>,
}

// SAFETY: the mapping is only touched through atomics, by this process and by the child.
unsafe impl Send for Page {}

impl Page {
    /// Makes the page at `path` anew for a process about to start.
    pub fn create(path: &Path) -> Result<Page, IoError> {
        let map = || -> io::Result<Page> {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
            // Written and not just lengthened: on a full disk a page without a block is a SIGBUS at its first touch.
            file.write_all(&[0; SIZE])?;
            map(&file)
        };
        let page = map().during("create the page", path)?;
        page.word(3).store(clock::monotonic_ns(), Ordering::Relaxed);
        page.word(0).store(MAGIC, Ordering::Release);
        Ok(page)
    }

    /// Reads what the process does now.
    pub fn look(&self) -> Look {
        // The process writes the time before the phase; reading in the opposite order never makes a new phase look old.
        let state = self.word(2).load(Ordering::Acquire);
        let began_ns = self.word(3).load(Ordering::Acquire);
        let age = Duration::from_nanos(clock::monotonic_ns().saturating_sub(began_ns));
        let phase = Phase::from_word(state);
        let mini_batch = phase.names_mini_batch().then_some(state >> 8);
        let now = Instant::now();
        Look { phase, began: now.checked_sub(age).unwrap_or(now), mini_batch }
    }

    /// Whether this is still a page: a script that writes to descriptors that are not its own may have written here.
    pub fn is_sound(&self) -> bool {
        self.word(0).load(Ordering::Acquire) == MAGIC
    }

    /// Asks the host to begin no further mini-batch. It looks here before each, so this needs no message.
    pub fn request_stop(&self) {
        self.word(6).store(1, Ordering::Release);
    }

    /// Notes whether what is handed over next is all that runs, so that a death of everything can be told to be its doing.
    /// The process has nothing to run at this moment if that changes.
    pub fn set_alone(&self, alone: bool) {
        self.word(7).store(alone.into(), Ordering::Release);
    }

    /// Mini-batches that the process has finished, answered or not.
    pub fn finished(&self) -> u64 {
        self.word(5).load(Ordering::Acquire)
    }

    /// Marks the page as that of a process that has ended and was accounted for.
    pub fn clear(&self) {
        self.word(2).store(0, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the mapping is SIZE bytes long, page-aligned and lives as long as self.
        unsafe { &*self.words.as_ptr().add(index) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size and nothing refers to it any more.
        // An error could only mean that it is not mapped.
        let _ = unsafe { munmap(self.words.cast(), SIZE) };
    }
}

fn map(file: &File) -> io::Result<Page> {
    let size = NonZeroUsize::new(SIZE).expect("the size is not zero");
    let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours; other processes that write to
    // the file are why every access is atomic.
    let words = unsafe { mmap(None, size, flags, MapFlags::MAP_SHARED, file.as_fd(), 0) }?;
    Ok(Page { words: words.cast() })
}

/// The words of the page at `path`, read in their order, so that an old phase may look new and never the other way round. None: it is
/// none.
fn words(path: &Path) -> Option<[u64; 8]> {
    let mut bytes = [0; 64];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
    let word = |i: usize| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
    let words = std::array::from_fn(word);
    (words[0] == MAGIC).then_some(words)
}

/// What a page left by a former run shows as running, if anything. A page that is not one shows nothing.
pub fn left_running(path: &Path) -> Option<LeftRunning> {
    let words = words(path)?;
    let running = matches!(Phase::from_word(words[2]), Phase::Overhead | Phase::Run);
    running.then_some(LeftRunning { mini_batch: words[2] >> 8, attempt: words[4] as u32, alone: words[7] != 0 })
}

/// A page as somebody else than its slot sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The process whose page it is; 0: it has not said so yet.
    pub pid: u32,
    /// What it does.
    pub phase: Phase,
    /// For so long, microseconds.
    pub for_us: u64,
    /// The mini-batch that it concerns.
    pub mini_batch: Option<u64>,
}

/// Reads the page at `path` without its slot knowing. None: it is none.
pub fn glance(path: &Path) -> Option<Glance> {
    let words = words(path)?;
    let phase = Phase::from_word(words[2]);
    let mini_batch = phase.names_mini_batch().then_some(words[2] >> 8);
    let for_us = clock::monotonic_ns().saturating_sub(words[3]) / 1000;
    Some(Glance { pid: words[1] as u32, phase, for_us, mini_batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_page_tells_what_runs_and_still_does_when_its_writer_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        let page = Page::create(&path).unwrap();
        assert_eq!((page.look().phase, page.look().mini_batch), (Phase::Starting, None));
        assert_eq!(left_running(&path), None);
        page.word(4).store(2, Ordering::Relaxed);
        page.word(2).store(77 << 8 | 5, Ordering::Release);
        assert_eq!((page.look().phase, page.look().mini_batch), (Phase::Run, Some(77)));
        page.set_alone(true);
        let seen = glance(&path).unwrap();
        assert_eq!((seen.pid, seen.phase, seen.mini_batch), (0, Phase::Run, Some(77)));
        drop(page);
        assert_eq!(left_running(&path), Some(LeftRunning { mini_batch: 77, attempt: 2, alone: true }));
        let page = Page::create(&path).unwrap();
        assert!(page.is_sound());
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(&[0xff; 64])).unwrap();
        assert!(!page.is_sound());
        std::fs::write(&path, b"garbage").unwrap();
        assert_eq!(left_running(&path), None);
    }
}
