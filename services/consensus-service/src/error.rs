//! Why the service does not start or stops.

/// A failure that ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The configuration does not fit the chain.
    #[error("configuration: {0}")]
    Config(String),
    /// Sockets, certificates, health.
    #[error(transparent)]
    Serve(#[from] anyhow::Error),
}
