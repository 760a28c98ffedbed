//! The control plane of one validator: from headers alone it says when to propose and which leaders commit or are skipped.
//!
//! ```text
//!   dag-service ──Hello, Headers, Pending──▶ [session] ──▶ ConsensusCore (pure)
//!              ◀──────Propose, Commit──────            ◀──
//! ```
//!
//! It keeps nothing on disk and never sees a transaction: a session begins with a replay of everything that matters, so this process can
//! be killed at any time and costs its validator a few milliseconds. Two sessions never overlap: a new one ends the old one.

mod core;
mod error;
mod grpc;
mod metrics;
pub mod wiring;

pub use error::ConsensusError;
