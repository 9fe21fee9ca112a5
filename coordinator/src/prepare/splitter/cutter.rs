//! The thread that cuts: file after file, from where the list ends; and waits where there is no room for it.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanfold_shared::items::{Fingerprint, Fingerprints, GrowingList, ItemReader, ItemsError, Slice, check, is_listed};
use fanfold_shared::job::JobSpec;
use fanfold_store::Client;

use super::super::cloud::Cloud;
use super::super::tables::{TableFile, Tables};
use super::super::{ListError, empty};
use super::{Grace, NoRoom, Shared, wait};

/// Between two stretches.
const STRETCH: Duration = Duration::from_millis(250);
/// Between two looks at whether there is room again.
const ROOM: Duration = Duration::from_secs(1);

/// The thread's side.
pub(super) struct Cutter {
    pub(super) spec: JobSpec,
    /// Of the list.
    pub(super) dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) grace: Grace,
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
    /// Cuts what the list has not yet, to its end.
    pub(super) fn run(&self, mut list: GrowingList) -> Result<(), ListError> {
        loop {
            let Err(error) = self.cut_all(list) else { return Ok(()) };
            let Some(no_room) = NoRoom::of(&error).filter(|_| is_listed(&self.dir)) else { return Err(error) };
            match self.resume(no_room)? {
                Some(resumed) => list = resumed,
                None => return Ok(()),
            }
        }
    }

    /// Waits until the list can be gone on with, behind what is safe of it. None: it was complete.
    fn resume(&self, mut no_room: NoRoom) -> Result<Option<GrowingList>, ListError> {
        loop {
            // The first is told until there is room: which file it is the next time says nothing new.
            self.shared.change(|state| _ = state.blocked.get_or_insert(no_room));
            let waits = |_: &mut _| !self.shared.stop.load(Ordering::SeqCst);
            drop(self.shared.changed.wait_timeout_while(self.shared.lock(), ROOM, waits));
            self.shared.wanted()?;
            let error = match GrowingList::resume(&self.dir) {
                Ok(list) => return Ok(list),
                Err(error) => ListError::from(error),
            };
            no_room = NoRoom::of(&error).ok_or(error)?;
        }
    }

    fn cut_all(&self, mut list: GrowingList) -> Result<(), ListError> {
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
                self.shared.wanted()?;
                let place = Place { number, entry, entries: names.entries(), client: client.as_ref() };
                let after = after.take();
                self.cut(&names, &stretch, place, after.as_ref().map(|(last, rows)| (last, *rows)))?;
            }
            if list.borrow().rows_of(number) == 0 {
                return Err(empty::no_rows_of(&names, number, self.spec.input_type)?);
            }
        }
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
            self.shared.wanted()?;
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

impl NoRoom {
    /// None: the error is another one.
    fn of(error: &ListError) -> Option<NoRoom> {
        match error {
            ListError::Items(ItemsError::Io(error)) if error.is_disk_full() => {
                Some(NoRoom { path: error.path.clone(), why: error.source.to_string() })
            }
            _ => None,
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
        let saved = list.save()?;
        if saved || first {
            self.shared.change(|state| {
                state.stretches += 1;
                // What was there before proves no room.
                state.blocked.take_if(|_| saved);
            });
        }
        Ok(())
    }
}
