//! Object stores of the tests' own: Azurite (Azure Blob Storage), Moto (S3), fake-gcs-server (Google Cloud Storage), and who gives tokens.
//!
//! The programs are installed by `tests/run.sh` in `cloud-servers` under the target directory.

mod azurite;
mod bucket;
mod gcs;
mod s3;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use azurite::{Azurite, AzuriteOptions};
pub use bucket::Bucket;
pub use gcs::Gcs;
pub use s3::{S3, S3Key};
pub use tokens::{ServicePrincipal, Tokens};

use crate::process::{listens, spawn, wait_until};

/// Whether the object stores can be started. `tests/run.sh` says so (`FANFOLD_NO_CLOUD_SERVERS`) where they could not be installed; the test is
/// then left out, aloud. Missing for any other reason they are a failure.
pub fn has_cloud_servers() -> bool {
    if folder().is_some() {
        return true;
    }
    assert!(
        std::env::var_os("FANFOLD_NO_CLOUD_SERVERS").is_some(),
        "`cloud-servers` is not in the target directory: `tests/run.sh` makes it, with Azurite, Moto and fake-gcs-server"
    );
    eprintln!("SKIPPED: Azurite, Moto and fake-gcs-server can't be installed here");
    false
}

/// Where they are installed.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("FANFOLD_CLOUD_SERVERS").map(PathBuf::from);
    let own = std::env::current_exe().expect("a program knows where it is");
    let near =
        || own.ancestors().map(|folder| folder.join("cloud-servers")).find(|folder| folder.join("ready").exists());
    named.or_else(near)
}

fn installed() -> PathBuf {
    folder().expect("the test asked `has_cloud_servers` first")
}

/// Starts a server that says what goes wrong in `log` of its directory, and waits until it listens.
fn start(mut command: Command, dir: &Path, port: u16) -> Child {
    let log = dir.join("log");
    let output = || fs::File::create(&log).expect("the directory can be written");
    command.current_dir(dir).stdin(Stdio::null()).stdout(output()).stderr(output());
    let child = spawn(command);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait_until(Duration::from_secs(60), || format!("the server does not listen: {}", said()), || listens(port));
    child
}

/// What stands between `<name>` and `</name>`.
fn element<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no <{name}> in {text}"));
    rest.split_once(&format!("</{name}>")).expect("the end of the element").0
}

/// For the query of a URL, or a form.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
