//! Brings one file to this host, all of it or a part.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fanfold_shared::items::Fingerprint;
use fanfold_store::{Client, StoreError, Why, asked};

use super::Cloud;
use super::bring::{Part, Waiter, Want};
use super::cache::{self, Room};

/// Between two tries while nobody answers.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes of a part that are asked for at once.
const STRETCH: u64 = 8 << 20;

/// Why one file was not brought.
pub(super) enum Trouble {
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
    /// Brings what is wanted to `place`. That nobody answers is waited for.
    pub(super) fn fetch(
        &self,
        want: &Want,
        place: &Path,
        room: Option<&Room>,
        waiter: &dyn Waiter,
    ) -> Result<(), Trouble> {
        let mut said = false;
        loop {
            let outcome = match &want.part {
                None => self.download(want, place, room, waiter),
                Some(part) => self.part(want, part, place, waiter),
            };
            match outcome {
                // Nobody answers: no fault of this object's, and the next one would fail as well.
                Err(Trouble::Store(error)) if matches!(error.why, Why::Unreachable(_) | Why::NoSuchHost(_)) => {
                    if !said {
                        said = true;
                        waiter.held_up(Some(&told(&error)));
                    }
                    thread::sleep(AGAIN);
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
pub(super) fn told(error: &StoreError) -> String {
    match &error.why {
        Why::Missing(_) => format!("`{}`: vanished since the job listed it", error.uri),
        Why::Denied(_) | Why::Unauthenticated(_) => {
            format!(
                "`{}`: {} ({}; `fanfold datastore check` on this machine tries it)",
                error.uri,
                error.why,
                asked(&error.credentials)
            )
        }
        why => format!("`{}`: {why}", error.uri),
    }
}
