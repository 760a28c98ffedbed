//! The keys of one validator: signs blocks and peer bindings behind a policy gate and double-sign protection, and verifies for those who cannot.
//!
//! ```text
//!   dag-service ──SignBlock, SignPeerBinding, SignEvidence─▶ [grpc] ──▶ [core::desk]: policy ─▶ key's guard (durable) ─▶ audit ─▶ key
//!   operator    ──NewSessionKey, ProveSessionKey───────────▶ [grpc] ──▶ [core::session]: guard ─▶ key file ─▶ desk
//!   any service ──GetPublicKey, VerifyBatch────────────────▶ [grpc] ──▶ [core::verify] on a bounded number of threads
//! ```
//!
//! It never decides what is worth signing beyond its policy, never gives a key away, and never signs two different blocks for one round with one
//! key: not after a crash, not with two processes, and not for a caller that insists. A guard file that is lost or unreadable stops it. Which of
//! its keys has the validator's seat it does not know: callers name the key.

pub mod config;
pub mod core;
pub mod error;
mod grpc;
pub mod metrics;
pub mod wiring;

pub use core::provision::{ProvisionError, provision};
pub use error::CryptoServiceError;
