//! How messages are written: [`VERSION`](crate::message::VERSION) as one byte, then MessagePack with named fields.
//!
//! What comes from a queue is nobody's promise: sizes are checked before anything is decoded, types are closed, and whatever does not
//! fit is an error that names what is wrong.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::VERSION;

/// A message is never larger, bytes. Rows beyond 256 KiB travel as files.
pub const MOST_BYTES: usize = 4 << 20;

/// Why a message can't be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It has no byte.
    #[error("the message is empty")]
    Empty,
    /// Nothing of ours is that large.
    #[error("the message has {0} bytes, more than any of ours")]
    TooLarge(usize),
    /// Another version of fanfold wrote it.
    #[error("the message has version {found}; this fanfold speaks version {VERSION}")]
    Version {
        /// Its first byte.
        found: u8,
    },
    /// It is not what it should be.
    #[error("the message can't be read: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// It is not what it should be.
    #[error("the message can't be read: {0}")]
    NotJson(#[from] serde_json::Error),
}

/// Writes a message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION as u8];
    rmp_serde::encode::write_named(&mut bytes, message).expect("plain types can be written to memory");
    bytes
}

/// Reads a message.
///
/// # Errors
/// It is not one of this type and version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (&version, body) = bytes.split_first().ok_or(WireError::Empty)?;
    if bytes.len() > MOST_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    if u32::from(version) != VERSION {
        return Err(WireError::Version { found: version });
    }
    let mut decoder = rmp_serde::Deserializer::from_read_ref(body);
    decoder.set_max_depth(32);
    Ok(T::deserialize(&mut decoder)?)
}

/// Reads what other services write: JSON if `content_type` says so or if it begins like an object of JSON, else MessagePack with named
/// fields; no version byte.
///
/// # Errors
/// It is not of this type.
pub fn decode_foreign<T: DeserializeOwned>(content_type: Option<&str>, bytes: &[u8]) -> Result<T, WireError> {
    if bytes.is_empty() {
        return Err(WireError::Empty);
    }
    if bytes.len() > MOST_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    // No map of MessagePack begins with `{` or white space, whatever the content type says.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if content_type.is_some_and(|kind| kind.contains("json")) || first == Some(&b'{') {
        return Ok(serde_json::from_slice(bytes)?);
    }
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(32);
    Ok(T::deserialize(&mut decoder)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{JobRequest, JobSource};

    #[test]
    fn other_services_ask_in_json_or_messagepack() {
        let file =
            JobRequest { source: JobSource::File { job_file: "a/job.yaml".into() }, set: vec!["priority=7".into()] };
        let keys = serde_json::json!({"name": "score", "inputs": ["x"], "nested": {"a": [1, null, 2.5]}});
        let inline = JobRequest { source: JobSource::Inline { job: keys, base: Some("a".into()) }, set: vec![] };
        for request in [file, inline] {
            let json = serde_json::to_vec(&request).unwrap();
            assert_eq!(decode_foreign::<JobRequest>(None, &json).unwrap(), request);
            let packed = rmp_serde::to_vec_named(&request).unwrap();
            assert_eq!(decode_foreign::<JobRequest>(None, &packed).unwrap(), request);
            assert_eq!(decode_foreign::<JobRequest>(Some("application/msgpack"), &packed).unwrap(), request);
        }
        assert_eq!(decode_foreign::<JobRequest>(None, b" {\"job_file\": \"x\"}").unwrap().set.len(), 0);
    }

    #[test]
    fn what_is_no_request_is_told_what_one_is() {
        for (text, why) in [
            ("", "empty"),
            ("{}", "`job_file` (a path under the shared directory) or `job`"),
            (r#"{"job_file": "x", "job": {}}"#, "not both"),
            (r#"{"job": "name: x"}"#, "must be an object"),
            (r#"{"job_file": "x", "script": "import os"}"#, "unknown field `script`"),
            (r#"{"job_file": 7}"#, "invalid type"),
            ("nonsense", "can't be read"),
        ] {
            let error = decode_foreign::<JobRequest>(None, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
