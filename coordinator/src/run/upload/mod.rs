//! Everything in the output directory becomes objects at the job's address, each whole, before the job is Completed.
//!
//! It reads finished files and changes nothing of them: it may be cut, repeated and refused at will, and nothing of what was computed is lost by
//! it. The ledger knows what is there; an object says itself whose it is. `docs/design/upload.md` says what may die between two steps.

mod check;
mod error;
mod files;
mod one;

use fanfold_shared::report::{Failure, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::text::{counted, size};
use fanfold_shared::uri::Uri;
use fanfold_store::{Client, Datastores, Seen, Stores};
use fanfold_worker::logs::Level;

pub use check::{check, lost};
pub use error::UploadError;

use super::prepare::Prepared;
use crate::aggregate::CommitError;
use crate::ledger::There;
use files::Files;
use one::Went;

/// The metadata that says whose an object is: the job's id.
const JOB: &str = "fanfoldjob";
/// And what is in it: BLAKE3 of its bytes, in hexadecimal digits.
const SUM: &str = "fanfoldsum";

/// How uploading ended.
pub(super) enum Uploaded {
    /// All of it is there.
    All,
    /// The user does not wait.
    Stopped,
    /// No second try finds another answer.
    Refused(Failure),
}

/// Uploads what is not there yet.
///
/// # Errors
/// The ledger failed.
pub(super) fn upload(prepared: &mut Prepared, uri: &Uri) -> Result<Uploaded> {
    let mut progress = Progress::new(uri);
    match all(prepared, uri, &mut progress) {
        Ok(true) => {
            prepared.observer.log(Level::Info, &format!("Uploaded {} to {uri}.", progress.all()));
            Ok(Uploaded::All)
        }
        Ok(false) => Ok(Uploaded::Stopped),
        // What the ledger holds is then known to the next start only.
        Err(failure) if failure.is::<CommitError>() => Err(failure),
        Err(failure) => Ok(Uploaded::Refused(failure)),
    }
}

/// False: the user does not wait.
fn all(prepared: &mut Prepared, uri: &Uri, progress: &mut Progress) -> Result<bool> {
    let base = open(uri)?;
    let dir = super::output_dir(&prepared.spec, &prepared.dir);
    let last = super::output_file(&prepared.spec, &prepared.dir);
    let files = Files::below(&dir, last.as_deref());
    (progress.files, progress.bytes) = files.count()?;
    for file in files.each() {
        let file = file?;
        if let Went::Stopped = one::one(prepared, &base.at(&file.name), &file, progress)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A client for `uri`, with the datastores of this machine.
pub(super) fn open(uri: &Uri) -> Result<Client> {
    Ok(Stores::new(Datastores::load()?)?.open(uri)?)
}

/// How far it is, in words.
struct Progress {
    uri: Uri,
    files: u64,
    bytes: u64,
    files_done: u64,
    bytes_done: u64,
}

impl Progress {
    fn new(uri: &Uri) -> Progress {
        Progress { uri: uri.clone(), files: 0, bytes: 0, files_done: 0, bytes_done: 0 }
    }

    /// `uploading 1.2 MiB of 5.0 MiB to s3://bucket/folder`; `more` bytes of the next file are there as well.
    fn in_words(&self, more: u64) -> String {
        let files = match self.files {
            1 => String::new(),
            files => format!("{} of {}, ", self.files_done, counted(files, "file")),
        };
        format!("uploading {files}{} of {} to {}", size(self.bytes_done + more), size(self.bytes), self.uri)
    }

    fn all(&self) -> String {
        format!("{} ({})", counted(self.files, "file"), size(self.bytes))
    }
}

/// Whether the object was written by `job`.
fn is_of(seen: &Seen, job: &str) -> bool {
    seen.marks.get(JOB).is_some_and(|of| of == job)
}

/// Whether the object is what the ledger has recorded.
fn is_recorded(seen: &Seen, there: &There) -> bool {
    let version = match (&seen.version.etag, &there.version.etag) {
        (Some(seen), Some(recorded)) => seen == recorded,
        _ => seen.marks.get(SUM) == Some(&there.sum),
    };
    version && seen.size == there.size
}

/// The job stays Finalizing: its output has its final name here, and the same command uploads it.
pub(super) fn refused(prepared: &mut Prepared, failure: &Failure) -> Result<()> {
    let hint = failure.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let cause = format!("{}{hint}", failure.one_line());
    match prepared.aggregate.set_state(JobState::Finalizing, Some(&cause)) {
        Ok(()) | Err(CommitError::DiskFull { .. }) => prepared.observer.state(JobState::Finalizing, Some(&cause)),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
