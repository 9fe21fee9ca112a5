//! What is known of an object without reading it.

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
