//! What every Kaldrix service needs and no ledger rule touches: configuration, mutual TLS, authorization, traces, metrics, health, drain, supervision.
//!
//! ```text
//!   config file + KALDRIX_* ─▶ Config ─check─▶ wiring ─▶ Supervisor ─▶ named tasks ─▶ drain ─▶ exit code
//!                                                          │
//!   peer ──TLS 1.3, X25519MLKEM768, SPIFFE id──▶ GrpcServer ─▶ TraceLayer ─▶ handler ─▶ authz::allow(&request, &[…])
//!                                                          │
//!   handler ─▶ client::connect(endpoint, tls, expected service) ─▶ the next service, in the same trace
//! ```
//!
//! What it never does: know a transaction, a block or a validator set; decide anything for the ledger; speak classical-only TLS between services;
//! hold an unbounded queue.

pub mod authz;
pub mod client;
pub mod config;
pub mod dev_ca;
mod entry;
pub mod identity;
pub mod metrics;
pub mod server;
pub mod supervise;
pub mod telemetry;
pub mod tls;

pub use authz::{Caller, allow, allow_from};
pub use config::Config;
pub use entry::{DRAIN_MAX, service_main};
pub use identity::{Identity, Owner, Service};
pub use server::GrpcServer;
pub use supervise::Supervisor;
pub use tls::{TlsMaterial, install_crypto_provider};
