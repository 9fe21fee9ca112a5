//! What only the pandas of a job can say of its job file.

use std::path::Path;

use fanfold_shared::job::{Environment, JobSpec};
use fanfold_worker::environment::unknown_dtype;

use super::ListError;

/// Refuses a dtype that is none, where the interpreter of the job is one of this machine. It is started only for words that are not known to be
/// names of dtypes (`fanfold_shared::job`).
///
/// # Errors
/// [`ListError::Dtype`]
pub fn check(spec: &JobSpec) -> Result<(), ListError> {
    if !spec.input_type.is_csv() {
        return Ok(());
    }
    let names = spec.read_csv.dtype.unheard_of();
    match unknown_dtype(&spec.environment, &spec.environment_variables, &names) {
        None => Ok(()),
        Some((name, why)) => {
            let python = match &spec.environment {
                Environment::Python(python) => python.as_path(),
                Environment::Requirements { python, .. } => Path::new(python),
            };
            Err(ListError::Dtype { name, python: python.display().to_string(), why })
        }
    }
}
