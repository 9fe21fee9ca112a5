//! A full disk under the cache: what is wanted waits for room, and is downloaded again only when there is some.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use fanfold_shared::report::is_disk_full;

use super::bring::{Stopped, Waiter};
use super::{Cache, Cloud, CloudError};
use crate::logs::Level;

/// Between two looks at the disk.
const LOOK: Duration = Duration::from_millis(250);
/// Before the second try. A quota is not told by the disk, so tries become rarer, whatever it says.
const FIRST: Duration = Duration::from_millis(500);
/// Before any other.
const LONGEST: Duration = Duration::from_secs(60);

/// Opens the cache as soon as its disk has room for that.
pub(super) fn open(
    dir: &Path,
    size: Option<u64>,
    cancel: &AtomicBool,
    tell: &mut dyn FnMut(Level, &str),
) -> Result<Arc<Cache>, CloudError> {
    let mut said = false;
    loop {
        match Cache::open(dir, size) {
            Err(error) if is_disk_full(&error.source) => {
                if !std::mem::replace(&mut said, true) {
                    tell(Level::Warning, &format!("waits for {}", room(dir)));
                }
                if cancel.load(Ordering::SeqCst) {
                    return Err(CloudError::Over);
                }
                thread::sleep(LOOK);
            }
            opened => return Ok(opened?),
        }
    }
}

fn room(dir: &Path) -> String {
    format!("room on the disk of the cache (`{}`), which is full", dir.display())
}

/// What needs room.
#[derive(Clone, Copy)]
pub(super) struct Wanting {
    pub files: u64,
    pub bytes: u64,
}

/// The wait of one mini-batch.
pub(super) struct Full<'a> {
    cloud: &'a Cloud,
    /// Who has found the disk full goes on alone: several would fill it again together.
    alone: Option<MutexGuard<'a, ()>>,
    pause: Duration,
    said: bool,
}

impl<'a> Full<'a> {
    /// No wait yet.
    pub fn new(cloud: &'a Cloud) -> Full<'a> {
        Full { cloud, alone: None, pause: Duration::ZERO, said: false }
    }

    /// Waits until it may be tried again: there is room, for which unused entries go, and a pause is over.
    pub fn wait(&mut self, wanting: Wanting, waiter: &dyn Waiter) -> Result<(), Stopped> {
        let until = Instant::now() + self.pause;
        let first = self.pause.is_zero();
        self.pause = (2 * self.pause).clamp(FIRST, LONGEST);
        loop {
            if waiter.is_over() {
                return Err(Stopped::Over);
            }
            if self.alone.is_none() {
                self.alone = match self.cloud.narrow.try_lock() {
                    Ok(alone) => Some(alone),
                    Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
                    Err(TryLockError::WouldBlock) => None,
                };
            }
            if self.alone.is_some() && Instant::now() >= until && self.makes_room(wanting) {
                return Ok(());
            }
            if !self.said && (self.alone.is_some() || !first) {
                self.said = true;
                waiter.held_up(Some(&room(self.cloud.cache.root())));
            }
            thread::sleep(LOOK);
        }
    }

    fn makes_room(&self, wanting: Wanting) -> bool {
        // On a full disk even that may fail; then there is no room.
        let shrinks = || self.cloud.cache.shrink(wanting.bytes).is_ok_and(|freed| freed);
        self.cloud.has_room(wanting) || shrinks() && self.cloud.has_room(wanting)
    }

    /// Everything is here.
    pub fn over(&self, waiter: &dyn Waiter) {
        if self.said {
            waiter.held_up(None);
        }
    }
}

impl Cloud {
    /// Whether there is room on the disk of the cache, as far as it says.
    pub(super) fn has_room(&self, wanting: Wanting) -> bool {
        self.cache.has_room(wanting.files, wanting.bytes)
    }
}
