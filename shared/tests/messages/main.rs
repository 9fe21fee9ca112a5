//! Messages as they are written: those of past versions load, and what is no message costs nothing but an error.
//!
//! `FANFOLD_STORE_MESSAGES=1 cargo test -p fanfold-shared --test messages` writes those that are not stored yet; what is stored is never
//! written again.

mod hostile;
mod samples;
mod watched;

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use fanfold_shared::fleet::wire;
use fanfold_shared::message::VERSION;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn stored(name: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/messages/v{VERSION}"));
    let file = dir.join(name);
    if std::env::var_os("FANFOLD_STORE_MESSAGES").is_some() && !file.exists() {
        fs::create_dir_all(&dir).unwrap();
        fs::write(&file, bytes).unwrap();
    }
    fs::read(&file).unwrap_or_else(|error| panic!("`{}` is not stored: {error}", file.display()))
}

/// A message of a queue.
fn loads<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let bytes = stored(&format!("{name}.msgpack"), &wire::encode(message));
    assert_eq!(wire::decode::<T>(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")), *message, "{name}");
}

/// A message for other programs.
fn loads_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let bytes = stored(&format!("{name}.json"), &serde_json::to_vec_pretty(message).unwrap());
    assert_eq!(
        serde_json::from_slice::<T>(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")),
        *message,
        "{name}"
    );
}

#[test]
fn stored_messages_of_every_type_load() {
    samples::tasks().iter().for_each(|(name, message)| loads(name, message));
    samples::from_node().iter().for_each(|(name, message)| loads(name, message));
    loads("ticket", &samples::ticket());
    samples::controls().iter().for_each(|(name, message)| loads(name, message));
    samples::requests().iter().for_each(|(name, message)| loads_json(name, message));
    samples::replies().iter().for_each(|(name, message)| loads_json(name, message));
    samples::statuses().iter().for_each(|(name, message)| loads_json(name, message));
    loads_json("job-event", &samples::job_event());
}
