//! The service's reason to exist: the path a signing request takes, synchronous and without any knowledge of gRPC.
//!
//! ```text
//!   request ─▶ Policy (chain, purpose, caller's claim) ─▶ Guard of the key (epoch, round; durable) ─▶ AuditLog ─▶ Signer ─▶ signature
//!                 │ refuse                                    │ refuse                                 ▲
//!                 └───────────────────────────────────────────┴────────────────────────────────────────┘ refusals are recorded too
//! ```
//!
//! Nothing leaves the [`desk::SigningDesk`] before the guard's record is on the disk and the audit log has a line about it.

pub mod audit;
pub mod desk;
pub mod guard;
pub mod policy;
pub mod provision;
pub mod session;
pub mod verify;
