//! Which script a retry runs: the copy that the job has, or another one, of its source as it is now (`docs/design/new-script.md`).
//!
//! A copy is complete before anything knows of it, and nothing runs it before the ledger says so: whatever dies in between leaves the job
//! what it was.

use std::io;
use std::path::PathBuf;

use fanfold_shared::failpoint;
use fanfold_shared::ids::{JobId, ScriptNumber};
use fanfold_shared::job;
use fanfold_shared::job::{JobSpec, OutputAction};
use fanfold_shared::report::{ExitCode, Report, Result};

use super::places;
use super::prepare::something_failed;
use super::submit::Submitted;
use crate::aggregate::Aggregate;
use crate::ledger::{LedgerReader, NewScript};
use crate::prepare::{SnapshotError, listing, snapshot};

/// What is told where a new script was asked for and there is none.
pub const UNCHANGED: &str = "the script is what it was: the retry runs the job's own copy of it";

/// What a retry is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryScript {
    /// What the job ran last.
    Own,
    /// A copy of the source as it is now.
    New,
    /// The copy with this number, which was taken when the retry was asked for.
    Taken(ScriptNumber),
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// What the job ran last.
    Own,
    /// The same, although a new one was asked for: there is none.
    Unchanged,
    /// Another one, whose copy is complete. The ledger knows nothing of it yet.
    New {
        /// See there.
        script: NewScript,
        /// What the user should know of the copy.
        notes: Vec<String>,
    },
}

impl Script {
    /// The number that the job runs under, if it runs `own` now.
    pub(super) fn number(&self, own: ScriptNumber) -> ScriptNumber {
        match self {
            Script::Own | Script::Unchanged => own,
            Script::New { script, .. } => script.number,
        }
    }
}

/// Why a job can't have a new script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// There is none.
    #[error("there is no new script for job {id}: `{}` is gone", path.display())]
    Gone {
        /// The job.
        id: JobId,
        /// What is not there.
        path: PathBuf,
        /// The copy that the job has.
        copy: PathBuf,
    },
    /// Rows would be written in another way than those that are in.
    #[error("the new script would write the rows of job {id} otherwise than those that are in: `{}` changed since", path.display())]
    OtherSettings {
        /// The job.
        id: JobId,
        /// The settings.
        path: PathBuf,
        /// The copy that the job has.
        copy: PathBuf,
    },
}

impl Report for ScriptError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ScriptError::Gone { copy, .. } => format!(
                "nothing was changed; bring it back, or leave `--new-script` out: then the job runs its own copy, `{}`",
                copy.display()
            ),
            ScriptError::OtherSettings { copy, .. } => format!(
                "nothing was changed; bring that file back as it is in `{}`, or run the new script as a new job, in a new directory",
                copy.display()
            ),
        })
    }
}

/// Decides what the job runs from now on, and takes the copy that it needs for that. Asked for a new script, it looks first whether there is
/// anything to be tried again.
///
/// # Errors
/// [`ScriptError`], [`SnapshotError`], or there is nothing to try. Nothing was changed then.
pub(super) fn choose(submitted: &Submitted, wanted: RetryScript) -> Result<Script> {
    let Submitted { dir, spec, script: own, .. } = submitted;
    let taken = match wanted {
        RetryScript::Own => return Ok(Script::Own),
        // The program died after the job had begun to run it.
        RetryScript::Taken(number) if number <= *own => return Ok(Script::Own),
        RetryScript::Taken(number) => Some(number).filter(|number| dir.snapshot(*number).is_dir()),
        RetryScript::New => None,
    };
    something_failed(submitted)?;
    let snapshot = match taken {
        Some(number) => snapshot::take(spec, dir, number, &[])?,
        None => {
            let mut beside = listing::own_directories(dir, &places::output_dir(spec, dir));
            beside.extend(submitted.job_file.clone());
            let now = snapshot::preview(spec, &beside).map_err(|error| gone(submitted, error))?;
            if now.hash == snapshot::take(spec, dir, *own, &beside)?.hash {
                return Ok(Script::Unchanged);
            }
            other_settings(submitted)?;
            let taken = snapshot::renew(spec, dir, own.next(), &beside).map_err(|error| gone(submitted, error))?;
            failpoint!("script_taken");
            taken
        }
    };
    let number = taken.unwrap_or(own.next());
    let fingerprint = fingerprint(spec, &snapshot.hash);
    Ok(Script::New { script: NewScript { number, hash: snapshot.hash, fingerprint }, notes: snapshot.notes })
}

/// Opens what is out of tries again, to be run with `script`. Returns what the job runs from now on, its number and its hash; `own` is what it
/// ran.
///
/// # Errors
/// The ledger or the output.
pub(super) fn retry(
    aggregate: &mut Aggregate,
    script: &Script,
    own: (ScriptNumber, String),
    notes: &mut Vec<String>,
) -> Result<(ScriptNumber, String)> {
    let Script::New { script: new, notes: more } = script else {
        notes.extend((*script == Script::Unchanged).then(|| UNCHANGED.to_string()));
        aggregate.retry_failed()?;
        return Ok(own);
    };
    notes.extend(more.iter().cloned());
    aggregate.retry_failed_with(Some(new))?;
    failpoint!("script_recorded");
    if aggregate.ledger().script()? != new.number {
        notes.push("nothing is left to be run: the new script is not needed".into());
        return Ok(own);
    }
    Ok((new.number, new.hash.clone()))
}

/// What makes a ledger this job's: the job, and the script it runs.
pub(super) fn fingerprint(spec: &JobSpec, snapshot: &str) -> String {
    format!("{}:{snapshot}", job::fingerprint(spec))
}

/// What a source that is not there means where the job has a copy of what it was.
fn gone(submitted: &Submitted, error: SnapshotError) -> fanfold_shared::report::Failure {
    let Submitted { dir, id, spec, script, .. } = submitted;
    let path = match error {
        SnapshotError::ScriptMissing { .. } => spec.source_directory.join(&spec.entry_script),
        SnapshotError::Unreadable(error) if error.source.kind() == io::ErrorKind::NotFound => {
            error.path.components().collect()
        }
        error => return error.into(),
    };
    ScriptError::Gone { id: id.clone(), path, copy: dir.snapshot(*script) }.into()
}

/// Refuses settings of the script that would write rows otherwise than those that are in.
fn other_settings(submitted: &Submitted) -> Result<()> {
    let Submitted { dir, id, spec, script, .. } = submitted;
    if spec.output_action != OutputAction::AppendRow || spec.writes_parquet() {
        return Ok(());
    }
    if LedgerReader::open(dir)?.totals()?.committed_len == 0 {
        return Ok(());
    }
    match snapshot::other_settings(spec, dir, *script)? {
        Some(path) => Err(ScriptError::OtherSettings { id: id.clone(), path, copy: dir.snapshot(*script) }.into()),
        None => Ok(()),
    }
}
