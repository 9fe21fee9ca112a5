//! The file of datastores: names for buckets and containers, with the credentials for them.
//!
//! It lies on each machine (`$FANFOLD_DATASTORES`, else `fanfold/datastores.yaml` in the user's configuration) and never travels. What is wrong
//! in it is told with the name of the entry and the key, never with a value.

mod entry;
mod secret;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fanfold_shared::report::{ExitCode, IoError, Report};
use fanfold_shared::uri::is_datastore_name;
use serde_json::Value;

pub use entry::{Access, Credential, Datastore};
pub use secret::Secret;

/// The variable that names the file.
pub const VARIABLE: &str = "FANFOLD_DATASTORES";

/// The datastores of this machine.
#[derive(Clone, Debug, Default)]
pub struct Datastores {
    /// Where they come from; it need not exist.
    pub path: PathBuf,
    /// By name.
    pub entries: BTreeMap<String, Datastore>,
    /// What the user should know: others can read the file.
    pub warning: Option<String>,
}

/// The file of datastores can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatastoresError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is not what it should be.
    #[error("the file of datastores `{}` can't be used: {what}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// Which entry and key, and how to write it; no value.
        what: String,
    },
}

impl Report for DatastoresError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            DatastoresError::Io(error) => error.hint(),
            DatastoresError::Bad { .. } => {
                Some("docs/cloud.md shows an entry of each type; `fanfold datastore list` reads the file".into())
            }
        }
    }
}

impl Datastores {
    /// Where the file of datastores lies: [`VARIABLE`] names it, else it is in the user's configuration. None: there is no home directory.
    pub fn location() -> Option<PathBuf> {
        let from = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        from(VARIABLE).or_else(|| {
            let config = from("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
            let config = config.or_else(|| Some(env::home_dir().filter(|home| home.is_absolute())?.join(".config")))?;
            Some(config.join("fanfold").join("datastores.yaml"))
        })
    }

    /// Those of this machine. No file is no datastores, unless [`VARIABLE`] names it.
    ///
    /// # Errors
    /// The file can't be read, or used.
    pub fn load() -> Result<Datastores, DatastoresError> {
        let Some(path) = Datastores::location() else { return Ok(Datastores::default()) };
        match Datastores::read(&path) {
            Err(DatastoresError::Io(error))
                if error.source.kind() == io::ErrorKind::NotFound && env::var_os(VARIABLE).is_none() =>
            {
                Ok(Datastores { path, ..Datastores::default() })
            }
            read => read,
        }
    }

    /// Those in the file `path`.
    ///
    /// # Errors
    /// As [`Datastores::load`].
    pub fn read(path: &Path) -> Result<Datastores, DatastoresError> {
        let io = |operation, source| IoError { operation, path: path.to_path_buf(), source };
        let text = fs::read_to_string(path).map_err(|error| io("read", error))?;
        let mode = fs::metadata(path).map_err(|error| io("examine", error))?.permissions().mode();
        let base = path.parent().unwrap_or(Path::new(""));
        let entries = parse(&text, base).map_err(|what| DatastoresError::Bad { path: path.to_path_buf(), what })?;
        let literal = entries.values().any(Datastore::has_literal_secret);
        let warning = (literal && mode & 0o077 != 0).then(|| {
            format!(
                "others can read `{}`, which holds secrets (mode {:o}): `chmod 600` it, or write `{{file: …}}`",
                path.display(),
                mode & 0o777
            )
        });
        Ok(Datastores { path: path.to_path_buf(), entries, warning })
    }

    /// What to say where `name` is none of them.
    pub fn missing(&self, name: &str) -> String {
        let names: Vec<&String> = self.entries.keys().collect();
        let near = names.iter().copied().find(|known| known.eq_ignore_ascii_case(name) || known.starts_with(name));
        let file = match self.path.as_os_str().is_empty() {
            true => "the file of datastores".to_string(),
            false => format!("`{}`", self.path.display()),
        };
        match (near, &names[..]) {
            (Some(near), _) => format!("did you mean `{near}`? {file} has it"),
            (None, []) => format!("describe it in {file} on this machine (docs/cloud.md shows how)"),
            (None, names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("{file} has {}; each machine has a file of its own", names.join(", "))
            }
        }
    }
}

fn parse(text: &str, base: &Path) -> Result<BTreeMap<String, Datastore>, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 8, max_nodes: 20_000, max_events: 40_000, max_aliases: 100 },
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // The parser's own words may repeat what is written there.
        match error.location() {
            Some(at) => format!("it is no YAML that can be read, at line {}, column {}", at.line(), at.column()),
            None => "it is no YAML that can be read".to_string(),
        }
    })?;
    let Value::Object(map) = value else { return Err("it must be a map of names to datastores".into()) };
    let mut entries = BTreeMap::new();
    for (name, value) in map {
        if !is_datastore_name(&name) {
            return Err("a name must have letters, digits, `_` and `-` only, at most 64".into());
        }
        let entry = Datastore::parse(&value, base).map_err(|what| format!("datastore `{name}`: {what}"))?;
        entries.insert(name, entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
