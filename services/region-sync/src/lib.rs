//! region-sync: keeps a region's read model in step with the ledger.
//!
//! ```text
//!   dag-service ──executed commits──▶ tasks::Source ──bounded──▶ tasks::Projector ──one write──▶ RegionStore ◀──reads── ledger-api
//!   (resumed at cursor + 1)                                           │ core::Projection: pure       │
//!                                                                     └──────── then ──▶ core::Hub ──┴─▶ RegionService.SubscribeProjected
//! ```
//!
//! The genesis state is in the read model before commit 1. Commits are written in order, whole, together with the cursor, and a notice goes out
//! only after its commit can be read. A commit that does not follow the last one stops the service: a region serves old answers rather than wrong ones.
//!
//! What it never does: accept client writes, execute or order anything, change ledger state, or write the same index twice.

pub mod core;
pub mod error;
pub mod grpc;
pub mod metrics;
pub mod tasks;
pub mod wiring;

pub use error::SyncError;
