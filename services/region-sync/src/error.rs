//! Why the service does not start, or stops.

use crate::core::ProjectError;
use kaldrix_service_kit::client::ClientError;
use kaldrix_service_kit::server::ServerError;
use kaldrix_service_kit::tls::TlsError;
use kaldrix_storage::StoreError;

/// A start or a run that failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The genesis file cannot be used.
    #[error("{0}")]
    Genesis(String),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The dag-service's endpoint cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The own port cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The read model cannot be opened, read or written.
    #[error("the region's read model: {0}")]
    Store(#[from] StoreError),
    /// What the validator sent cannot become part of the read model.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A file or socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
