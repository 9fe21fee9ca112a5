//! Cuts the files of a list of tables into mini-batches, on a thread of its own: what is cut can run while the rest is still being read.
//!
//! The names of the files are complete and durable first. A table that is cut within a [`Grace`] never is a list that grows: the job begins with
//! all of it, and what is wrong with a file is said before anything runs. Else the list is opened to others with the first mini-batches, and
//! grows in stretches; each is safe before anybody hears of it (`fanfold_shared::items`). What dies in between, the next start goes on with.
//!
//! A file is looked at before it is read: should it change after that, its mini-batches say so when they are handed over, and who goes on in
//! the middle of it refuses.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfold_shared::items::{Fingerprint, Fingerprints, GrowingList, ItemReader, ItemsError, Slice, check};
use fanfold_shared::job::JobSpec;
use fanfold_shared::report::During;
use fanfold_store::Client;

use super::cloud::Cloud;
use super::tables::{TableFile, Tables};
use super::{Cancel, ListError, empty};

/// So long is waited for all of a table before a part of it may run.
const GRACE: Duration = Duration::from_secs(1);
/// Between two stretches.
const STRETCH: Duration = Duration::from_millis(250);
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
}

impl Splitting {
    /// Begins with the list, or goes on with it. Returns when there are mini-batches to run, which may be all: then there is nothing left to do.
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
            if state.stretches == 0 && state.end.is_none() {
                drop(splitting.shared.changed.wait_timeout(state, LOOK));
            }
        }
    }

    /// What happened since the last look. Complete and failed are said once.
    pub fn look(&mut self) -> News {
        let mut state = self.shared.lock();
        if state.stretches > self.heard {
            self.heard = state.stretches;
            return News::More;
        }
        match state.end.take() {
            None => News::None,
            Some(Ok(())) => News::Complete,
            Some(Err(error)) => News::Failed(error),
        }
    }

    /// How much of the data was read, 0 to 1.
    pub fn progress(&self) -> f64 {
        self.shared.lock().progress
    }
}

impl Drop for Splitting {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
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

/// The thread's side.
struct Cutter {
    spec: JobSpec,
    dir: PathBuf,
    shared: Arc<Shared>,
    grace: Grace,
}

/// Where it stands in the files.
struct Place<'a> {
    number: usize,
    entry: u64,
    entries: u64,
    /// If the input lies in the cloud.
    client: Option<&'a Client>,
}

impl Cutter {
    fn run(&self, mut list: GrowingList) -> Result<(), ListError> {
        let names = list.names()?;
        let fingerprints = Fingerprints::create(&self.dir, names.entries())?;
        let cloud = Cloud::default();
        let began = Instant::now();
        let mut after = list.last()?;
        let list = RefCell::new(list);
        let stretch = Stretch {
            list: &list,
            shared: &self.shared,
            fingerprints: &fingerprints,
            saved: Cell::new(None),
            is_over: &|| self.grace.is_over(began),
        };
        let first = after.as_ref().map_or(0, |(slice, _)| u64::from(slice.entry));
        for (number, input) in names.split().inputs.iter().enumerate() {
            let client = input.uri().map(|uri| cloud.open(&uri)).transpose()?;
            for entry in first.max(input.entries.start)..input.entries.end {
                self.wanted()?;
                let place = Place { number, entry, entries: names.entries(), client: client.as_ref() };
                let after = after.take();
                self.cut(&names, &stretch, place, after.as_ref().map(|(last, rows)| (last, *rows)))?;
            }
            if list.borrow().rows_of(number) == 0 {
                return Err(empty::no_rows_of(&names, number, self.spec.input_type)?);
            }
        }
        drop(stretch);
        fingerprints.sync()?;
        list.into_inner().finish()?;
        Ok(())
    }

