//! Checkpoints: what a quorum vouches for, how it comes about, how anybody can check it offline, and how a validator recovers by it.
//!
//! ```text
//!   ExecutedCommit ──▶ CheckpointBuilder ──▶ Checkpoint ──vote──▶ (headers of this and other validators)
//!                        │ StateTree               │ note_own                        │ on_block
//!                        │                         └────────────▶ Certifier ◀────────┘
//!                        │                                          │ Certified | Diverged
//!                        └──prove──▶ Item ──┐                       ▼
//!                                           ├──▶ Proof ◀── CertifiedCheckpoint, one for each epoch before, and the newest
//!                          Genesis ──┐      │
//!                                    └──▶ verify_proof ──▶ Verified, or ProofError
//!
//!   peers ◀─CatchUpRequest─ CatchUp ──▶ Installed: records, tree, last commits, checkpoints, committee
//!         ──CatchUpAnswer─▶
//! ```
//!
//! What this crate never does: I/O, reading a clock, signing, deciding what to vote for by anything but what was executed, believing a
//! peer. Whatever comes from outside is bounded in bytes and counts before it is kept.

mod builder;
mod catch_up;
mod certifier;
mod proof;
mod readable;
mod tree;
mod verify;

pub use builder::{CheckpointBuilder, ProvenRecord, VERSIONS_MAX};
pub use catch_up::{
    CatchUp, CatchUpAnswer, CatchUpAsk, CatchUpConfig, CatchUpOutcome, CatchUpProgress, CatchUpRequest, Installed, PeerFault,
};
pub use certifier::{Certifier, CertifierEvent, WINDOW};
pub use proof::{AccountItem, Item, PROOF_BYTES_MAX, Proof, RecordItem, TransactionItem};
pub use tree::{OtherLeaf, StateTree, StateTreeProof};
pub use verify::{EpochChain, ProofError, Verified, verify_proof, verify_proof_in};
