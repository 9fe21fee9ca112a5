//! Why the output can't be uploaded, or could not be.

use std::path::PathBuf;

use fanfold_shared::report::{ExitCode, Report};
use fanfold_shared::uri::Uri;
use fanfold_store::StoreError;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The service refuses.
    #[error("the output can't be uploaded")]
    Store(#[source] StoreError),
    /// The name is another's.
    #[error("`{uri}` is there already and is not this job's{}", whose(of))]
    Taken {
        /// The object.
        uri: Uri,
        /// The job that wrote it, if one did.
        of: Option<String>,
        /// The job is only about to be submitted.
        early: bool,
    },
    /// What was written is not what is there.
    #[error("`{uri}` is not what was uploaded: {what}")]
    Altered {
        /// The object.
        uri: Uri,
        /// What is different.
        what: String,
    },
    /// A file can't be an object.
    #[error("`{}` can't be uploaded: {why}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        why: &'static str,
    },
}

fn whose(of: &Option<String>) -> String {
    of.as_ref().map(|job| format!(", but that of job {job}")).unwrap_or_default()
}

impl Report for UploadError {
    fn exit_code(&self) -> ExitCode {
        match self {
            UploadError::Taken { early: true, .. } => ExitCode::Usage,
            _ => ExitCode::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let advice = match self {
            UploadError::Store(error) => error.hint().unwrap_or_else(|| "see what the service says of it".into()),
            UploadError::Taken { early: true, .. } => {
                return Some(
                    "nothing is ever overwritten: move it away, or set another `output` or `append_row_file_name`"
                        .into(),
                );
            }
            UploadError::Taken { .. } => "nothing is ever overwritten: move it away".into(),
            UploadError::Altered { .. } => "somebody writes there, too: find out who".into(),
            UploadError::Name { .. } => "rename it".into(),
        };
        Some(format!("{advice}. The output is whole and stays on this machine; the same command uploads it"))
    }
}