    /// Cuts one file, behind the slice `after` if there is one of it.
    fn cut(
        &self,
        names: &ItemReader,
        stretch: &Stretch<'_>,
        place: Place<'_>,
        after: Option<(&Slice, u64)>,
    ) -> Result<(), ListError> {
        let Place { number, entry, entries, client } = place;
        let input = &names.split().inputs[number];
        let (name, root) = (names.item(entry)?, Path::new(&input.root));
        let path = root.join(OsStr::from_bytes(&name));
        let known =
            || Ok::<_, ItemsError>(stretch.fingerprints.get(entry..entry + 1)?.pop().unwrap_or(Fingerprint::NotTaken));
        let object = match (client, after) {
            // What is known of an object came with the listing, and is compared with when it is read.
            (Some(client), _) => Some((client.at(&String::from_utf8_lossy(&name)), known()?)),
            (None, None) => {
                stretch.fingerprints.take_anew(names, entry)?;
                None
            }
            (None, Some(_)) => {
                if let Some(trouble) = trouble_since(root, &name, known()?) {
                    let what = format!("it {trouble}, and mini-batches were made of a part of it");
                    let hint = "bring the file back as it was, or run the job in a new directory".into();
                    return Err(ListError::Table { path, what, hint });
                }
                // What there is can be run, whatever is found behind it.
                self.shared.change(|state| state.stretches += 1);
                None
            }
        };
        let len = match &object {
            Some((_, Fingerprint::File { size, .. })) => (*size).max(1),
            _ => std::fs::metadata(&path).map_or(1, |found| found.len()).max(1),
        };
        let beyond = |_| ItemsError::Unlistable { ordinal: entry, what: "there are more than 4 billion files" };
        let file = TableFile {
            input: &input.name,
            path: &path,
            entry: u32::try_from(entry).map_err(beyond)?,
            first: entry == 0,
            object,
        };
        let tables = Tables::of(&self.spec).expect("only tables are cut");
        let go_on = || {
            self.wanted()?;
            Ok(stretch.look()?)
        };
        let cut = tables.slices(file, after, &go_on, &mut |slice, rows| {
            let within = slice.part.end.min(len) as f64 / len as f64;
            self.shared.lock().progress = (entry as f64 + within) / entries as f64;
            stretch.list.borrow_mut().push(&slice, rows, number)?;
            Ok(stretch.look()?)
        });
        cut.map_err(|error| self.with_consequences(error, entry, stretch))
    }

    /// Whether anybody still waits for what is cut.
    fn wanted(&self) -> Result<(), ListError> {
        ListError::canceled_if(self.shared.stop.load(Ordering::SeqCst))
    }

    /// A file of which a part runs already can't be mended under it.
    fn with_consequences(&self, error: ListError, entry: u64, stretch: &Stretch<'_>) -> ListError {
        let mut list = stretch.list.borrow_mut();
        let is_begun = list.is_open() && matches!(list.last(), Ok(Some((slice, _))) if u64::from(slice.entry) == entry);
        match error {
            ListError::Table { path, what, hint } if is_begun => {
                let then =
                    "mini-batches were made of what comes before it: mend the file and run the job in a new directory";
                let hint = if hint.is_empty() { then.to_string() } else { format!("{hint}; {then}") };
                ListError::Table { path, what, hint }
            }
            error => error,
        }
    }
}

/// Why a file of which a part was split is not that file any more.
fn trouble_since(root: &Path, name: &[u8], known: Fingerprint) -> Option<String> {
    match known {
        // It was safe before the first slice: it can only have been lost.
        Fingerprint::NotTaken => Some("was split when nobody had noted what it was like".into()),
        known => check(root, [name], &[known]).pop().map(|(_, trouble)| trouble.to_string()),
    }
}

/// Makes what was cut safe from time to time.
struct Stretch<'a> {
    list: &'a RefCell<GrowingList>,
    shared: &'a Shared,
    /// They are safe before any slice of their files is: else a change could not be told from what was split.
    fingerprints: &'a Fingerprints,
    /// When that was done last.
    saved: Cell<Option<Instant>>,
    /// The time before which nobody gets anything is over.
    is_over: &'a dyn Fn() -> bool,
}

impl Stretch<'_> {
    /// Saves a stretch if it is time.
    fn look(&self) -> Result<(), ItemsError> {
        let every = wait("FANFOLD_SPLIT_STRETCH_MS", STRETCH);
        let due = match self.saved.get() {
            None => self.list.borrow().is_open() || (self.is_over)(),
            Some(saved) => saved.elapsed() >= every,
        };
        if !due || (self.saved.get().is_none() && self.list.borrow().rows() == 0) {
            return Ok(());
        }
        let mut list = self.list.borrow_mut();
        // Of a list that is gone on with, what is there is to be heard of at once.
        let first = self.saved.replace(Some(Instant::now())).is_none();
        self.fingerprints.sync()?;
        list.open()?;
        if list.save()? || first {
            self.shared.change(|state| state.stretches += 1);
        }
        Ok(())
    }
}
