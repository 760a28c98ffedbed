//! What callers of a Kaldrix service see: one closed list of error codes, mapped once to gRPC and once to HTTP, and the generated clients.
//!
//! ```text
//!   RejectCode ─┐
//!               ├─▶ ErrorCode ─▶ ApiError ─┬─▶ tonic::Status with ErrorInfo (and RetryInfo)
//!   service ────┘                          └─▶ RFC 9457 problem details
//! ```
//!
//! A cause is logged where it is handled; a caller gets a code, a sentence that says what to do, and nothing about our insides.

mod code;
mod error;

pub use code::ErrorCode;
pub use error::{ApiError, Problem};

/// Generated gRPC clients, so that callers name one crate.
pub mod clients {
    pub use kaldrix_proto::consensus::consensus_service_client::ConsensusServiceClient;
    pub use kaldrix_proto::crypto::crypto_service_client::CryptoServiceClient;
    pub use kaldrix_proto::dag::dag_service_client::DagServiceClient;
    pub use kaldrix_proto::ledger::ledger_service_client::LedgerServiceClient;
    pub use kaldrix_proto::region::region_service_client::RegionServiceClient;
}
