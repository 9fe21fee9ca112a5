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
