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
    /// This validator's results are not those of the others.
    #[error(
        "DIVERGED: checkpoint {index} is {own} here, but {other} for validators with {stake} of stake: this validator stops. Its store or its \
         machine is damaged, or this is a defect: keep the store for the analysis, and rejoin with an empty one"
    )]
    Diverged {
        /// Which checkpoint.
        index: u64,
        /// What it is here.
        own: kaldrix_types::Digest,
        /// What others voted for.
        other: kaldrix_types::Digest,
        /// Their stake.
        stake: u64,
    },
    /// The peer-to-peer network cannot start.
    #[error("peer-to-peer: {0}")]
    Network(String),
}
