//! What is known of an upload without uploading: whether it will be refused, and whether what was uploaded is still there.

use std::time::{Duration, Instant};

use fanfold_shared::job::{JobSpec, OutputAction};
use fanfold_shared::report::{Failure, Result};
use fanfold_shared::uri::Uri;
use fanfold_store::{StoreError, Why};

use super::{JOB, UploadError, is_of, is_recorded, open};
use crate::ledger::LedgerReader;

/// Where it is tried whether writing is allowed: nothing is ever to be seen there. Not under the name of the output: Azure takes a block that nobody
/// wants for a beginning of the blob, and lets no other begin.
const PROBE: &str = ".fanfold-probe";
/// A submission waits so long for a service; the upload waits as long as it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks whether the output of a job that is about to be submitted could be uploaded as things are: nothing has the name of its file, or only what
/// `job` wrote, and the credentials allow to write. What is written for the user to know: the service could not be asked.
///
/// # Errors
/// It would be refused.
pub fn check(spec: &JobSpec, job: Option<&str>) -> Result<Option<String>> {
    let Some(uri) = &spec.output_uri else { return Ok(None) };
    let base = open(uri)?;
    let began = Instant::now();
    let mut watch = || began.elapsed() < PATIENCE;
    let object = match spec.output_action {
        OutputAction::AppendRow => base.at(&spec.append_row_file_name),
        // What its script will write, nobody knows.
        OutputAction::SummaryOnly => base.clone(),
    };
    let found = match spec.output_action {
        OutputAction::AppendRow => object.look(&mut watch),
        OutputAction::SummaryOnly => Ok(None),
    };
    let asked = found.and_then(|seen| match seen {
        Some(seen) => Ok(Some(seen)),
        None => base.at(PROBE).try_to_write(&mut watch).map(|()| None),
    });
    let asked = asked.map_err(|error| StoreError { uri: Box::new(object.uri().clone()), ..error });
    match asked {
        Ok(Some(seen)) if !job.is_some_and(|job| is_of(&seen, job)) => {
            let (uri, of) = (object.uri().clone(), seen.marks.get(JOB).cloned());
            Err(UploadError::Taken { uri, of, early: true }.into())
        }
        Ok(_) => Ok(None),
        Err(error) if error.why == Why::Stopped || !error.why.is_final() => {
            let why = in_words(&error.why);
            Ok(Some(format!(
                "`{uri}` could not be looked at now ({why}): whether the output can be uploaded is known at the end"
            )))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with the objects that a Completed job has uploaded, one sentence each, as `push` takes them. A service that does not answer is asked
/// once.
///
/// # Errors
/// The ledger can't be read, or the datastore not be opened.
pub fn lost(ledger: &LedgerReader, uri: &Uri, push: &mut dyn FnMut(String)) -> Result<()> {
    let base = open(uri)?;
    let mut answers = true;
    ledger.for_each_upload(|row| {
        let Some(there) = row.there.filter(|_| answers) else { return Ok(()) };
        let object = base.at(&row.name);
        let began = Instant::now();
        match object.look(&mut || began.elapsed() < PATIENCE) {
            Ok(Some(seen)) if is_recorded(&seen, &there) => (),
            Ok(Some(_)) => push(format!("`{}` is not the object that was uploaded", object.uri())),
            Ok(None) => push(format!("`{}` is gone", object.uri())),
            Err(error) => {
                answers = error.why != Why::Stopped && error.why.is_final();
                push(format!("`{}` can't be looked at: {}", object.uri(), in_words(&error.why)));
            }
        }
        Ok::<(), Failure>(())
    })
}

fn in_words(why: &Why) -> String {
    match why {
        Why::Stopped => "no answer in time".into(),
        why => why.to_string(),
    }
}
