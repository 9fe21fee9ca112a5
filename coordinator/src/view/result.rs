//! The result of a job, or what is missing of it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use fanfold_shared::ids::JobId;
use fanfold_shared::job::is_parquet;
use fanfold_shared::report::{During, ExitCode, Report, Result};
use fanfold_shared::state::JobState;
use fanfold_shared::uri::Uri;

use super::StatusView;
use crate::aggregate::partial_path;

/// The job has no (whole) result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {job} is {state}: {what}")]
pub struct NoResult {
    /// The job.
    pub job: JobId,
    /// Its state.
    pub state: JobState,
    /// What is missing of it.
    pub what: Missing,
}

/// What is missing of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// All of it, so far.
    #[error("it has no result yet")]
    All,
    /// All of it, of a job that is over.
    #[error("it has no result")]
    Ever,
    /// What is not committed.
    #[error("its result is not whole")]
    Rest,
    /// All that makes a Parquet file of what is committed: that is done at the end.
    #[error("its output is a Parquet file, which is written when everything is in")]
    Table,
    /// The file that holds it, of a job that is Completed.
    #[error("its output `{}` is not there any more", .0.display())]
    Gone(PathBuf, Option<Uri>),
    /// Nothing: the script has stored it in this directory (`summary_only`).
    #[error("its results are what its script stored under `{}`", .0.display())]
    Stored(PathBuf),
}

impl Report for NoResult {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        let job = &self.job;
        Some(match &self.what {
            Missing::Ever => format!("`fanfold status {job}` shows how it ended"),
            Missing::All | Missing::Table => format!("`fanfold status {job}` shows how far it is"),
            Missing::Rest => format!(
                "`fanfold results {job} --partial` gives what is committed so far; `fanfold status {job}` shows how far it is"
            ),
            Missing::Gone(_, Some(uri)) => format!("it was uploaded to `{uri}`"),
            Missing::Gone(..) => {
                "bring it back from where it was moved to, or from a copy; to run everything again, use a new directory"
                    .into()
            }
            Missing::Stored(_) => "look there; with `output_action: append_row`, a job writes one file".into(),
        })
    }
}

impl StatusView {
    /// The file with the job's result, or with `partial` what is committed of it so far; and how many bytes of it are proven.
    ///
    /// # Errors
    /// There is none (yet), or it can't be opened.
    pub fn result(&self, partial: bool) -> Result<(File, u64)> {
        let status = &self.status;
        let none = |what| NoResult { job: JobId(status.job_id.clone()), state: status.state, what };
        // A file that only has to be uploaded has its name already.
        let waits =
            |file: &PathBuf| status.state == JobState::Finalizing && status.output.uri.is_some() && file.exists();
        let completed = status.state == JobState::Completed || status.output.file.as_ref().is_some_and(waits);
        let path = match (&status.output.file, status.state) {
            (Some(file), _) if completed => file.clone(),
            (Some(file), _) => partial_path(file),
            // What it will be is perhaps not known yet.
            (None, JobState::Queued | JobState::Preparing) => return Err(none(Missing::All).into()),
            (None, _) => return Err(none(Missing::Stored(status.output.dir.clone())).into()),
        };
        match File::open(&path) {
            Ok(_) if !completed && is_parquet(status.output.file.as_deref().unwrap_or(&path)) => {
                Err(none(Missing::Table).into())
            }
            Ok(_) if !completed && !partial => Err(none(Missing::Rest).into()),
            Ok(file) => Ok((file, status.output.bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(none(match status.state {
                JobState::Completed => Missing::Gone(path, status.output.uri.clone()),
                state if state.is_final() => Missing::Ever,
                _ => Missing::All,
            })
            .into()),
            outcome => Ok((outcome.during("open", &path)?, status.output.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::view;
    use super::*;

    #[test]
    fn a_result_is_there_or_it_is_said_what_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("out.txt");
        let view = |state, file: Option<&Path>| {
            let mut view = view(|snapshot| snapshot.state = state);
            (view.status.output.file, view.status.output.bytes) = (file.map(Path::to_path_buf), 4);
            view
        };
        let missing = |view: &StatusView, partial| {
            let failure = view.result(partial).expect_err("there is none");
            format!("{failure}\nhint: {}", failure.hint().unwrap())
        };
        use JobState as S;
        for state in [S::Queued, S::Preparing, S::Running] {
            for partial in [false, true] {
                let text = missing(&view(state, Some(&file)), partial);
                assert!(text.contains("it has no result yet\nhint: `fanfold status score-1a2b3c4d` shows"), "{text}");
            }
        }
        assert!(missing(&view(S::Queued, None), false).contains("it has no result yet"));
        insta::assert_snapshot!(missing(&view(S::Completed, None), true), @r"
        job score-1a2b3c4d is Completed: its results are what its script stored under `/data/out`
        hint: look there; with `output_action: append_row`, a job writes one file
        ");
        insta::assert_snapshot!(missing(&view(S::Completed, Some(&file)), false).replace(place.path().to_str().unwrap(), "/out"), @r"
        job score-1a2b3c4d is Completed: its output `/out/out.txt` is not there any more
        hint: bring it back from where it was moved to, or from a copy; to run everything again, use a new directory
        ");
        std::fs::write(crate::aggregate::partial_path(&file), "row\nbeyond").unwrap();
        insta::assert_snapshot!(missing(&view(S::Failed, Some(&file)), false), @r"
        job score-1a2b3c4d is Failed: its result is not whole
        hint: `fanfold results score-1a2b3c4d --partial` gives what is committed so far; `fanfold status score-1a2b3c4d` shows how far it is
        ");
        assert_eq!(view(S::Failed, Some(&file)).result(true).unwrap().1, 4);
        let table = place.path().join("out.parquet");
        std::fs::write(crate::aggregate::partial_path(&table), "ARROW").unwrap();
        for partial in [false, true] {
            let text = missing(&view(S::Running, Some(&table)), partial);
            assert!(text.contains("its output is a Parquet file, which is written when everything is in"), "{text}");
        }
        std::fs::write(&file, "row\n").unwrap();
        assert_eq!(view(S::Completed, Some(&file)).result(false).unwrap().1, 4);
    }
}
