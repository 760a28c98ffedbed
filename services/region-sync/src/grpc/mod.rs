//! The wire: commits come in from a dag-service, notices go out to ledger-apis.

mod dag_client;
mod region_service;

pub use dag_client::{DagClient, Received, SourceError};
pub use region_service::RegionGrpc;
