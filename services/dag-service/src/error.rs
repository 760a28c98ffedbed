//! Why the service stops. What callers see is `kaldrix_api::ApiError`.

use kaldrix_storage::StoreError;

/// A failure that ends the service.
#[derive(Debug, thiserror::Error)]
pub enum DagError {
    /// The store cannot go on.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The core has stopped: the service is draining.
    #[error("the service is stopping")]
    Stopped,
    /// The configuration does not fit the chain.
    #[error("configuration: {0}")]
    Config(String),
    /// A block in the store does not decode.
    #[error("the store holds a block that breaks the rules ({0}): restore the store, or delete it and catch up from other validators")]
    StoredBlock(String),
    /// The peer-to-peer network cannot start.
    #[error("peer-to-peer: {0}")]
    Network(String),
}
