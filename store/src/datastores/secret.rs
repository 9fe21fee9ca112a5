//! A secret as the file of datastores gives it: itself, or where it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// A file that holds more than this is no secret, bytes.
const FILE_MAX: u64 = 1 << 20;

/// Where a secret comes from. `Debug` hides it.
#[derive(Clone)]
pub enum Secret {
    /// Written in the file of datastores itself.
    Literal(SecretString),
    /// A variable of the environment.
    Env(String),
    /// The text of a file, without the end of its last line.
    File(PathBuf),
}

impl Secret {
    /// What `value` of the key `key` means; relative paths start at `base`.
    ///
    /// # Errors
    /// It means nothing: how to write it, without its value.
    pub(super) fn read(key: &str, value: &Value, base: &Path) -> Result<Secret, String> {
        let refuse = || format!("`{key}` must be the secret itself, `{{env: NAME}}` or `{{file: path}}`");
        match value {
            Value::String(text) if !text.is_empty() => Ok(Secret::Literal(text.clone().into())),
            Value::Number(number) => Ok(Secret::Literal(number.to_string().into())),
            Value::Object(map) if map.len() == 1 => match map.iter().next().map(|(word, value)| (&**word, value)) {
                Some(("env", Value::String(name))) if !name.is_empty() => Ok(Secret::Env(name.clone())),
                Some(("file", Value::String(path))) if !path.is_empty() => Ok(Secret::File(base.join(path))),
                _ => Err(refuse()),
            },
            _ => Err(refuse()),
        }
    }

    /// The secret.
    ///
    /// # Errors
    /// It is not where it should be: which variable or file.
    pub fn get(&self) -> Result<SecretString, String> {
        match self {
            Secret::Literal(secret) => Ok(secret.clone()),
            Secret::Env(name) => match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(value.into()),
                _ => Err(format!("the variable `{name}` of the environment is not set")),
            },
            Secret::File(path) => {
                let text = fs::metadata(path)
                    .and_then(|found| match found.len() > FILE_MAX {
                        true => Err(std::io::Error::other("it is larger than 1 MiB")),
                        false => fs::read_to_string(path),
                    })
                    .map_err(|error| format!("the secret in `{}` can't be read: {error}", path.display()))?;
                let text = text.trim_end_matches(['\n', '\r']);
                match text {
                    "" => Err(format!("`{}` is empty", path.display())),
                    text => Ok(text.to_string().into()),
                }
            }
        }
    }

    /// Its text, for the request.
    #[cfg_attr(not(feature = "cloud"), expect(dead_code, reason = "nothing is asked"))]
    pub(crate) fn expose(&self) -> Result<String, String> {
        Ok(self.get()?.expose_secret().to_string())
    }
}

impl fmt::Display for Secret {
    /// Where it comes from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Literal(_) => f.write_str("in the file"),
            Secret::Env(name) => write!(f, "from ${name}"),
            Secret::File(path) => write!(f, "from {}", path.display()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}
