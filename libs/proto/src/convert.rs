//! From message fields to domain types.

use kaldrix_types::{Digest, TxId};
use serde::de::DeserializeOwned;

/// A message whose field is not what it must be. The text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {reason}")]
pub struct DecodeError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl From<DecodeError> for tonic::Status {
    fn from(error: DecodeError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// A 32-byte digest.
///
/// # Errors
/// [`DecodeError`] for any other length.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, DecodeError> {
    Digest::try_from(bytes).map_err(|e| DecodeError { field, reason: e.to_string() })
}

/// A 32-byte transaction id.
///
/// # Errors
/// [`DecodeError`] for any other length.
pub fn transaction_id(field: &'static str, bytes: &[u8]) -> Result<TxId, DecodeError> {
    digest(field, bytes).map(TxId)
}

/// A BCS value of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`] when it is too large or not canonical.
pub fn decode_bcs<T: DeserializeOwned>(field: &'static str, bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    kaldrix_types::decode(bytes, limit).map_err(|e| DecodeError { field, reason: e.to_string() })
}
