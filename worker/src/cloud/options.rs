//! What a user says of the cache.

use std::env;
use std::path::PathBuf;

use fanfold_shared::report::{ExitCode, Report};

use super::CacheSettings;

/// Options of a program that has a cache.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheOptions {
    /// Where inputs at `s3://` and the like are kept on this host, shared by all its workers; on a local disk [default: fanfold/cloud in the
    /// user's cache]
    #[arg(long = "cache", value_name = "DIR", env = "FANFOLD_CACHE")]
    dir: Option<PathBuf>,
    /// How large that may become, e.g. `200GB` [default: 10GB, or half of what the disk has left if that is less]
    #[arg(long = "cache-size", value_name = "SIZE", env = "FANFOLD_CACHE_SIZE", value_parser = size)]
    size: Option<u64>,
}

impl CacheOptions {
    /// What they say.
    pub fn settings(&self) -> CacheSettings {
        CacheSettings { dir: self.dir.clone(), size: self.size }
    }
}

/// A variable of the environment can't be used.
#[derive(Debug, thiserror::Error)]
#[error("FANFOLD_CACHE_SIZE can't be used: {0}")]
pub struct BadSize(String);

impl Report for BadSize {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

impl CacheSettings {
    /// What the environment says, for programs that were not told otherwise.
    ///
    /// # Errors
    /// The size is none.
    pub fn from_env() -> Result<CacheSettings, BadSize> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let size = set("FANFOLD_CACHE_SIZE").map(|text| size(&text)).transpose().map_err(BadSize)?;
        Ok(CacheSettings { dir: set("FANFOLD_CACHE").map(PathBuf::from), size })
    }
}

/// `500`, `200MB`, `1.5TB`: bytes, multiplied by 1024.
fn size(text: &str) -> Result<u64, String> {
    let refuse = || "it should look like 200GB: a number, then kB, MB, GB or TB".to_string();
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(refuse()),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let bytes = number * 1024f64.powi(power);
    match bytes >= 1.0 && bytes < 2f64.powi(62) {
        true => Ok(bytes as u64),
        false => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("1", 1), ("2kB", 2048), ("3 MB", 3 << 20), ("1.5g", 3 << 29), ("2TB", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "0", "1XB", "1e99"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
