//! BCS with our own error type: one place decides how untrusted bytes become values.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not the value they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the type may have.
    #[error("{found} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// What was given.
        found: usize,
    },
    /// Not canonical BCS of this type: truncated, with trailing bytes, or with an unknown variant.
    #[error("not canonical BCS: {0}")]
    Malformed(String),
}

/// Encodes a value of our own.
///
/// # Panics
/// Never for the types of this crate: they hold no maps with duplicate keys, no floats and no sequences above 2^31.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    bcs::to_bytes(value).expect("our own types always encode")
}

/// Decodes untrusted bytes of at most `limit` bytes.
///
/// # Errors
/// [`CodecError`] when there are too many bytes or they are not the canonical encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { limit, found: bytes.len() });
    }
    bcs::from_bytes(bytes).map_err(|e| CodecError::Malformed(e.to_string()))
}
