//! ledger-api: the public gRPC and REST API of one region, on one port.
//!
//! ```text
//!   client ─▶ server ─▶ gateway ─┬─ grpc/ ─┬─▶ core::Ledger ─▶ batcher ─▶ dag-service
//!                                └─ rest/ ─┘      │    ▲
//!                                   reads ────────┘    └── tracker, feed ◀── region-sync: "commit N can be read"
//!                              region's read model
//! ```
//!
//! One set of handlers answers both protocols. A submission is checked as far as bytes and signature go, handed to a validator in a batch with
//! others, and waited for: region-sync's notices say when its outcome can be read. Streams are cursors over the read model, so a client that
//! comes back misses nothing and nothing is queued for a slow one.
//!
//! What it never does: order or execute anything, write to the read model, hold keys (but a development network's faucet key), or keep state
//! that a restart would lose to anybody's harm.

pub mod config;
pub mod core;
pub mod error;
pub mod gateway;
pub mod grpc;
pub mod metrics;
pub mod rest;
pub mod server;
pub mod tasks;
pub mod wiring;
