//! Why the service does not start or stops, and how a refusal looks to a caller.

use crate::core::desk::DeskError;
use crate::core::guard::GuardError;
use crate::core::policy::PolicyError;
use crate::core::session::SessionKeyError;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::KeystoreError;
use std::path::PathBuf;
use tonic::Status;

/// A failure that ends the service.
#[derive(Debug, thiserror::Error)]
pub enum CryptoServiceError {
    /// The configuration does not fit the chain or the key.
    #[error("configuration: {0}")]
    Config(String),
    /// The key file.
    #[error("the key file: {0}")]
    Keystore(#[from] KeystoreError),
    /// The double-sign guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Further session keys.
    #[error(transparent)]
    SessionKeys(#[from] SessionKeyError),
    /// The audit log cannot be opened.
    #[error("the audit log {path}: {source}", path = path.display())]
    Audit {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Signing is not safe or not possible any more.
    #[error("signing stopped: {0}")]
    Signing(#[source] DeskError),
    /// A worker thread died.
    #[error("a worker thread panicked: {0}")]
    Worker(String),
}

/// Whether `error` is a verdict about the request, rather than a failure of this machine.
pub(crate) const fn is_refusal(error: &DeskError) -> bool {
    matches!(error, DeskError::Policy(_) | DeskError::Conflict { .. } | DeskError::Past { .. } | DeskError::UnknownKey(_))
}

/// What the caller sees. Refusals say why and are final; failures say no more than that there was one.
pub(crate) fn status(error: &DeskError) -> Status {
    match error {
        DeskError::Conflict { .. } => Status::already_exists(error.to_string()),
        DeskError::Policy(PolicyError::GenesisRound) => Status::invalid_argument(error.to_string()),
        DeskError::UnknownKey(_) => Status::not_found(error.to_string()),
        DeskError::Past { .. } | DeskError::Policy(_) => Status::failed_precondition(error.to_string()),
        DeskError::Guard(_) | DeskError::Audit(_) | DeskError::Sign(_) => ApiError::from(ErrorCode::Internal).into(),
    }
}
