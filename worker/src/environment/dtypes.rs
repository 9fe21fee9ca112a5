//! What the pandas of a job says of names of dtypes that nobody else can judge.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use fanfold_shared::job::Environment;

use super::interpreter;
use crate::devices::without_secrets;

/// Tells the names among its arguments that pandas takes for no dtype, each with what it says of it.
const ASK: &str = "import sys
try: from pandas.api.types import pandas_dtype
except Exception: sys.exit(0)
for name in sys.argv[1:]:
    try: pandas_dtype(name)
    except TypeError as error: print(name + '\\t' + ' '.join(str(error).split()))
    except Exception: pass
";

/// The first of `names` that is no dtype for the pandas of the environment, and why. None also where nobody can be asked: an environment
/// that is built first, or a Python without pandas, which has an error of its own.
pub fn unknown_dtype(
    environment: &Environment,
    variables: &BTreeMap<String, String>,
    names: &[&str],
) -> Option<(String, String)> {
    let Environment::Python(python) = environment else { return None };
    if names.is_empty() {
        return None;
    }
    let output = Command::new(interpreter::find(python).ok()?)
        .args(["-c", ASK])
        .args(names)
        .env_clear()
        .envs(without_secrets(std::env::vars_os()))
        .envs(variables)
        // What lies where fanfold was started is none of the job's.
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    let (name, why) = told.lines().next()?.split_once('\t')?;
    Some((name.to_string(), why.to_string()))
}
