//! Where Kaldrix keeps what must outlive a process: store traits, their SQLite implementation, and the suite every implementation passes.
//!
//! ```text
//!   dag-service ──ValidatorBatch──▶ ValidatorStore   blocks, executed commits,            durable when `write` returns
//!              ──Snapshot────────▶     │            checkpoints, state
//!   region-sync ──RegionBatch─────▶ RegionStore      read model: commits, transactions,   atomic with its cursor,
//!   ledger-api  ◀──reads───────────     │            accounts                             rebuildable from commits
//!                                       ▼
//!                                 sqlite/  one writing connection, a pool of reading ones, WAL
//! ```
//!
//! One atomic write holds both an effect and the cursor that says how far it got, so after a crash a store is at some commit exactly,
//! never between two. Commits and checkpoints are written in order; the same commit twice is harmless, a different one of the same index is an error
//! that must stop the writer ([`StoreError::Diverged`]).
//!
//! This crate never decides anything: it does not verify signatures, order transactions or execute them, and it does not cache.
//! SQL and everything particular to a database stays below [`sqlite`].

mod checkpoint;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod records;
mod region;
pub mod sqlite;
mod validator;

pub use checkpoint::{Snapshot, StoredCheckpoint};
pub use error::{Numbered, StoreError};
pub use records::StatePage;
pub use region::{
    AccountRole, AccountTransactionRow, AccountView, BlockRow, CommitRow, RegionBatch, RegionStore, RegionTotals, TransactionRow,
};
pub use sqlite::{SqliteRegionStore, SqliteValidatorStore};
pub use validator::{BlockCursor, StoredBlock, ValidatorBatch, ValidatorStore};
