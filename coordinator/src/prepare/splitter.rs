//! Cuts the files of a list of tables into mini-batches, on a thread of its own: what is cut can run while the rest is still being read.
//!
//! The names of the files are complete and durable first. A table that is cut within a [`Grace`] never is a list that grows: the job begins with
//! all of it, and what is wrong with a file is said before anything runs. Else the list is opened to others with the first mini-batches, and
//! grows in stretches; each is safe before anybody hears of it (`fanfold_shared::items`). What dies in between, the next start goes on with.
//!
//! A file is looked at before it is read: should it change after that, its mini-batches say so when they are handed over, and who goes on in
//! the middle of it refuses.
//!
//! A full disk ends nothing once the list is open: the thread ([`cutter`]) says so, waits for room, and goes on behind what is safe, as the
//! next start would.

mod cutter;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::items::{GrowingList, ItemsError};
use fanfold_shared::job::JobSpec;
use fanfold_shared::report::During;

use super::{Cancel, ListError};
use cutter::Cutter;

/// So long is waited for all of a table before a part of it may run.
const GRACE: Duration = Duration::from_secs(1);
/// Between two looks at whether the caller still wants it.
const LOOK: Duration = Duration::from_millis(20);

/// Cutting that goes on while mini-batches run. Dropped, it ends after its next piece of text, or after its file.
#[derive(Debug)]
pub struct Splitting {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Stretches that the owner has heard of.
    heard: u64,
}

/// What happened since the last look.
#[derive(Debug)]
pub enum News {
    /// Nothing.
    None,
    /// There are more mini-batches.
    More,
    /// The list is complete.
    Complete,
    /// A file is none that can be cut. What was cut before is not concerned.
    Failed(ListError),
}

/// What keeps cutting from going on: it waits, and goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// What could not be written.
    pub path: PathBuf,
    /// What the system says.
    pub why: String,
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Stretches that are safe.
    stretches: u64,
    /// How much was read, 0 to 1.
    progress: f64,
    /// There is no room for more.
    blocked: Option<NoRoom>,
    end: Option<Result<(), ListError>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Whether anybody still waits for what is cut.
    fn wanted(&self) -> Result<(), ListError> {
        ListError::canceled_if(self.stop.load(Ordering::SeqCst))
    }

    /// Nobody does any more.
    fn stop(&self) {
        // Under the lock: else who has just looked and begins to wait would not hear of it.
        self.change(|_| self.stop.store(true, Ordering::SeqCst));
    }
}

impl Splitting {
    /// Begins with the list, or goes on with it. Returns when there are mini-batches to run, which may be all: then there is nothing left to do;
    /// or when there is no room to go on with it.
    ///
    /// # Errors
    /// A file can't be cut, and nothing was opened to others. [`ListError::Canceled`]: the caller said stop.
    pub(super) fn begin(
        spec: &JobSpec,
        list: GrowingList,
        dir: &Path,
        grace: Grace,
        cancel: &Cancel<'_>,
    ) -> Result<Option<Splitting>, ListError> {
        let shared = Arc::new(Shared::default());
        let cutter = Cutter { spec: spec.clone(), dir: dir.to_path_buf(), shared: shared.clone(), grace };
        let thread = thread::Builder::new()
            .name("split".into())
            .spawn(move || {
                let ended = cutter.run(list);
                cutter.shared.change(|state| state.end = Some(ended));
            })
            .during("start a thread for", dir)
            .map_err(ItemsError::from)?;
        let mut splitting = Splitting { shared, thread: Some(thread), heard: 0 };
        loop {
            cancel()?;
            match splitting.look() {
                News::None => (),
                News::More => return Ok(Some(splitting)),
                News::Complete => return Ok(None),
                News::Failed(error) => return Err(error),
            }
            let state = splitting.shared.lock();
            if state.blocked.is_some() {
                drop(state);
                return Ok(Some(splitting));
            }
            if state.stretches == 0 && state.end.is_none() {
                drop(splitting.shared.changed.wait_timeout(state, LOOK));
            }
        }
    }

    /// What happened since the last look. Complete and failed are said once.
    pub fn look(&mut self) -> News {
        // Before the look: its end is told before it ends.
        let is_finished = self.thread.as_ref().is_some_and(thread::JoinHandle::is_finished);
        let mut state = self.shared.lock();
        if state.stretches > self.heard {
            self.heard = state.stretches;
            return News::More;
        }
        match state.end.take() {
            None if is_finished => {
                drop(state);
                // Nobody would ever hear of it otherwise.
                if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                News::None
            }
            None => News::None,
            Some(Ok(())) => News::Complete,
            Some(Err(error)) => News::Failed(error),
        }
    }

    /// How much of the data was read, 0 to 1.
    pub fn progress(&self) -> f64 {
        self.shared.lock().progress
    }

    /// What it waits for, if it does.
    pub fn blocked(&self) -> Option<NoRoom> {
        self.shared.lock().blocked.clone()
    }
}

impl Drop for Splitting {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic of it was told by the hook.
            let _ = thread.join();
        }
    }
}

/// When a list is opened to others before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// After this time.
    Over(Duration),
    /// Never: who wants all of it waits for it.
    Endless,
}

impl Grace {
    /// That of a job: 1 s.
    pub fn usual() -> Grace {
        Grace::Over(wait("FANFOLD_SPLIT_GRACE_MS", GRACE))
    }

    fn is_over(self, began: Instant) -> bool {
        matches!(self, Grace::Over(grace) if began.elapsed() >= grace)
    }
}

/// `usual`; tests may say otherwise where points to die at are compiled in.
fn wait(variable: &str, usual: Duration) -> Duration {
    if !cfg!(feature = "failpoints") {
        return usual;
    }
    let told = std::env::var(variable).ok().and_then(|told| told.parse().ok());
    told.map_or(usual, Duration::from_millis)
}
