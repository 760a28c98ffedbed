//! The data plane of one validator: mempool, block building, dissemination and block sync, the block DAG, execution of ordered commits.
//!
//! ```text
//!   ledger-api ─SubmitTransactions─▶ admission ─▶ ┌────────┐ ─proposal─▶ durable ─▶ signed (crypto-service) ─▶ sent (libp2p)
//!   peers ─blocks─▶ verify ────────────────────▶ │  core  │
//!                                                 │ thread │ ─headers─▶ consensus-service ─commits─▶ execute ─▶ durable ─▶ region-sync
//!   peers ◀─missing ancestors── fetch ◀────────── └────────┘                                       │
//!                                                     ▲ votes, next epoch ─── checkpoints ◀───────┘
//! ```
//!
//! It never decides the order (consensus-service does, from headers) and never holds a key (crypto-service does). What is streamed to
//! region-sync is durable here, and so is every block before anything that refers to it leaves this machine.

mod core;
mod error;
mod grpc;
mod metrics;
mod peers;
mod recovery;
mod tasks;
pub mod wiring;

pub use error::DagError;
