//! What is known of an object without reading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An object, as a listing or a `HEAD` request shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name in the bucket or container.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What changes when it does, if the server says so.
    pub etag: Option<String>,
    /// When it was written, microseconds since the epoch; 0: nobody says.
    pub modified_us: i64,
}

/// How a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next one.
    Go,
    /// Not at all.
    Stop,
}

/// An object as one look shows it, for who is about to write one in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    /// Which version of it.
    pub version: Version,
    /// What was written on it: its metadata, with names in lower case.
    pub marks: BTreeMap<String, String>,
}

/// Which version of an object, in the words of its service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its ETag.
    pub etag: Option<String>,
    /// Its generation or version.
    pub generation: Option<String>,
}

/// What must be at a name for an object to be written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// This version.
    This(Version),
}
