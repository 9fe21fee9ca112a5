//! What a user says of the cache.

use std::env;
use std::path::PathBuf;

use fanfold_shared::report::{During, ExitCode, Report, Result};

use super::CacheSettings;

/// Options of a program that has a cache.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CacheOptions {
    /// Where inputs at `s3://` and the like are kept on this host, shared by all its workers; on a local disk [default: FANFOLD_CACHE, else
    /// fanfold/cloud in the user's cache]
    #[arg(long = "cache", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How large that may become, e.g. `200GB` [default: FANFOLD_CACHE_SIZE, else 10GB, or half of what the disk has left if that is less]
    #[arg(long = "cache-size", value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
}

/// A variable of the environment can't be used.
#[derive(Debug, thiserror::Error)]
#[error("FANFOLD_CACHE_SIZE can't be used: {0}")]
struct BadSize(String);

impl Report for BadSize {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

impl CacheOptions {
    /// Whether any was given; the environment is none of them.
    pub fn are_given(&self) -> bool {
        self.dir.is_some() || self.size.is_some()
    }

    /// What they say, or else the environment.
    ///
    /// # Errors
    /// The size in the environment is none, or the current directory is gone.
    pub fn settings(&self) -> Result<CacheSettings> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let size = match (self.size, set("FANFOLD_CACHE_SIZE")) {
            (None, Some(text)) => Some(size(&text.to_string_lossy()).map_err(BadSize)?),
            (given, _) => given,
        };
        let dir = self.dir.clone().or_else(|| set("FANFOLD_CACHE").map(PathBuf::from));
        // Processes get paths in it, and are at home elsewhere.
        let dir = dir.map(|dir| std::path::absolute(&dir).during("find", &dir)).transpose()?;
        Ok(CacheSettings { dir, size })
    }
}

/// `500`, `200MB`, `1.5TB`: bytes, multiplied by 1024.
fn size(text: &str) -> std::result::Result<u64, String> {
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
