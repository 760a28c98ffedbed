//! Failures of what this service stands on, as callers see them. The cause is logged here, once; a caller gets a code.

use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_storage::StoreError;
use std::time::Duration;

/// How long to wait before asking a busy read model again.
const RETRY_MS: u32 = 250;

/// The read model's failure, logged and mapped.
#[must_use]
pub fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::Busy | StoreError::NotReady { .. } | StoreError::Closed => {
            tracing::debug!(%error, "the read model is not available");
            ApiError::from(ErrorCode::ReadModelUnavailable).retry_after(RETRY_MS)
        }
        StoreError::Io(_) | StoreError::Database(_) | StoreError::Full => {
            tracing::warn!(%error, "reading the read model failed");
            ApiError::from(ErrorCode::ReadModelUnavailable).retry_after(RETRY_MS)
        }
        _ => {
            tracing::error!(%error, "the read model cannot be used");
            ApiError::from(ErrorCode::Internal)
        }
    }
}

/// A field that is not what it must be.
#[must_use]
pub fn invalid(field: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, format!("{field}: {reason}"))
}

/// Waits for a read of the read model, but not for ever.
///
/// # Errors
/// The mapped [`StoreError`], or READ_MODEL_UNAVAILABLE after `limit`.
pub async fn read<T>(limit: Duration, reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, reading).await {
        Ok(result) => result.map_err(|e| store_error(&e)),
        Err(_) => {
            tracing::warn!(limit_ms = limit.as_millis(), "the read model did not answer in time");
            Err(ApiError::from(ErrorCode::ReadModelUnavailable).retry_after(RETRY_MS))
        }
    }
}
